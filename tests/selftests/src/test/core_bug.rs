// SPDX-License-Identifier: GPL-2.0

//! Bugs of the core that a driver cannot avoid, and how they show on a kernel without our patches.

use clap::ValueEnum;

use super::shown::Shown;

/// Which of the cases about bugs of the core are run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CoreBugs {
    /// Interleavings: one for each way of migration
    Sample,
    All,
}

#[derive(Clone, Copy)]
pub struct CoreBug {
    /// Its id in docs/defects.md.
    pub id: &'static str,
    /// How it shows, if it shows in the same way each time.
    pub shown: Option<Shown>,
}

impl CoreBug {
    /// Zapping the migration entry of a huge device folio removes its mapping and its reference a second time. That
    /// frees the folio, which is locked for its migration. `__migrate_device_finalize()` then waits for ever for
    /// the lock of the folio's LRU list.
    pub const ZAPPED_TWICE: CoreBug = CoreBug {
        id: "K12",
        shown: Some(
            Shown::breaks(&["BUG: soft lockup"]).append("softlockup_panic=1 watchdog_thresh=3"),
        ),
    };

    /// The same bug if another process maps the folio: the case hangs until it is killed, and then its memory
    /// counters are wrong.
    pub const ZAPPED_TWICE_HANGS: CoreBug = CoreBug {
        shown: Some(Shown::breaks(&["BUG: Bad rss-counter"])),
        ..CoreBug::ZAPPED_TWICE
    };

    /// The same bug if the migration does not put the folio on a list: the case ends and all data are right, but
    /// from then on the kernel's counters of mapped pages are wrong.
    pub const ZAPPED_TWICE_MISCOUNTED: CoreBug = CoreBug {
        shown: Some(Shown::warns(&["vmstat_refresh: nr_anon_pages -"])),
        ..CoreBug::ZAPPED_TWICE
    };

    /// The same bug in cases where the kernel does not crash each time, or fails in different ways.
    pub const ZAPPED_TWICE_BY_LUCK: CoreBug = CoreBug {
        shown: None,
        ..CoreBug::ZAPPED_TWICE
    };

    /// `munmap()` during an eviction frees the anon_vma that `remove_migration_ptes()` walks later. Only KASAN
    /// sees that, unless the memory was zeroed or reused.
    pub const WALKED_LATER: CoreBug = CoreBug {
        id: "K13",
        shown: Some(
            Shown::breaks(&["BUG: kernel NULL pointer dereference"]).append("init_on_free=1"),
        ),
    };
}
