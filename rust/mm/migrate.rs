// SPDX-License-Identifier: GPL-2.0

//! Migration of a range of addresses into device memory, or out of it.
//!
//! The protocol of C, as types: [`Batch::setup`] gives [`Collected`]: the sources are locked,
//! unmapped, and stay so. Entries are [given](Collected::give) locked destinations, which the batch
//! then owns. [`Collected::commit`] gives [`Committed`], which tells what became of each entry.
//! Dropping that finalizes. Dropping a [`Collected`] takes every destination back and finalizes, so
//! nothing migrates. There is no other way to finalize, hence none that leaves a destination set
//! without having migrated (K1).
//!
//! C header: [`include/linux/migrate.h`](srctree/include/linux/migrate.h)

use super::{
    backing::Backing,
    bindings,
    fault::Fault,
    folio::{
        Counts,
        Folio,
        LockedFolio,
        SystemFolio, //
    },
    mpfn::Mpfn,
    pagemap::{
        DeviceFolio,
        OwnerId, //
    },
    HUGE_PAGES,
    HUGE_SIZE, //
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    mm::virt::VmaRef,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    types::NotThreadSafe, //
};

/// Which pages to migrate. C: `enum migrate_vma_direction`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Select {
    /// Pages of system memory, to a device.
    System,
    /// Pages of private memory of the device with the owner that is given.
    DevicePrivate,
    /// Pages of its coherent memory.
    DeviceCoherent,
}

/// The arrays that a migration works on. To be made once and used again.
///
/// They are twice as long as the largest migration: while page tables are freed under it, the core
/// may collect a range twice (K9).
pub struct Batch {
    pub(super) src: KVVec<usize>,
    pub(super) dst: KVVec<usize>,
    /// `src` as it was after setup, to tell afterwards what became of it.
    before: KVVec<usize>,
}

impl Batch {
    /// May sleep.
    pub fn new() -> Result<Self> {
        let array = || KVVec::from_elem(0, 2 * HUGE_PAGES, GFP_KERNEL);
        Ok(Batch {
            src: array()?,
            dst: array()?,
            before: array()?,
        })
    }

    /// Collects, locks and unmaps the pages at `range`. C: `migrate_vma_setup()`. Sleeps.
    ///
    /// `range` must be within `vma` and within one huge page. With `compound`, huge folios are
    /// collected whole; without, the core splits them first, in every process that maps them.
    /// `fault` is the CPU fault on private memory that is being handled, if this is for one: its
    /// folio is locked already.
    ///
    /// Pages that are pinned, locked or of another kind are left alone; that is no error.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a bad range, or a VMA that cannot be migrated (hugetlbfs, DAX, special ones);
    /// `EAGAIN` if the page tables changed meanwhile.
    pub fn setup<'a>(
        &'a mut self,
        vma: &'a VmaRef,
        range: Range<usize>,
        select: Select,
        compound: bool,
        owner: OwnerId,
        fault: Option<&'a Fault<'a>>,
    ) -> Result<Collected<'a>> {
        let is_good = range.start < range.end
            && range.start % PAGE_SIZE == 0
            && range.end % PAGE_SIZE == 0
            && range.start / HUGE_SIZE == (range.end - 1) / HUGE_SIZE;
        if !is_good {
            return Err(EINVAL);
        }
        let mut flags = match select {
            Select::System => bindings::MIGRATE_VMA_SELECT_SYSTEM,
            Select::DevicePrivate => bindings::MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
            Select::DeviceCoherent => bindings::MIGRATE_VMA_SELECT_DEVICE_COHERENT,
        };
        if compound {
            flags |= bindings::MIGRATE_VMA_SELECT_COMPOUND;
        }
        let npages = (range.end - range.start) >> PAGE_SHIFT;
        let mut args = bindings::migrate_vma {
            vma: vma.as_ptr(),
            dst: self.dst.as_mut_ptr(),
            src: self.src.as_mut_ptr(),
            cpages: 0,
            npages: 0,
            start: range.start,
            end: range.end,
            pgmap_owner: owner.as_raw(),
            flags,
            fault_page: fault.map_or(core::ptr::null_mut(), Fault::page),
        };
        // SAFETY: The VMA is read-locked by the invariants of `VmaRef`, for as long as `'a`; the
        // arrays have room for twice the pages.
        to_result(unsafe { bindings::migrate_vma_setup(&mut args) })?;
        let collected = args.npages;
        // INVARIANT: The core has set up `collected` entries, and no destinations.
        let this = Collected {
            len: npages.min(collected),
            to_device: select == Select::System,
            via: Via::Vma(args, fault.is_some()),
            batch: self,
            _nts: NotThreadSafe,
        };
        if collected != npages {
            // Dropping it puts everything back.
            return Err(EAGAIN);
        }
        this.batch.before[..npages].copy_from_slice(&this.batch.src[..npages]);
        Ok(this)
    }

    /// Takes over what `migrate_device_pfns()` has collected in `src[..len]`.
    pub(super) fn collected_by_device(&mut self, len: usize) -> Collected<'_> {
        self.dst[..len].fill(0);
        self.before[..len].copy_from_slice(&self.src[..len]);
        // INVARIANT: The core has set up `len` entries, and there are no destinations.
        Collected {
            len,
            to_device: false,
            via: Via::Device,
            batch: self,
            _nts: NotThreadSafe,
        }
    }
}

