// SPDX-License-Identifier: GPL-2.0

//! Access to the pages of a process while the table of its mirror is locked.
//!
//! While the lock is held, a page that the table maps *is* mapped in the process (see [`super::mirror`]), so it can be
//! accessed without a reference. Pages are accessed in runs: consecutive page frames within one huge page. All pages of
//! a run therefore are memory of one type and of one device.

use super::{
    bindings,
    hmm::Pfn,
    pagemap::{
        Driver,
        OwnerId,
        Pagemap, //
    },
    table::{
        Spare,
        Table,
        Word, //
    },
    user::UserPages,
    HUGE_ORDER,
    HUGE_PAGES, //
};
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::{
    error::to_result,
    page::PAGE_SHIFT,
    prelude::*,
    sync::lock::{
        mutex::MutexBackend,
        Guard, //
    }, //
};

/// The access that a device has to a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// It may read.
    Read,
    /// It may read and write.
    Write,
    /// It may read and write, and the CPU may not access the page. C: `make_device_exclusive()`.
    Exclusive,
}

const PFN_BITS: u32 = 60;

/// Packs a mapping into a word. The words of consecutive page frames differ by one, as the table requires.
fn pack(pfn: usize, access: Access) -> Option<Word> {
    let access = match access {
        Access::Read => 1,
        Access::Write => 2,
        Access::Exclusive => 3,
    };
    Word::new((access << PFN_BITS) | (pfn & ((1 << PFN_BITS) - 1)))
}

fn unpack(word: Word) -> (usize, Access) {
    let access = match word.get() >> PFN_BITS {
        2 => Access::Write,
        3 => Access::Exclusive,
        _ => Access::Read,
    };
    (word.get() & ((1 << PFN_BITS) - 1), access)
}

fn access_of(pfn: Pfn) -> Access {
    match pfn.writable() {
        true => Access::Write,
        false => Access::Read,
    }
}

/// The locked table of a mirror. Pages that it maps stay mapped.
///
/// # Invariants
///
/// A page that the table maps is mapped in the process, and stays mapped until the lock is released: any change of the
/// mapping first removes the entry, which waits for the lock.
#[must_use = "dropping it unlocks the table"]
pub struct Locked<'a> {
    table: Guard<'a, Table, MutexBackend>,
}

impl<'a> Locked<'a> {
    pub(super) fn new(table: Guard<'a, Table, MutexBackend>) -> Self {
        Locked { table }
    }

    /// Returns whether an answer of `hmm_range_fault()` for the first page of a huge page holds for all its pages.
    pub(super) fn is_huge(first: usize) -> bool {
        let first = Pfn::from_raw(first);
        first.map_order() >= HUGE_ORDER && first.pfn().is_some()
    }

    /// Stores an answer of `hmm_range_fault()` for the pages from `start`, a huge boundary, on. If `is_huge`, the first
    /// entry is stored as a huge mapping; otherwise the entries are stored page by page.
    ///
    /// A page that the table maps as exclusive stays exclusive: another thread has made it so since the answer
    /// ([`super::mirror::Mirror::make_exclusive`]), which does not make the answer stale. In a huge mapping there is no
    /// such page, since making it exclusive splits the mapping, which does make the answer stale.
    ///
    /// # Safety
    ///
    /// The answer must be valid since the table was locked, and any change of these mappings must invalidate them
    /// first, which waits for the lock of this table.
    pub(super) unsafe fn store(
        &mut self,
        start: usize,
        pfns: &[usize],
        is_huge: bool,
        spare: &mut Option<Spare>,
    ) -> Result {
        let first = start >> PAGE_SHIFT;
        let whole = Pfn::from_raw(pfns[0]);
        if is_huge {
            if let Some(word) = whole.pfn().and_then(|pfn| pack(pfn, access_of(whole))) {
                return self.table.set_huge(first, word, spare);
            }
        }
        let word = |raw: &usize| {
            let pfn = Pfn::from_raw(*raw);
            pfn.pfn().and_then(|number| pack(number, access_of(pfn)))
        };
        let is_exclusive = |word| unpack(word).1 == Access::Exclusive;
        self.table
            .set_all(first, pfns.iter().map(word), is_exclusive, spare)
    }

    /// # Safety
    ///
    /// The page must be mapped at `address`, exclusive to this device. Any change of that must invalidate it first,
    /// which waits for the lock of this table.
    pub(super) unsafe fn store_exclusive(
        &mut self,
        address: usize,
        pfn: usize,
        spare: &mut Option<Spare>,
    ) -> Result {
        let word = pack(pfn, Access::Exclusive).ok_or(EINVAL)?;
        self.table.set_all(
            address >> PAGE_SHIFT,
            [Some(word)].into_iter(),
            |_| false,
            spare,
        )
    }

