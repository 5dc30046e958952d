// SPDX-License-Identifier: GPL-2.0

//! Device memory and the address spaces that use it, one file per C interface.
//!
//! Data goes one way: a [`pagemap`] makes device folios, a [`migrate::Batch`] moves an address range
//! into or out of them, a [`mirror::Mirror`] tells a device where the pages of a process are.
//!
//! # Lock order
//!
//! 1. `mmap_lock` for reading
//! 2. the lock of a [`mirror::Mirror`]'s table (taken by invalidation below `mmap_lock`)
//! 3. folio locks: the core invalidates with one held, so that 2 may be taken below them; while 2 is held
//!    they are only ever *tried*
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

/// The order of a huge folio: that of a PMD. C: `HPAGE_PMD_ORDER`.
pub const HUGE_ORDER: u32 = bindings::HPAGE_PMD_ORDER;

/// Pages of a huge folio. C: `HPAGE_PMD_NR`.
pub const HUGE_PAGES: usize = 1 << HUGE_ORDER;

/// Bytes of a huge folio. C: `HPAGE_PMD_SIZE`.
pub const HUGE_SIZE: usize = HUGE_PAGES << PAGE_SHIFT;

/// How large a folio is. What is made here is one page or a huge one, and nothing between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// One page.
    Page,
    /// A huge one.
    Huge,
}

impl Size {
    /// Its order.
    pub const fn order(self) -> u32 {
        match self {
            Size::Page => 0,
            Size::Huge => HUGE_ORDER,
        }
    }

    /// Its pages.
    pub const fn pages(self) -> usize {
        1 << self.order()
    }
}