enum Via {
    /// By address; and whether inside a CPU fault.
    Vma(bindings::migrate_vma, bool),
    /// By device page.
    Device,
}

/// What an entry is, after setup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A whole huge folio; the following entries belong to it.
    Huge {
        /// Mapped writable, hence by one process only.
        exclusive: bool,
    },
    /// A huge page's worth of nothing: unmapped, or the huge zero page.
    HugeHole,
    /// One page.
    Page,
    /// Nothing, or the zero page.
    Hole,
    /// Nothing to be done: not collected, or part of a huge entry.
    Skipped,
}

/// A destination: a new folio that has been filled.
pub enum Destination {
    /// Of device memory.
    Device(DeviceFolio),
    /// Of system memory.
    System(SystemFolio),
}

impl Destination {
    fn is_huge(&self) -> bool {
        match self {
            Destination::Device(folio) => folio.is_huge(),
            Destination::System(folio) => folio.is_huge(),
        }
    }

    fn into_locked(self) -> LockedFolio {
        match self {
            Destination::Device(folio) => folio.into_locked(),
            Destination::System(folio) => folio.into_locked(),
        }
    }
}

/// Sources that are locked and unmapped, and the destinations that were given to them.
///
/// # Invariants
///
/// - The first `len` entries of the batch's `src` are as the core left them at setup.
/// - Each entry of `dst` is empty or a locked folio that this value owns, of an order that its
///   source allows.
#[must_use = "dropping it puts every page back"]
pub struct Collected<'a> {
    batch: &'a mut Batch,
    len: usize,
    to_device: bool,
    via: Via,
    // Folio locks are released by the thread that took them.
    _nts: NotThreadSafe,
}

impl<'a> Collected<'a> {
    /// Entries, one per page.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none; never, but a `len` wants it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether this is inside a CPU fault, which holds one more reference on its folio.
    pub fn in_fault(&self) -> bool {
        matches!(self.via, Via::Vma(_, true))
    }

    fn before(&self, index: usize) -> Mpfn {
        Mpfn::from_raw(self.batch.before[..self.len][index])
    }

    /// What the entry is.
    pub fn kind(&self, index: usize) -> Kind {
        kind(self.before(index))
    }

