// SPDX-License-Identifier: GPL-2.0

//! Bugs of the core that no driver can avoid, and how they show on a kernel without our patches.

use clap::ValueEnum;

use super::shown::Shown;

#[derive(Clone, Copy)]
pub struct CoreBug {
    /// Its number in the project's list of defects.
    pub id: &'static str,
    /// How it shows; nothing where that is luck.
    pub shown: Option<Shown>,
}

impl CoreBug {
    /// A migration entry of a huge device folio is zapped: its mapping and its reference are given up a
    /// second time. The folio is freed that is locked for its migration, and `__migrate_device_finalize()`
    /// waits for the lock of its LRU list for ever.
    pub const ZAPPED_TWICE: CoreBug = CoreBug {
        id: "K12",
        shown: Some(
            Shown::breaks(&["BUG: soft lockup"]).append("softlockup_panic=1 watchdog_thresh=3"),
        ),
    };

    /// The same, where threads that race must meet for it.
    pub const ZAPPED_TWICE_BY_LUCK: CoreBug = CoreBug {
        shown: None,
        ..CoreBug::ZAPPED_TWICE
    };

    /// A page is unmapped while it is evicted: its anon_vma is freed, and walked when the page is mapped
    /// again. Only KASAN sees that, unless the memory is used for something else, or zeroed.
    pub const WALKED_LATER: CoreBug = CoreBug {
        id: "K13",
        shown: Some(
            Shown::breaks(&["BUG: kernel NULL pointer dereference"]).append("init_on_free=1"),
        ),
    };
}

/// How many of the cases that meet a bug of the core.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CoreBugs {
    /// Interleavings: one for each way of migration
    Sample,
    All,
}
