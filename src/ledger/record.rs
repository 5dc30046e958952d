// SPDX-License-Identifier: GPL-2.0

//! A record of the ledger: the counts of a folio at a stage of a migration. Pure.

use crate::{
    layer::mm::folio::Counts,
    trace, //
};
use core::fmt;

/// Where pages go, and at whose request. The numbers are those of `show_dmirror_direction()`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Direction {
    /// To the device.
    ToDevice = 0,
    /// Back, on request.
    ToSystem = 1,
    /// Back, by a CPU fault.
    Fault = 2,
    /// Back, by eviction.
    Evict = 3,
}

impl Direction {
    /// Its name in tables and traces.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Direction::ToDevice => "to-device",
            Direction::ToSystem => "to-system",
            Direction::Fault => "fault",
            Direction::Evict => "evict",
        }
    }
}

/// Where in a migration a folio is. The numbers are those of `show_dmirror_stage()`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Stage {
    /// The source, after setup.
    Setup = 0,
    /// The destination, filled.
    Filled = 1,
    /// The source, after pages.
    PagesSource = 2,
    /// The destination, after pages.
    PagesDestination = 3,
    /// What is mapped after finalize: others may hold it again, so that nothing is exact.
    Final = 4,
}

impl Stage {
    /// Its name in tables and traces.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stage::Setup => "setup",
            Stage::Filled => "filled",
            Stage::PagesSource => "pages-src",
            Stage::PagesDestination => "pages-dst",
            Stage::Final => "final",
        }
    }

    /// Whether the count of references is known there, to the last one.
    pub(crate) fn is_exact(self) -> bool {
        self != Stage::Final
    }
}

/// What was seen of a folio at a stage.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    /// Which stage.
    pub(crate) stage: Stage,
    /// The number of the device.
    pub(crate) device: usize,
    /// Where to.
    pub(crate) direction: Direction,
    /// The folio's counts.
    pub(crate) counts: Counts,
    /// References that are held beyond those that the kernel expects.
    pub(crate) held: i32,
}

impl Record {
    /// References beyond those that there should be, as far as that can be known. Below zero are too
    /// few, which nobody who only looks at the folio can be the cause of.
    pub(crate) fn surplus(&self) -> i32 {
        match self.stage.is_exact() {
            true => self.counts.refs - (self.counts.expected + self.held),
            false => 0,
        }
    }

    /// Whether the count is what it should be.
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