    /// The page of the entry, if it has one: for a huge entry, the whole folio.
    pub fn source(&self, index: usize) -> Option<Source<'_>> {
        let nr = match self.kind(index) {
            Kind::Huge { .. } => HUGE_PAGES,
            Kind::Page => 1,
            _ => return None,
        };
        // INVARIANT: It was locked and referenced at setup, and stays so until finalize.
        Some(Source {
            pfn: self.before(index).pfn()?,
            nr,
            _collected: PhantomData,
        })
    }

    /// Gives a destination, which must have been filled, to an entry.
    ///
    /// A huge entry takes a huge folio, or small ones page by page, which asks the core to split the
    /// source while it migrates. It does that in this process only, so that just a source that no
    /// other maps may be split so (K3), and never inside a CPU fault, whose reference would refuse
    /// the split (K4), nor without a VMA (K6).
    ///
    /// # Errors
    ///
    /// The destination comes back if the entry cannot take it.
    pub fn give(
        &mut self,
        index: usize,
        destination: Destination,
    ) -> core::result::Result<(), Destination> {
        let huge = destination.is_huge();
        let by_address = matches!(self.via, Via::Vma(_, false));
        let is_kind_right = matches!(destination, Destination::Device(_)) == self.to_device;
        let is_order_right = index < self.len
            && match (self.kind(0), self.kind(index)) {
                // The entries behind a huge one follow it.
                (Kind::Huge { exclusive }, _) if !huge => by_address && exclusive,
                (Kind::HugeHole, _) if !huge => by_address,
                (_, Kind::Huge { .. } | Kind::HugeHole) => huge,
                (_, Kind::Page | Kind::Hole) => !huge,
                (_, Kind::Skipped) => false,
            };
        let is_hole = index < self.len && matches!(self.kind(index), Kind::Hole | Kind::HugeHole);
        // A hole is filled by address, which eviction has none of; nothing comes out of one.
        if !is_kind_right || !is_order_right || (is_hole && !self.to_device) {
            return Err(destination);
        }
        if self.batch.dst[index] != 0 {
            return Err(destination);
        }
        self.put(index, destination, huge);
        Ok(())
    }

    /// Inside a CPU fault on a huge entry: has the mapping, not the folio, split, so that the next
    /// faults are of single pages. `page` only serves as the sign for it; the folio's split is
    /// always refused, because the fault holds a reference (K4).
    ///
    /// # Errors
    ///
    /// The page comes back if this is anything else.
    pub fn split_mapping(&mut self, page: SystemFolio) -> core::result::Result<(), SystemFolio> {
        let is_huge = self.len > 0 && matches!(self.kind(0), Kind::Huge { .. });
        if !self.in_fault() || !is_huge || page.is_huge() || self.batch.dst[0] != 0 {
            return Err(page);
        }
        self.put(0, Destination::System(page), false);
        Ok(())
    }

    fn put(&mut self, index: usize, destination: Destination, compound: bool) {
        // The entries behind a huge one have no flags of their own.
        let writable = self.before(index).writable() || self.before(0).writable();
        let folio = destination.into_locked();
        let pfn = folio.counts().pfn;
        // INVARIANT: The folio is locked, and the entry owns it from here on.
        let _ = folio.into_raw();
        self.batch.dst[index] = Mpfn::destination(pfn, writable, compound).as_raw();
    }

    /// Takes the destination of an entry back and frees it.
    fn take_back(&mut self, index: usize) {
        let entry = core::mem::take(&mut self.batch.dst[index]);
        if let Some(pfn) = Mpfn::from_raw(entry).pfn() {
            // SAFETY: By the type invariants, the entry owned the locked folio, whose first page
            // this is; it is empty now.
            drop(unsafe { owned_folio(pfn) });
        }
    }

    /// Takes all destinations back.
    fn take_all_back(&mut self) {
        for index in 0..self.len {
            self.take_back(index);
        }
    }

    /// Migrates every entry that has a destination. C: `migrate_vma_pages()` or
    /// `migrate_device_pages()`. Sleeps.
    pub fn commit(mut self) -> Committed<'a> {
        let all_given = |this: &Self| this.batch.dst[..this.len].iter().all(|dst| *dst != 0);
        let is_huge_given = Mpfn::from_raw(self.batch.dst[0]).compound();
        if self.kind(0) == Kind::HugeHole && !is_huge_given && !all_given(&self) {
            // The core fills a huge hole page by page without looking whether there is one.
            self.take_all_back();
        }
        match &mut self.via {
            // SAFETY: As at setup: nothing that it refers to has gone or changed.
            Via::Vma(args, _) => unsafe { bindings::migrate_vma_pages(args) },
            // SAFETY: The arrays are as `migrate_device_pfns()` left them, with destinations.
            Via::Device => unsafe {
                bindings::migrate_device_pages(
                    self.batch.src.as_mut_ptr(),
                    self.batch.dst.as_mut_ptr(),
                    self.len,
                )
            },
        }
        // INVARIANT: The core has seen the destinations. From here on they are its own.
        Committed(ManuallyDrop::new(self))
    }

    fn finalize(&mut self) {
        match &mut self.via {
            // SAFETY: By the type invariants of the callers, either the core has seen every
            // destination in `migrate_vma_pages()`, or there is none.
            Via::Vma(args, _) => unsafe { bindings::migrate_vma_finalize(args) },
            // SAFETY: As above.
            Via::Device => unsafe {
                bindings::migrate_device_finalize(
                    self.batch.src.as_mut_ptr(),
                    self.batch.dst.as_mut_ptr(),
                    self.len,
                )
            },
        }
    }
}

