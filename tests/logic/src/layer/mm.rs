// SPDX-License-Identifier: GPL-2.0

//! For `rust/mm/mod.rs`, and for the files beside it that touch the kernel.

#[path = "../../../../rust/mm/gate.rs"]
pub mod gate;
#[path = "../../../../rust/mm/hmm.rs"]
pub mod hmm;
#[path = "../../../../rust/mm/mpfn.rs"]
pub mod mpfn;
#[path = "../../../../rust/mm/slots.rs"]
pub mod slots;
#[path = "../../../../rust/mm/table.rs"]
pub mod table;

use kernel::page::PAGE_SHIFT;

/// The order of a huge folio.
pub const HUGE_ORDER: u32 = 9;

/// Pages of a huge folio.
pub const HUGE_PAGES: usize = 1 << HUGE_ORDER;

/// Bytes of a huge folio.
pub const HUGE_SIZE: usize = HUGE_PAGES << PAGE_SHIFT;

/// How large a folio is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// One page.
    Page,
    /// A huge one.
    Huge,
}

/// The constants of C, which the module has from bindgen: `include/linux/migrate.h`, `hmm.h`. That they
/// are these is what the suites of the files that use them check, inside the kernel.
mod bindings {
    pub const MIGRATE_PFN_VALID: usize = 1 << 0;
    pub const MIGRATE_PFN_MIGRATE: usize = 1 << 1;
    pub const MIGRATE_PFN_WRITE: usize = 1 << 3;
    pub const MIGRATE_PFN_COMPOUND: usize = 1 << 4;
    pub const MIGRATE_PFN_SHIFT: usize = 6;

    pub const HMM_PFN_WRITE: usize = 1 << 62;
    pub const HMM_PFN_ERROR: usize = 1 << 61;
    pub const HMM_PFN_REQ_WRITE: usize = HMM_PFN_WRITE;
    pub const HMM_PFN_ORDER_SHIFT: usize = 53;
}

/// For `rust/mm/folio.rs`.
pub mod folio {
    /// What can be read of a folio at one moment.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[allow(missing_docs)]
    pub struct Counts {
        pub pfn: usize,
        pub order: u32,
        pub refs: i32,
        pub mapcount: i32,
        pub expected: i32,
        pub locked: bool,
        pub lru: bool,
        pub anon: bool,
        pub device_private: bool,
        pub device_coherent: bool,
    }
}

/// For `rust/mm/lock.rs`.
pub mod lock {
    /// Whether the thread is being killed.
    pub fn fatal_signal_pending() -> bool {
        kernel::current!().signal_pending()
    }
}

/// For `rust/mm/migrate/`.
pub mod migrate {
    /// What became of an entry; `src/migrate/fates.rs` matches all of these, so that none can be missing.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[allow(missing_docs)]
    pub enum Outcome {
        Whole,
        Split,
        Small,
        SplitRefused,
        Refused,
        NotGiven,
        Empty,
        NotCollected,
    }
}
