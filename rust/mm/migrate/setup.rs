// SPDX-License-Identifier: GPL-2.0

//! What the core was told of a migration that is going on.
//!
//! It stays in the batch, and not in what is handed from step to step: to copy it each time would cost
//! a fault on a single page more than the page's own copy.

use super::collected::Kind;
use crate::layer::mm::{
    bindings,
    lock::Vma, //
};

/// By which half of the interface pages were collected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// By address.
    Address,
    /// By address, inside a CPU fault.
    Fault,
    /// By device page.
    Device,
}

/// What stays in system memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    /// Nothing: it comes from there, or that is where it goes.
    Nothing,
    /// What must not leave.
    Sources,
    /// That, and holes.
    SourcesAndHoles,
    /// Everything.
    All,
}

impl Keeps {
    /// Of a VMA.
    pub(super) fn of(vma: Vma<'_>) -> Self {
        match (vma.may_leave(), vma.may_fill_holes()) {
            (false, _) => Keeps::All,
            (_, false) => Keeps::SourcesAndHoles,
            _ => Keeps::Sources,
        }
    }
}

/// The migration for which a batch was used last.
pub(super) struct Setup {
    /// Of a migration by address.
    pub(super) args: bindings::migrate_vma,
    pub(super) by: By,
    /// Whether the pages are of system memory, and go to a device.
    pub(super) to_device: bool,
    /// What of it gets no destination.
    pub(super) keeps: Keeps,
    /// What the first entry is: only that may be huge.
    pub(super) head: Kind,
    /// Small destinations that were given to holes.
    pub(super) filled: usize,
}

// SAFETY: What `args` points to is used by `Collected` only, which is bound to the thread and borrows
// the batch; between two migrations nobody looks at it.
unsafe impl Send for Setup {}

impl Default for Setup {
    /// Of nothing.
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
    /// Another migration; of its pages nothing is known yet.
    pub(super) fn begin(&mut self, by: By, to_device: bool) {
        self.by = by;
        self.to_device = to_device;
        self.keeps = Keeps::Nothing;
        self.head = Kind::Skipped;
        self.filled = 0;
    }
}
