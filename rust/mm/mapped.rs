// SPDX-License-Identifier: GPL-2.0

//! What a device may do with the pages of a process while the table of its mirror is locked.
//!
//! What the table says is mapped *is* mapped for as long as the lock is held (see [`super::mirror`]),
//! so that pages can be reached without a reference. They are reached in runs: pages that follow each
//! other in memory, within one huge page of it, so that all of a run is memory of one kind, and of one
//! device.

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

/// How a page may be used by the device, beside being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Not at all.
    Read,
    /// It may be written.
    Write,
    /// The device alone may use it: C `make_device_exclusive()`.
    Exclusive,
}

const PFN_BITS: u32 = 60;

/// The words of neighbours in memory differ by one, as the table wants it.
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

/// The table of a mirror, locked: what it says is mapped stays mapped.
///
/// # Invariants
///
/// What a word of the table says is mapped is mapped, and stays that until the lock is released:
/// whatever changes it takes the word out first, for which it waits for the lock.
#[must_use = "dropping it unlocks the table"]
pub struct Locked<'a> {
    table: Guard<'a, Table, MutexBackend>,
}

impl<'a> Locked<'a> {
    pub(super) fn new(table: Guard<'a, Table, MutexBackend>) -> Self {
        Locked { table }
    }

    /// Whether what `hmm_range_fault()` answered for the first page of a huge page is true of all of it.
    pub(super) fn is_huge(first: usize) -> bool {
        let first = Pfn::from_raw(first);
        first.map_order() >= HUGE_ORDER && first.pfn().is_some()
    }

    /// Stores an answer of `hmm_range_fault()` for the pages from `start`, a huge boundary, on: as one
    /// huge mapping, of which the first entry tells, or page by page.
    ///
    /// A page that the table has as exclusive stays that: it was made so after the answer, by another thread of
    /// ours, which does not count as a change ([`super::mirror::Mirror::make_exclusive`]). Not so in a huge
    /// mapping: to make one of its pages exclusive, it is split, which does count.
    ///
    /// # Safety
    ///
    /// What was answered must be true since the table was locked, and any change of it go through
    /// invalidation that waits for the lock of this table.
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
    /// The page must be mapped at `address` for this device's exclusive use, and any change of that
    /// must go through invalidation that waits for the lock of this table.
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

    /// The page that is mapped at an address.
    pub fn page(&self, address: usize) -> Option<Mapped<'_>> {
        self.run(address, 1)
    }

    /// The pages from an address on that follow each other in memory and may be used alike, `most` of
    /// them at most, all within one huge page of memory.
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

    /// Asks nothing of the pages from `start` on that are exclusive to this device: they may be used as they
    /// are, and a fault would take that away. There is an entry for each page in `requests`.
    pub(super) fn spare_exclusive(&self, start: usize, requests: &mut [usize]) {
        for (at, request) in requests.iter_mut().enumerate() {
            let page = self.page(start + (at << PAGE_SHIFT));
            if page.is_some_and(|page| page.access() == Access::Exclusive) {
                *request = 0;
            }
        }
    }

    /// Forgets what is mapped at the addresses.
    pub fn forget(&mut self, range: Range<usize>) {
        self.table
            .clear((range.start >> PAGE_SHIFT)..(range.end >> PAGE_SHIFT));
    }
}

/// What is mapped at an address, while the table is locked.
///
/// # Invariants
///
/// The page is mapped in the mirrored address space and stays that for `'a`.
pub struct Seen<'a> {
    pfn: Pfn,
    _locked: PhantomData<&'a ()>,
}

impl<'a> Seen<'a> {
    /// # Safety
    ///
    /// What `hmm_range_fault()` answered must not have changed since, nor change for `'a`.
    pub(super) unsafe fn new(pfn: Pfn) -> Self {
        // INVARIANT: By the requirements of this function.
        Seen {
            pfn,
            _locked: PhantomData,
        }
    }

    /// The answer of `hmm_range_fault()`.
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// The page, if there is one.
    pub fn page(&self) -> Option<Mapped<'a>> {
        // INVARIANT: By our own invariants.
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
/// The `nr` pages from `pfn` on, within one huge page of memory and one at least, are mapped in the
/// mirrored address space and stay that for `'a`.
pub struct Mapped<'a> {
    pfn: usize,
    nr: usize,
    access: Access,
    _locked: PhantomData<&'a ()>,
}

impl<'a> Mapped<'a> {
    /// The page frame number of the first.
    pub fn pfn(&self) -> usize {
        self.pfn
    }

    /// How many they are.
    pub fn pages(&self) -> usize {
        self.nr
    }