    /// Returns the page that is mapped at an address.
    pub fn page(&self, address: usize) -> Option<Mapped<'_>> {
        self.run(address, 1)
    }

    /// Returns the run of up to `most` pages from an address on: consecutive page frames with the same access,
    /// within one huge page of physical memory.
    pub fn run(&self, address: usize, most: usize) -> Option<Mapped<'_>> {
        let hit = self.table.run(address >> PAGE_SHIFT, most)?;
        let (pfn, access) = unpack(hit.word);
        let pfn = pfn + hit.offset;
        // INVARIANT: The table is locked for as long as `self` is borrowed.
        Some(Mapped {
            pfn,
            nr: hit.nr.min(HUGE_PAGES - pfn % HUGE_PAGES),
            access,
            _locked: PhantomData,
        })
    }

    /// Clears the requests for pages from `start` on that are exclusive to this device. The device can access them, and
    /// a fault would end the exclusive access. `requests` has an entry for each page.
    pub(super) fn spare_exclusive(&self, start: usize, requests: &mut [usize]) {
        for (at, request) in requests.iter_mut().enumerate() {
            let page = self.page(start + (at << PAGE_SHIFT));
            if page.is_some_and(|page| page.access() == Access::Exclusive) {
                *request = 0;
            }
        }
    }

    /// Removes the entries of a range of addresses from the table.
    pub fn forget(&mut self, range: Range<usize>) {
        self.table
            .clear((range.start >> PAGE_SHIFT)..(range.end >> PAGE_SHIFT));
    }
}

/// A mapping of an address, while the table is locked.
///
/// # Invariants
///
/// The page, if there is one, is mapped in the mirrored address space and stays mapped for `'a`.
pub struct Seen<'a> {
    pfn: Pfn,
    _locked: PhantomData<&'a ()>,
}

impl<'a> Seen<'a> {
    /// # Safety
    ///
    /// The mapping must not have changed since `hmm_range_fault()` answered, nor change during `'a`.
    pub(super) unsafe fn new(pfn: Pfn) -> Self {
        // INVARIANT: By the requirements of this function.
        Seen {
            pfn,
            _locked: PhantomData,
        }
    }

    /// Returns the answer of `hmm_range_fault()`.
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// Returns the page, if one is mapped.
    pub fn page(&self) -> Option<Mapped<'a>> {
        // INVARIANT: By the invariants of `Seen`.
        Some(Mapped {
            pfn: self.pfn.pfn()?,
            nr: 1,
            access: access_of(self.pfn),
            _locked: PhantomData,
        })
    }
}

/// Pages that are mapped, while the table is locked.
///
/// # Invariants
///
/// The `nr` pages from `pfn` on are mapped in the mirrored address space and stay mapped for `'a`. There is at
/// least one, and all are within one huge page of physical memory.
pub struct Mapped<'a> {
    pfn: usize,
    nr: usize,
    access: Access,
    _locked: PhantomData<&'a ()>,
}

impl<'a> Mapped<'a> {
    /// Returns the page frame number of the first page.
    pub fn pfn(&self) -> usize {
        self.pfn
    }

    /// Returns the number of pages.
    pub fn pages(&self) -> usize {
        self.nr
    }

    /// Returns the access that the device has to them.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Returns whether the first page is the zero page, or part of the huge zero page.
    pub fn is_zero(&self) -> bool {
        // SAFETY: By the type invariants, the page is mapped, so it has a `struct page` in use.
        unsafe { bindings::rust_dmirror_is_zero_pfn(self.pfn) }
    }

    /// Returns the counts of the first page's folio. They include no reference of ours.
    pub fn counts(&self) -> super::folio::Counts {
        // SAFETY: By the type invariants, the page is mapped, which holds a reference on its folio.
        unsafe { super::folio::Counts::read(bindings::rust_dmirror_pfn_folio(self.pfn)) }
    }

    /// Returns whether the first page may be migrated to a device, if it is system memory.
    pub fn may_leave(&self) -> bool {
        // SAFETY: By the type invariants, the page is mapped, which holds a reference on its folio.
        unsafe { bindings::rust_dmirror_pfn_may_leave(self.pfn) }
    }

    /// Returns whether the first page is one that KSM has merged. C: `folio_test_ksm()`.
    pub fn is_merged(&self) -> bool {
        // SAFETY: As above.
        unsafe { bindings::rust_dmirror_pfn_is_ksm(self.pfn) }
    }

