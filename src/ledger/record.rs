// SPDX-License-Identifier: GPL-2.0

//! A record of the ledger: the counts of a folio at a stage of a migration. Pure.

use crate::{
    layer::mm::folio::Counts,
    trace, //
};
use core::fmt;

/// The direction and the cause of a migration. The numbers are those of `show_dmirror_direction()`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Direction {
    /// To the device, on request.
    ToDevice = 0,
    /// Back to system memory, on request.
    ToSystem = 1,
    /// Back to system memory, by a CPU fault.
    Fault = 2,
    /// Back to system memory, by eviction.
    Evict = 3,
}

impl Direction {
    /// Returns its name in tables and traces.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Direction::ToDevice => "to-device",
            Direction::ToSystem => "to-system",
            Direction::Fault => "fault",
            Direction::Evict => "evict",
        }
    }
}

/// The stage of a migration at which a folio is recorded. The numbers are those of `show_dmirror_stage()`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Stage {
    /// The source, after `migrate_vma_setup()`.
    Setup = 0,
    /// The destination, when it is filled and given.
    Filled = 1,
    /// The source, after `migrate_vma_pages()`.
    PagesSource = 2,
    /// The destination, after `migrate_vma_pages()`.
    PagesDestination = 3,
    /// The folio that is mapped after finalize. Others may hold references, so its counts are not exact.
    Final = 4,
}

impl Stage {
    /// Returns its name in tables and traces.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stage::Setup => "setup",
            Stage::Filled => "filled",
            Stage::PagesSource => "pages-src",
            Stage::PagesDestination => "pages-dst",
            Stage::Final => "final",
        }
    }

    /// Returns whether the exact number of references is known at this stage.
    pub(crate) fn is_exact(self) -> bool {
        self != Stage::Final
    }
}

/// The counts of a folio at a stage.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    /// The stage.
    pub(crate) stage: Stage,
    /// The number of the device.
    pub(crate) device: usize,
    /// The direction.
    pub(crate) direction: Direction,
    /// The folio's counts.
    pub(crate) counts: Counts,
    /// The references that are held in addition to those that the kernel expects.
    pub(crate) held: i32,
}

impl Record {
    /// Returns the number of references above the right number, or 0 if that is not known at this stage. Negative
    /// if there are too few, which cannot be caused by another task that holds a reference for a moment.
    pub(crate) fn surplus(&self) -> i32 {
        match self.stage.is_exact() {
            true => self.counts.refs - (self.counts.expected + self.held),
            false => 0,
        }
    }

    /// Returns whether the number of references is right.
    pub(crate) fn is_right(&self) -> bool {
        self.surplus() == 0
    }

    pub(super) fn for_trace(&self) -> trace::Record {
        trace::Record {
            pfn: self.counts.pfn,
            stage: self.stage as u32,
            direction: self.direction as u32,
            device: self.device as u32,
            order: self.counts.order,
            refs: self.counts.refs,
            mapcount: self.counts.mapcount,
            expected: self.counts.expected,
            held: self.held,
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            pfn,
            order,
            refs,
            mapcount,
            expected,
            ..
        } = self.counts;
        let (stage, direction) = (self.stage.name(), self.direction.name());
        let verdict = match self.is_right() {
            true => "ok",
            false => "MISMATCH",
        };
        write!(
            f,
            "{stage} {} {direction} {pfn} {order} {refs} {mapcount} {expected} {} {verdict}",
            self.device, self.held
        )
    }
}
