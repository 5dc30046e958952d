// SPDX-License-Identifier: GPL-2.0

//! Device memory, migration, and mirrors of address spaces, one file per C interface.
//!
//! A [`pagemap`] allocates device folios, a [`migrate::Batch`] migrates an address range to such folios or back, and a
//! [`mirror::Mirror`] tells a device where the pages of a process are.
//!
//! # Lock order
//!
//! 1. `mmap_lock` for reading
//! 2. the lock of a [`mirror::Mirror`]'s table (taken by invalidation below `mmap_lock`)
//! 3. folio locks, which are only *tried* while 2 is held: the core invalidates with a folio locked, so that 2 may
//!    also be taken below them
//! 4. the spinlock of a [`pagemap::Pagemap`] (taken below page table locks, interrupts off)

pub mod backing;
mod bounds;
pub mod evict;
pub mod exclusive;
pub mod fault;
pub mod folio;
pub mod gate;
pub mod hmm;
pub mod interval;
pub mod leave;
pub mod lock;
pub mod mapped;
pub mod migrate;
pub mod mirror;
pub mod mpfn;
pub mod pagemap;
pub mod shrinker;
pub mod slots;
pub mod system;
pub mod table;
#[cfg(CONFIG_KUNIT = "y")]
pub mod testing;
pub mod tlb;
pub mod user;

use super::bindings;
use kernel::page::PAGE_SHIFT;

/// The order of a huge folio, which is that of a PMD. C: `HPAGE_PMD_ORDER`.
pub const HUGE_ORDER: u32 = bindings::HPAGE_PMD_ORDER;

/// The number of pages of a huge folio. C: `HPAGE_PMD_NR`.
pub const HUGE_PAGES: usize = 1 << HUGE_ORDER;

/// The number of bytes of a huge folio. C: `HPAGE_PMD_SIZE`.
pub const HUGE_SIZE: usize = HUGE_PAGES << PAGE_SHIFT;

/// The size of a folio. Only these two sizes are allocated here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// One page.
    Page,
    /// A huge page.
    Huge,
}

impl Size {
    /// Returns its order.
    pub const fn order(self) -> u32 {
        match self {
            Size::Page => 0,
            Size::Huge => HUGE_ORDER,
        }
    }

    /// Returns the number of its pages.
    pub const fn pages(self) -> usize {
        1 << self.order()
    }
}