    /// Takes a reference on the first page's folio, if that is possible.
    pub fn folio(&self) -> Option<super::folio::Folio> {
        // SAFETY: The page has a `struct page`.
        unsafe { super::folio::Folio::try_get_pfn(self.pfn) }
    }

    /// Returns the type of their memory.
    pub fn memory(&self) -> Memory {
        // SAFETY: By the type invariants, the page is mapped, which holds a reference on its folio.
        match unsafe { bindings::rust_dmirror_pfn_memory(self.pfn) } {
            bindings::MEMORY_PRIVATE => Memory::Private,
            bindings::MEMORY_COHERENT => Memory::Coherent,
            _ => Memory::System,
        }
    }

    /// Returns where the first page is, from the view of the device with this owner.
    pub fn place(&self, owner: OwnerId) -> Place {
        let write = self.access != Access::Read;
        // SAFETY: By the type invariants, the page is mapped, which holds a reference on its folio.
        let raw = unsafe { bindings::rust_dmirror_pfn_place(self.pfn, owner.as_raw(), write) };
        let is_own = raw & bindings::RUST_DMIRROR_PLACE_OWN != 0;
        match raw & bindings::RUST_DMIRROR_PLACE_MEMORY {
            bindings::MEMORY_PRIVATE => Place::Private { is_own },
            bindings::MEMORY_COHERENT => Place::Coherent { is_own },
            _ if raw & bindings::RUST_DMIRROR_PLACE_ZERO != 0 => Place::Zero,
            _ => Place::System,
        }
    }

    /// Returns their pagemap and the index of the first page in it, if they are device memory of this driver.
    pub fn device<T: Driver>(&self) -> Option<(&'a Pagemap<T>, usize)> {
        // SAFETY: By the type invariants, the page is mapped, which holds a reference.
        unsafe { Pagemap::of_pfn(self.pfn) }
    }

    /// Copies them to user memory, from its page `at` on, if the CPU can reach them. Does not fault.
    ///
    /// # Errors
    ///
    /// `EFAULT` if user memory is not present or may not be written; a part may have been copied. `ENXIO` if a page
    /// is not in the kernel's direct map, as for `memfd_secret`. `EINVAL` if the pages are private memory of a
    /// device, or if user memory has fewer pages.
    pub fn copy_to_user(&self, to: &UserPages, at: usize) -> Result {
        if self.memory() == Memory::Private {
            return Err(EINVAL);
        }
        let to = to.part(at, self.nr)?;
        // SAFETY: By the type invariants, the pages are mapped, and the CPU can reach them. They may be written
        // concurrently, as any memory of user space.
        to_result(unsafe { bindings::rust_dmirror_pages_to_user(to, self.pfn, self.nr) })
    }

    /// Copies user memory, from its page `at` on, to the pages, if the CPU can reach them, and marks them dirty.
    /// Does not fault.
    ///
    /// # Errors
    ///
    /// `EPERM` if the device may not write the pages; otherwise as [`Mapped::copy_to_user`].
    pub fn copy_from_user(&self, from: &UserPages, at: usize) -> Result {
        if self.access != Access::Write {
            return Err(EPERM);
        }
        if self.memory() == Memory::Private {
            return Err(EINVAL);
        }
        let from = from.part(at, self.nr)?;
        // SAFETY: As above, and the pages are mapped writable.
        let errno = unsafe { bindings::rust_dmirror_pages_from_user(self.pfn, from, self.nr) };
        // Also after an error: a part may have been written.
        self.mark_dirty();
        to_result(errno)
    }

    /// Marks the pages dirty. C: `folio_mark_dirty()`.
    ///
    /// Must be called after a device write to private pages, before the table is unlocked. The kernel does not see
    /// device writes, and drops clean pages, for example after `MADV_FREE` or if they are still in swap. If a
    /// private page migrates back, its destination is marked as well.
    pub fn mark_dirty(&self) {
        // SAFETY: By the type invariants, the pages are mapped. While they are mapped, they are not truncated and
        // their folios are not split, since both unmap first.
        unsafe { bindings::rust_dmirror_mark_dirty(self.pfn, self.nr) };
    }
}

/// Where a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In system memory.
    System,
    /// The zero page, or a part of the huge zero page.
    Zero,
    /// In private memory of a device.
    Private {
        /// Whether it is this device.
        is_own: bool,
    },
    /// In coherent memory of a device.
    Coherent {
        /// Whether it is this device.
        is_own: bool,
    },
}

/// The type of memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// System memory.
    System,
    /// Private memory of a device, which the CPU cannot reach.
    Private,
    /// Coherent memory of a device, which the CPU can reach.
    Coherent,
}
