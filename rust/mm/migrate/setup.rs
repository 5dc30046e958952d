// SPDX-License-Identifier: GPL-2.0

//! The arguments of a migration in progress.
//!
//! They stay in the batch and are not moved from type to type with the protocol's steps: in a fault on a single page,
//! these copies would cost more than the copy of the page.

use super::collected::Kind;
use crate::layer::mm::{
    bindings,
    lock::Vma, //
};

/// Which of the core's interfaces collected the pages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// `migrate_vma_setup()`, by address.
    Address,
    /// `migrate_vma_setup()`, by address, in a CPU fault.
    Fault,
    /// `migrate_device_pfns()`, by device page.
    Device,
}

/// Which collected pages must stay in system memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    /// None: the sources are in device memory.
    Nothing,
    /// Pages that must not leave (see [`super::super::leave`]).
    Sources,
    /// These, and holes.
    SourcesAndHoles,
    /// All pages.
    All,
}

impl Keeps {
    /// Returns what a VMA keeps.
    pub(super) fn of(vma: Vma<'_>) -> Self {
        match (vma.may_leave(), vma.may_fill_holes()) {
            (false, _) => Keeps::All,
            (_, false) => Keeps::SourcesAndHoles,
            _ => Keeps::Sources,
        }
    }
}

/// The migration that a batch was used for last.
pub(super) struct Setup {
    /// The arguments of a migration by address.
    pub(super) args: bindings::migrate_vma,
    pub(super) by: By,
    /// Whether the sources are in system memory, and go to a device.
    pub(super) to_device: bool,
    /// Which entries get no destination.
    pub(super) keeps: Keeps,
    /// What the first entry has. Only the first may be huge.
    pub(super) head: Kind,
    /// The number of single pages that were given to holes.
    pub(super) filled: usize,
}

// SAFETY: What `args` points to is used by `Collected` only, which is bound to the thread and borrows
// the batch. Between two migrations nothing uses it.
unsafe impl Send for Setup {}

impl Default for Setup {
    /// Makes the setup of no migration.
    fn default() -> Self {
        Setup {
            args: bindings::migrate_vma {
                vma: core::ptr::null_mut(),
                dst: core::ptr::null_mut(),
                src: core::ptr::null_mut(),
                cpages: 0,
                npages: 0,
                start: 0,
                end: 0,
                pgmap_owner: core::ptr::null_mut(),
                flags: 0,
                fault_page: core::ptr::null_mut(),
            },
            by: By::Device,
            to_device: false,
            keeps: Keeps::Nothing,
            head: Kind::Skipped,
            filled: 0,
        }
    }
}

impl Setup {
    /// Begins another migration, of whose pages nothing is known yet.
    pub(super) fn begin(&mut self, by: By, to_device: bool) {
        self.by = by;
        self.to_device = to_device;
        self.keeps = Keeps::Nothing;
        self.head = Kind::Skipped;
        self.filled = 0;
    }
}
