// SPDX-License-Identifier: GPL-2.0

//! The table: which cells there are, when an action has its effect, and which cells a kernel without
//! our fixes does not survive.

use super::{action::Action, way::Way};
use crate::{abi::Stage, test::core_bug::CoreBug};

/// When an action has its effect, measured once and pinned: a change of it is to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// While the migration is stopped.
    Inside,
    /// Not before the migration ends: a lock, or the page itself, excludes it.
    Waits,
    /// At once, and it ends the stop: the thread that migrates is killed.
    Ends,
    /// By chance.
    Varies,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub way: Way,
    pub stage: Stage,
    pub action: Action,
}

/// All cells, each with a number by which the Nth of them are spread over all ways, stages and actions.
pub fn cells() -> impl Iterator<Item = (usize, Cell)> {
    (0..).zip(Way::ALL).flat_map(|(w, way)| {
        (0..).zip(Action::ALL).flat_map(move |(a, action)| {
            (0..)
                .zip(Stage::ALL)
                .filter_map(move |(s, stage): (usize, _)| {
                    let cell = Cell { way, stage, action };
                    cell.exists().then_some((w + a + s, cell))
                })
        })
    })
}

impl Cell {
    pub fn name(&self) -> String {
        format!(
            "pause.{}.{}.{}",
            self.way.name(),
            self.stage.name(),
            self.action.name()
        )
    }

    fn exists(&self) -> bool {
        // It is being closed.
        !(self.way.closes() && self.action == Action::CloseSame)
    }

    /// When the action has its effect.
    pub fn when(&self) -> When {
        let Cell { way, stage, action } = *self;
        match action {
            _ if action.ends_process() => match way {
                Way::EvictRelease => When::Inside,
                _ => When::Ends,
            },
            // Eviction is by device page: it needs no mmap_lock.
            _ if action.changes_mappings() && !way.is_eviction() => When::Waits,
            _ if action.needs_page() => When::Waits,
            // It waits until no page is in use, for half a second.
            Action::Release if way.is_to_device() => match (way, stage) {
                (Way::ToDeviceNoMemory, _) | (_, Stage::Collected) => When::Inside,
                _ => When::Waits,
            },
            Action::Release => When::Waits,
            Action::CloseSame if way.is_fault() || way.is_eviction() => When::Waits,
            Action::Collapse => self.collapse(),
            _ => When::Inside,
        }
    }

    /// A PMD that is a migration entry counts as a huge page already; pages that are collected one by one
    /// are waited for, unless the mapping may have no huge page.
    fn collapse(&self) -> When {
        match (self.way, self.stage) {
            (Way::ToDevicePart | Way::ToSystemPart, _) => When::Waits,
            (Way::ToDeviceShared | Way::ToSystemShared, Stage::Collected) => When::Inside,
            (Way::ToDeviceShared | Way::ToSystemShared, _) => When::Waits,
            // While it migrates or before, depending on the kernel.
            (Way::ToDeviceSplit | Way::ToSystemSplit | Way::FaultSplit, _) => When::Varies,
            _ => When::Inside,
        }
    }

    /// Whether others fault on the pages while they move, evict or split them. Who collects pages, such as a fault
    /// that does so around its own, or the worker that splits for faults, takes a reference on each before it
    /// tries the lock (`migrate_vma_collect_pmd()`), so that a count may be too high for a moment.
    pub fn races(&self) -> bool {
        self.way.is_eviction()
            || matches!(self.way, Way::FaultSplit | Way::FaultMappedSmall)
            || matches!(
                self.action,
                Action::Release | Action::Fork | Action::Collapse
            )
            || self.action.needs_page()
    }

    /// How K12 shows, as measured on Debian's kernel. The second removal puts the reference that the migration relies on, so the
    /// folio is free where it goes on.
    fn zapped_twice(&self) -> CoreBug {
        match (self.way, self.stage) {
            // It is copied, and mapped or put on a list afterwards.
            (Way::EvictClose | Way::EvictRelease, Stage::Filled)
            | (Way::ToSystemWhole, Stage::Collected | Stage::Filled) => CoreBug::ZAPPED_TWICE,
            (Way::ToSystemShared, _) => CoreBug::ZAPPED_TWICE_HANGS,
            _ => CoreBug::ZAPPED_TWICE_MISCOUNTED,
        }
    }

    /// The bug of the core that the cell meets, and that the driver cannot avoid: K19, K20 and K24 it does.
    pub fn core_bug(&self) -> Option<CoreBug> {
        let Cell { way, stage, action } = *self;
        // Only where the process is not the one that migrates can its memory go meanwhile.
        let unmaps = way.is_eviction() && action == Action::UnmapAll
            || way == Way::EvictRelease && action.ends_process();
        // The migration entry is that of a huge device folio.
        let is_huge = match way {
            Way::ToSystemWhole | Way::FaultHuge | Way::EvictRelease | Way::EvictClose => true,
            // Later, the driver has collected the pages again, one by one, or a worker has split the folio.
            Way::ToSystemNoMemory | Way::ToSystemSplit => stage == Stage::Collected,
            Way::ToSystemShared | Way::FaultSplit => stage == Stage::Collected,
            _ => false,
        };
        let zaps_all = matches!(action, Action::ZapAll | Action::ZapTouch);
        match (is_huge, zaps_all || unmaps, unmaps) {
            (true, true, _) => Some(self.zapped_twice()),
            (_, _, true) => Some(CoreBug::WALKED_LATER),
            _ => None,
        }
    }
}
