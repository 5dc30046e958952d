// SPDX-License-Identifier: GPL-2.0

//! The table: which cells exist, when an action has its effect, and which cells meet a bug of a core without our fixes,
//! which such a kernel may not survive.

use super::{action::Action, way::Way};
use crate::{abi::Stage, test::core_bug::CoreBug};

/// When an action has its effect. Measured once and recorded here, so that a change is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// While the migration is stopped.
    Inside,
    /// After the migration: until then a lock, or the page itself, excludes it.
    Waits,
    /// At once, and the stop ends, since the thread that migrates is killed.
    Ends,
    /// While the migration is stopped or after it, depending on how the kernel lets the driver split.
    Varies,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub way: Way,
    pub stage: Stage,
    pub action: Action,
}

/// Returns all cells, each with a number. The cells whose number is a multiple of N are spread over all ways, stages
/// and actions.
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
        // On these ways, the file is being closed already.
        !(self.way.closes() && self.action == Action::CloseSame)
    }

    /// Returns when the action has its effect.
    pub fn when(&self) -> When {
        let Cell { way, stage, action } = *self;
        match action {
            _ if action.ends_process() => match way {
                Way::EvictRelease => When::Inside,
                _ => When::Ends,
            },
            // Eviction collects by device page, so it does not need mmap_lock.
            _ if action.changes_mappings() && !way.is_eviction() => When::Waits,
            _ if action.needs_page() => When::Waits,
            // RELEASE waits up to half a second until no device page is in use.
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

    /// Returns when MADV_COLLAPSE has its effect. It takes a PMD that is a migration entry for a huge page, and does
    /// not wait. It waits for pages that were collected one by one, unless the mapping may have no huge pages.
    fn collapse(&self) -> When {
        match (self.way, self.stage) {
            (Way::ToDevicePart | Way::ToSystemPart, _) => When::Waits,
            (Way::ToDeviceShared | Way::ToSystemShared, Stage::Collected) => When::Inside,
            (Way::ToDeviceShared | Way::ToSystemShared, _) => When::Waits,
            // The folio is split during or before the migration, depending on the kernel.
            (Way::ToDeviceSplit | Way::ToSystemSplit | Way::FaultSplit, _) => When::Varies,
            _ => When::Inside,
        }
    }

    /// Returns whether other threads fault on the pages while they migrate, or evict or split them.
    ///
    /// Code that collects pages takes a reference on each page before it tries the lock (`migrate_vma_collect_pmd()`),
    /// so a count may be too high for a moment. A fault may collect the pages around its own one, and the worker that
    /// splits folios for faults collects pages, too.
    pub fn races(&self) -> bool {
        self.way.is_eviction()
            || matches!(self.way, Way::FaultSplit | Way::FaultMappedSmall)
            || matches!(
                self.action,
                Action::Release | Action::Fork | Action::Collapse
            )
            || self.action.needs_page()
    }

    /// Returns how K12 (docs/defects.md) shows, as measured on Debian's kernel. The second removal of the mapping puts
    /// the reference that the migration relies on, so the folio is free when the migration continues.
    fn zapped_twice(&self) -> CoreBug {
        match (self.way, self.stage) {
            // The folio is copied, and afterwards mapped or put on a list.
            (Way::EvictClose | Way::EvictRelease, Stage::Filled)
            | (Way::ToSystemWhole, Stage::Collected | Stage::Filled) => CoreBug::ZAPPED_TWICE,
            (Way::ToSystemShared, _) => CoreBug::ZAPPED_TWICE_HANGS,
            _ => CoreBug::ZAPPED_TWICE_MISCOUNTED,
        }
    }

    /// Returns the bug of the core that the cell meets, if the driver cannot avoid it. It avoids K19, K20 and K24.
    pub fn core_bug(&self) -> Option<CoreBug> {
        let Cell { way, stage, action } = *self;
        // During a stop, memory can be unmapped only if the migration is an eviction, and the process can end only if
        // another one migrates.
        let unmaps = way.is_eviction() && action == Action::UnmapAll
            || way == Way::EvictRelease && action.ends_process();
        // Whether the migration entry is that of a huge device folio.
        let is_huge = match way {
            Way::ToSystemWhole | Way::FaultHuge | Way::EvictRelease | Way::EvictClose => true,
            // At later stages, the driver has collected the pages again, one by one, or a worker has split the folio.
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