    /// How the device may use them.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Whether the first is the zero page, or part of the huge one.
    pub fn is_zero(&self) -> bool {
        // SAFETY: By the type invariants, the page is mapped, so it has a `struct page` in use.
        unsafe { bindings::rust_dmirror_is_zero_pfn(self.pfn) }
    }

    /// The counts of the first one's folio. They include no reference of ours.
    pub fn counts(&self) -> super::folio::Counts {
        // SAFETY: By the type invariants, the page is mapped, which holds a reference on its folio.
        unsafe { super::folio::Counts::read(bindings::rust_dmirror_pfn_folio(self.pfn)) }
    }

    /// Whether memory of a device may take the first one's place, if it is of system memory.
    pub fn may_leave(&self) -> bool {
        // SAFETY: By the type invariants, the page is mapped, which holds a reference on its folio.
        unsafe { bindings::rust_dmirror_pfn_may_leave(self.pfn) }
    }

    /// Whether KSM shares the first among whoever had the same contents. C: `folio_test_ksm()`.
    pub fn is_merged(&self) -> bool {
        // SAFETY: As above.
        unsafe { bindings::rust_dmirror_pfn_is_ksm(self.pfn) }
    }

    /// A reference on the first one's folio, if it may be had.
    pub fn folio(&self) -> Option<super::folio::Folio> {
        // SAFETY: The page has a `struct page`.
        unsafe { super::folio::Folio::try_get_pfn(self.pfn) }
    }

    /// What kind of memory they are.
    pub fn memory(&self) -> Memory {
        // SAFETY: By the type invariants, the page is mapped, which holds a reference on its folio.
        match unsafe { bindings::rust_dmirror_pfn_memory(self.pfn) } {
            bindings::MEMORY_PRIVATE => Memory::Private,
            bindings::MEMORY_COHERENT => Memory::Coherent,
            _ => Memory::System,
        }
    }

    /// Where the first is, as the device with this owner sees it.
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

    /// The pagemap they belong to and the number of the first there, if they are memory of a device of
    /// this driver.
    pub fn device<T: Driver>(&self) -> Option<(&'a Pagemap<T>, usize)> {
        // SAFETY: By the type invariants, the page is mapped, which holds a reference.
        unsafe { Pagemap::of_pfn(self.pfn) }
    }

    /// Copies them to user memory, page `at` of it and on. For memory that the CPU can reach. Does not
    /// fault.
    ///
    /// # Errors
    ///
    /// `EFAULT` if one of the pages of user memory is not there, or must not be written: then some may
    /// have been copied. `ENXIO` if the kernel has no address for one of ours, as for `memfd_secret`.
    /// `EINVAL` if this is private memory of a device, or longer.
    pub fn copy_to_user(&self, to: &UserPages, at: usize) -> Result {
        if self.memory() == Memory::Private {
            return Err(EINVAL);
        }
        let to = to.part(at, self.nr)?;
        // SAFETY: By the type invariants, the pages are mapped; the CPU can reach them. Others may
        // write to them meanwhile, as with any memory of user space.
        to_result(unsafe { bindings::rust_dmirror_pages_to_user(to, self.pfn, self.nr) })
    }

    /// Copies user memory in, from page `at` of it on, and marks the pages dirty. For memory that the
    /// CPU can reach. Does not fault.
    ///
    /// # Errors
    ///
    /// `EPERM` if the pages may not be written; otherwise as [`Mapped::copy_to_user`].
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
        // A copy that failed may have written a part.
        self.mark_dirty();
        to_result(errno)
    }

    /// Tells the kernel that the device wrote to them. Whoever writes behind private pages owes this,
    /// after the write and before the table is unlocked: the kernel sees no access of a device, and
    /// drops what it takes for clean, such as a page after `MADV_FREE`, or one that is still in swap.
    /// A private page takes the mark home with it. C: `folio_mark_dirty()`.
    pub fn mark_dirty(&self) {
        // SAFETY: By the type invariants, the pages are mapped. While they are, they are not
        // truncated, and their folios are not split: both unmap first.
        unsafe { bindings::rust_dmirror_mark_dirty(self.pfn, self.nr) };
    }
}

/// Where a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In system memory.
    System,
    /// It is the zero page, or part of the huge one.
    Zero,
    /// In private memory of a device.
    Private {
        /// Of this one.
        is_own: bool,
    },
    /// In coherent memory of a device.
    Coherent {
        /// Of this one.
        is_own: bool,
    },
}

/// Kinds of memory, by who can reach it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// The kernel's own.
    System,
    /// Of a device, which the CPU cannot reach.
    Private,
    /// Of a device, which the CPU can reach.
    Coherent,
}