impl Drop for Collected<'_> {
    fn drop(&mut self) {
        self.take_all_back();
        self.finalize();
    }
}

fn kind(before: Mpfn) -> Kind {
    match (before.migrates(), before.pfn(), before.compound()) {
        (false, _, _) => Kind::Skipped,
        (true, Some(_), true) => Kind::Huge {
            exclusive: before.writable(),
        },
        (true, Some(_), false) => Kind::Page,
        (true, None, true) => Kind::HugeHole,
        (true, None, false) => Kind::Hole,
    }
}

/// # Safety
///
/// `pfn` must be the first page of a folio whose lock and one reference belong to the caller, who
/// gives them up.
unsafe fn owned_folio(pfn: usize) -> Option<LockedFolio> {
    // SAFETY: The folio is in use by the requirements of this function.
    let raw = NonNull::new(unsafe { bindings::rust_dmirror_pfn_folio(pfn) })?;
    // SAFETY: By the requirements of this function.
    Some(unsafe { LockedFolio::from_raw(raw) })
}

/// The folio, or page, of an entry while it is collected.
///
/// # Invariants
///
/// It is locked, referenced and unmapped for `'a`.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pfn: usize,
    nr: usize,
    _collected: PhantomData<&'a ()>,
}

impl<'a> Source<'a> {
    /// The number of its first page.
    pub fn pfn(&self) -> usize {
        self.pfn
    }

    /// Its pages.
    pub fn pages(&self) -> usize {
        self.nr
    }

    /// One page of it.
    pub fn page(&self, at: usize) -> Option<Source<'a>> {
        // INVARIANT: A part of what is locked and referenced.
        (at < self.nr).then_some(Source {
            pfn: self.pfn + at,
            nr: 1,
            _collected: PhantomData,
        })
    }

    /// The counts of its folio.
    pub fn counts(&self) -> Counts {
        // SAFETY: By the type invariants, the folio is referenced.
        unsafe { Counts::read(bindings::rust_dmirror_pfn_folio(self.pfn)) }
    }

    /// Another reference on its folio. While it is held, the core refuses to split or migrate it.
    pub fn hold(&self) -> Option<Folio> {
        // SAFETY: It has a `struct page`.
        unsafe { Folio::try_get_pfn(self.pfn) }
    }

    /// Copies system memory to device memory, to page `first` and on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if this is private memory, or `to` has not as many pages from there on.
    pub fn copy_to(&self, to: &Backing, first: usize) -> Result {
        if self.counts().device_private {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariants, the pages are in use; they are not private memory, so the
        // CPU can read them.
        unsafe { to.fill_from_pfns(first, self.pfn, self.nr) }
    }

    /// Copies to as many pages that the CPU can reach and the caller owns.
    pub(super) fn copy_to_pfns(&self, to: Range<usize>) -> Result {
        if to.len() != self.nr || self.counts().device_private {
            return Err(EINVAL);
        }
        // SAFETY: As above, and the caller owns the pages.
        unsafe { bindings::rust_dmirror_copy_pages(to.start, self.pfn, self.nr) };
        Ok(())
    }
}

/// What became of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A huge folio, or hole, migrated as one.
    Whole,
    /// A page of a huge folio, or hole, that was split for it, migrated.
    Split,
    /// A small page migrated.
    Small,
    /// The core could not split the huge folio: somebody holds a reference.
    SplitRefused,
    /// It had a destination, and the core withdrew it.
    Refused,
    /// It had no destination.
    NotGiven,
    /// There was nothing, and nothing was made.
    Empty,
    /// It was not collected.
    NotCollected,
}

impl Outcome {
    /// Whether the page is at its destination now.
    pub fn is_migrated(self) -> bool {
        matches!(self, Outcome::Whole | Outcome::Split | Outcome::Small)
    }
}

