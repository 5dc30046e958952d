// SPDX-License-Identifier: GPL-2.0

//! Bugs of the core that no driver can avoid, and how they show on a kernel without our patches.

use clap::ValueEnum;

use super::shown::Shown;

/// How many of the cases about bugs of the core.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CoreBugs {
    /// Interleavings: one for each way of migration
    Sample,
    All,
}

#[derive(Clone, Copy)]
pub struct CoreBug {
    /// Its number in the project's list of defects.
    pub id: &'static str,
    /// How it shows, if it shows the same way each time.
    pub shown: Option<Shown>,
}

impl CoreBug {
    /// A zap of the migration entry of a huge device folio removes mapping and reference a second time. That
    /// frees the folio, which is locked for its migration. `__migrate_device_finalize()` then waits for the
    /// lock of the folio's LRU list for ever.
    pub const ZAPPED_TWICE: CoreBug = CoreBug {
        id: "K12",
        shown: Some(
            Shown::breaks(&["BUG: soft lockup"]).append("softlockup_panic=1 watchdog_thresh=3"),
        ),
    };

    /// The same bug where another process maps the folio: the case hangs until it is killed, and then the counters of
    /// its memory are wrong.
    pub const ZAPPED_TWICE_HANGS: CoreBug = CoreBug {
        shown: Some(Shown::breaks(&["BUG: Bad rss-counter"])),
        ..CoreBug::ZAPPED_TWICE
    };

    /// The same bug where the migration puts the folio on no list: it ends, everybody has the right data, and the
    /// kernel's counters of mapped pages are wrong from then on.
    pub const ZAPPED_TWICE_MISCOUNTED: CoreBug = CoreBug {
        shown: Some(Shown::warns(&["vmstat_refresh: nr_anon_pages -"])),
        ..CoreBug::ZAPPED_TWICE
    };

    /// The same bug in cases in which the kernel survives now and then, or fails in another way.
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
