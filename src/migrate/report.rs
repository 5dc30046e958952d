// SPDX-License-Identifier: GPL-2.0

//! The report of a migration on request. Pure.

use crate::{
    policy::fates::FateCounts,
    uapi, //
};

/// Nanoseconds in each phase.
#[derive(Clone, Copy, Default)]
pub(super) struct Times {
    /// `migrate_vma_setup()`.
    pub(super) setup: u64,
    /// Allocating and filling destinations.
    pub(super) copy: u64,
    /// `migrate_vma_pages()`.
    pub(super) pages: u64,
    /// `migrate_vma_finalize()`.
    pub(super) finalize: u64,
}

/// The report of a migration.
#[derive(Clone, Copy, Default)]
pub(crate) struct Report {
    /// Pages by outcome.
    pub(crate) counts: FateCounts,
    /// Attempts that were repeated because of a refusal.
    pub(super) retries: u64,
    pub(super) times: Times,
}

impl Report {
    /// Copies the report to the argument of the ioctl.
    pub(crate) fn tell(&self, arg: &mut uapi::Migrate) {
        arg.collected = self.counts.collected;
        arg.whole = self.counts.whole;
        arg.split = self.counts.split;
        arg.small = self.counts.small;
        arg.split_refused = self.counts.split_refused;
        arg.refused = self.counts.refused;
        arg.empty = self.counts.empty;
        arg.retries = self.retries;
        arg.ns_setup = self.times.setup;
        arg.ns_copy = self.times.copy;
        arg.ns_pages = self.times.pages;
        arg.ns_finalize = self.times.finalize;
    }
}