/// Entries that have been migrated, or not; source and destination are still locked.
///
/// # Invariants
///
/// The core has seen the destinations; they belong to it.
#[must_use = "what became of the pages has to be looked at"]
pub struct Committed<'a>(ManuallyDrop<Collected<'a>>);

impl Committed<'_> {
    /// Entries, one per page.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether there are none; never, but a `len` wants it.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Calls `tell` for every entry in order, with its number, pages, and what became of it.
    pub fn outcomes(&self, mut tell: impl FnMut(usize, usize, Outcome)) {
        let this = &*self.0;
        let mut index = 0;
        while index < this.len {
            let (nr, outcome) = match this.kind(index) {
                Kind::Huge { .. } | Kind::HugeHole => match self.huge(index) {
                    Some(outcome) => (HUGE_PAGES.min(this.len - index), outcome),
                    None => {
                        // It was split: each page has an outcome of its own.
                        for at in index..this.len.min(index + HUGE_PAGES) {
                            tell(at, 1, self.single(at, Outcome::Split));
                        }
                        index += HUGE_PAGES;
                        continue;
                    }
                },
                Kind::Page => (1, self.single(index, Outcome::Small)),
                Kind::Hole if this.batch.dst[index] == 0 => (1, Outcome::Empty),
                Kind::Hole => (1, self.single(index, Outcome::Small)),
                Kind::Skipped => (1, Outcome::NotCollected),
            };
            tell(index, nr, outcome);
            index += nr;
        }
    }

    fn src(&self, index: usize) -> Mpfn {
        Mpfn::from_raw(self.0.batch.src[index])
    }

    fn dst(&self, index: usize) -> Mpfn {
        Mpfn::from_raw(self.0.batch.dst[index])
    }

    /// What became of a huge entry as one; `None` if it was split.
    fn huge(&self, index: usize) -> Option<Outcome> {
        let (src, dst) = (self.src(index), self.dst(index));
        let is_hole = self.0.kind(index) == Kind::HugeHole;
        if dst.compound() {
            return Some(match src.migrates() {
                true => Outcome::Whole,
                false => Outcome::Refused,
            });
        }
        if dst.pfn().is_none() {
            return Some(match is_hole {
                true => Outcome::Empty,
                false => Outcome::NotGiven,
            });
        }
        if is_hole {
            return None;
        }
        // Small destinations: after a split, the following entries have pages of their own.
        let is_split = self.src(index + 1).pfn().is_some();
        (!is_split).then_some(Outcome::SplitRefused)
    }

    fn single(&self, index: usize, migrated: Outcome) -> Outcome {
        match (self.src(index).migrates(), self.dst(index).pfn()) {
            (true, Some(_)) => migrated,
            (_, None) => Outcome::NotGiven,
            (false, Some(_)) => Outcome::Refused,
        }
    }

    /// The counts of the entry's source, if it has one.
    pub fn source_counts(&self, index: usize) -> Option<Counts> {
        let pfn = self.src(index).pfn().or(self.0.before(index).pfn())?;
        // SAFETY: The source is locked and referenced until finalize.
        Some(unsafe { Counts::read(bindings::rust_dmirror_pfn_folio(pfn)) })
    }

    /// The counts of the entry's destination, if it has one.
    pub fn destination_counts(&self, index: usize) -> Option<Counts> {
        let pfn = self.dst(index).pfn()?;
        // SAFETY: The destination is locked and referenced until finalize.
        Some(unsafe { Counts::read(bindings::rust_dmirror_pfn_folio(pfn)) })
    }

    /// A reference on the entry's source that outlives this, if it has one.
    pub fn hold_source(&self, index: usize) -> Option<Folio> {
        let pfn = self.src(index).pfn()?;
        // SAFETY: It has a `struct page`.
        unsafe { Folio::try_get_pfn(pfn) }
    }

    /// A reference on the entry's destination that outlives this, if it has one.
    pub fn hold_destination(&self, index: usize) -> Option<Folio> {
        let pfn = self.dst(index).pfn()?;
        // SAFETY: It has a `struct page`.
        unsafe { Folio::try_get_pfn(pfn) }
    }
}

impl Drop for Committed<'_> {
    /// Maps what migrated at its destination, and the rest where it was. C:
    /// `migrate_vma_finalize()` or `migrate_device_finalize()`.
    fn drop(&mut self) {
        self.0.finalize();
    }
}
