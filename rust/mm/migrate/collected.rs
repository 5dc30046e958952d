// SPDX-License-Identifier: GPL-2.0

//! Collected sources, which are locked and unmapped, and the destinations that are given to them.

use super::{
    committed::{
        Committed,
        Outcome, //
    },
    entries::Arrays,
    setup::{
        By,
        Setup, //
    },
    source::Source, //
};
use crate::layer::mm::{
    bindings,
    folio::{
        Counts,
        LockedFolio, //
    },
    lock::Vma,
    mpfn::Mpfn,
    pagemap::DeviceFolio,
    system::SystemFolio,
    Size,
    HUGE_PAGES, //
};
use core::ptr::NonNull;
use kernel::types::NotThreadSafe;

/// What an entry has after setup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A huge folio, anonymous, that is collected whole. The following entries belong to it.
    Huge {
        /// Whether it is mapped writable. An anonymous folio then is mapped by one process only.
        exclusive: bool,
    },
    /// A hole of the size of a huge page: nothing is mapped, or the huge zero page.
    HugeHole,
    /// One page, anonymous.
    Page,
    /// A hole of one page: nothing is mapped, or the zero page.
    Hole,
    /// No entry to migrate: it was not collected, its page must not leave system memory (see
    /// [`super::super::leave`]), or it is part of a huge entry.
    Skipped,
}

impl Kind {
    /// Returns the size of a destination for the whole entry.
    pub fn size(self) -> Size {
        match self {
            Kind::Huge { .. } | Kind::HugeHole => Size::Huge,
            Kind::Page | Kind::Hole | Kind::Skipped => Size::Page,
        }
    }
}

/// A destination: a new folio, locked and filled.
pub enum Destination {
    /// A folio of device memory.
    Device(DeviceFolio),
    /// A folio of system memory.
    System(SystemFolio),
}

impl Destination {
    fn size(&self) -> Size {
        match self {
            Destination::Device(folio) => folio.size(),
            Destination::System(folio) => folio.size(),
        }
    }

    /// Returns the page frame number of its first page.
    fn pfn(&self) -> usize {
        match self {
            Destination::Device(folio) => folio.pfn(),
            Destination::System(folio) => folio.pfn(),
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
/// - The entries of `src` are as the core left them at setup.
/// - Each entry of `dst` is empty or a locked folio that this value owns, of an order that its
///   source allows.
/// - `setup` has the arguments that the core was called with. What they refer to still exists, unchanged.
#[must_use = "dropping it puts every page back"]
pub struct Collected<'a> {
    arrays: Arrays<'a>,
    setup: &'a mut Setup,
    // `mmap_lock` is held, and must be released by the thread that took it.
    _nts: NotThreadSafe,
}

impl<'a> Collected<'a> {
    /// # Safety
    ///
    /// The entries must be as the core left them at setup, without destinations. `setup` must have the arguments of
    /// that call; what they refer to must stay for `'a`.
    pub(super) unsafe fn new(mut arrays: Arrays<'a>, setup: &'a mut Setup) -> Self {
        arrays.keep(setup.keeps);
        setup.head = kind(arrays.before(0));
        // INVARIANT: By the requirements of this function.
        Collected {
            arrays,
            setup,
            _nts: NotThreadSafe,
        }
    }

    /// Returns the number of entries, one per page.
    pub fn len(&self) -> usize {
        self.arrays.len()
    }

    /// Returns whether there are no entries. There always are; clippy asks for this beside `len`.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn before(&self, index: usize) -> Mpfn {
        self.arrays.before(index)
    }

    pub(super) fn src(&self, index: usize) -> Mpfn {
        self.arrays.src(index)
    }

    pub(super) fn dst(&self, index: usize) -> Mpfn {
        self.arrays.dst(index)
    }

    /// Returns what the entry has. Beyond the last entry, [`Kind::Skipped`].
    pub fn kind(&self, index: usize) -> Kind {
        kind(self.before(index))
    }

    /// Returns the source of the entry, if it has one: a page, or the whole folio of a huge entry.
    pub fn source(&self, index: usize) -> Option<Source<'_>> {
        self.entry(index).1
    }

    /// Returns [`Collected::kind`] and [`Collected::source`] together.
    #[inline]
    pub fn entry(&self, index: usize) -> (Kind, Option<Source<'_>>) {
        let before = self.before(index);
        let kind = kind(before);
        let nr = match kind {
            Kind::Huge { .. } => HUGE_PAGES,
            Kind::Page => 1,
            Kind::HugeHole | Kind::Hole | Kind::Skipped => return (kind, None),
        };
        // SAFETY: It was locked and referenced at setup, and stays so until finalize, which does not
        // run before `self` is dropped. A source that goes to a device was selected as system memory.
        let source = |pfn| unsafe { Source::new(pfn, nr, self.setup.to_device) };
        (kind, before.pfn().map(source))
    }

    /// Returns the counts of the entry's destination, if it has one.
    pub fn destination_counts(&self, index: usize) -> Option<Counts> {
        let pfn = self.dst(index).pfn()?;
        // SAFETY: By the type invariants, the entry owns a reference on the folio.
        Some(unsafe { Counts::read(bindings::rust_dmirror_pfn_folio(pfn)) })
    }

    /// Gives a filled destination to an entry.
    ///
    /// A huge entry takes one huge folio, or single pages for all its entries, which asks the core to split the source
    /// while it migrates it. The core splits the mapping of this process only, so single pages are accepted only if
    /// no other process maps the source (K3 in docs/defects.md). They are not accepted in a CPU fault, whose reference
    /// makes the split fail (K4), nor without a VMA (K6).
    ///
    /// # Errors
    ///
    /// Returns the destination if the entry cannot take it.
    pub fn give(
        &mut self,
        index: usize,
        destination: Destination,
    ) -> core::result::Result<(), Destination> {
        let is_free = index < self.len() && self.dst(index) == Mpfn::EMPTY;
        let is_right = matches!(destination, Destination::Device(_)) == self.setup.to_device;
        if !is_free || !is_right || !self.takes(index, destination.size()) {
            return Err(destination);
        }
        let is_small = destination.size() == Size::Page;
        if is_small && self.is_hole(index) {
            self.setup.filled += 1;
        }
        self.put(index, destination);
        Ok(())
    }

    /// Returns whether the entry is a hole, or a part of a huge one.
    fn is_hole(&self, index: usize) -> bool {
        self.setup.head == Kind::HugeHole || self.kind(index) == Kind::Hole
    }

    /// Returns whether an entry can take a destination of a size.
    fn takes(&self, index: usize, size: Size) -> bool {
        match (self.kind(index), size) {
            (Kind::Page, Size::Page) | (Kind::Huge { .. }, Size::Huge) => true,
            // A hole is filled on the way to a device only: there is no data in it to bring back.
            (Kind::Hole, Size::Page) | (Kind::HugeHole, Size::Huge) => self.setup.to_device,
            // These are part of a huge entry, or the first entry is not huge, which `may_split` checks.
            (Kind::Huge { .. } | Kind::HugeHole | Kind::Skipped, Size::Page) => self.may_split(),
            (Kind::Page | Kind::Hole | Kind::Skipped, Size::Huge) => false,
        }
    }

    /// Returns the outcome of a hole without a destination. Only on the way to a device can it have one.
    pub(super) fn unfilled(&self) -> Outcome {
        match self.setup.to_device {
            true => Outcome::NotGiven,
            false => Outcome::Empty,
        }
    }

    /// Returns whether the core may be asked to split the huge source of the first entry.
    fn may_split(&self) -> bool {
        self.setup.by == By::Address
            && match self.setup.head {
                Kind::Huge { exclusive } => exclusive,
                Kind::HugeHole => self.setup.to_device,
                Kind::Page | Kind::Hole | Kind::Skipped => false,
            }
    }

    /// Makes the core split the mapping, but not the folio, in a CPU fault on a huge entry. The next faults are then
    /// on single pages.
    ///
    /// A destination of one page is what asks the core for it. The core splits the mapping, then refuses to split the
    /// folio, because the fault holds a reference (K4 in docs/defects.md). `page` is never used as a destination.
    ///
    /// # Errors
    ///
    /// Returns the page if this is no CPU fault on a huge entry, or if the entry has a destination.
    pub fn split_mapping(&mut self, page: SystemFolio) -> core::result::Result<(), SystemFolio> {
        // If another folio has been mapped since the fault, the fault holds no reference on it. Its split could
        // succeed, but would split the mapping of this process only (K3).
        let is_huge = matches!(self.setup.head, Kind::Huge { .. });
        let is_free = self.dst(0) == Mpfn::EMPTY;
        if !is_huge || !is_free || !self.is_faulting() || page.size() != Size::Page {
            return Err(page);
        }
        self.put(0, Destination::System(page));
        Ok(())
    }

    /// Returns whether the first entry is the folio of the CPU fault that is being handled.
    fn is_faulting(&self) -> bool {
        let page = self.setup.args.fault_page;
        if self.setup.by != By::Fault {
            return false;
        }
        // SAFETY: The page is that of a fault that is being handled, which holds a reference on it.
        let pfn =
            unsafe { bindings::rust_dmirror_folio_pfn(bindings::rust_dmirror_page_folio(page)) };
        self.before(0).pfn() == Some(pfn)
    }

    fn put(&mut self, index: usize, destination: Destination) {
        let Some(entry) = self.arrays.dst_mut(index) else {
            return;
        };
        let compound = destination.size() == Size::Huge;
        *entry = Mpfn::destination(destination.pfn(), compound).as_raw();
        // INVARIANT: The folio is locked, and the entry owns it from here on.
        let _ = destination.into_locked().into_raw();
    }

    /// Takes the destination of an entry back and frees it.
    fn take_back(&mut self, index: usize) {
        let entry = self.arrays.dst_mut(index).map(core::mem::take);
        if let Some(pfn) = entry.and_then(|entry| Mpfn::from_raw(entry).pfn()) {
            // SAFETY: By the type invariants, the entry owned the locked folio, whose first page
            // this is; it is empty now.
            drop(unsafe { owned_folio(pfn) });
        }
    }

    /// Takes all destinations back and frees them.
    fn take_all_back(&mut self) {
        for index in 0..self.len() {
            self.take_back(index);
        }
    }

    /// Takes single pages that were given to holes back, as many as the process's cgroup cannot be charged for. Sleeps.
    fn spare_cgroup(&mut self) {
        // SAFETY: By the type invariants, it is the VMA that was given at setup, and `mmap_lock` has been held
        // since. There is a VMA: holes are collected by address only.
        let room = unsafe { Vma::from_raw(self.setup.args.vma) }.room_for(self.setup.filled);
        for index in (0..self.len()).rev() {
            if self.setup.filled <= room {
                return;
            }
            if self.dst(index) != Mpfn::EMPTY && self.is_hole(index) {
                self.take_back(index);
                self.setup.filled -= 1;
            }
        }
    }

    /// Migrates the entries that have a destination. C: `migrate_vma_pages()` or `migrate_device_pages()`. Sleeps.
    pub fn commit(mut self) -> Committed<'a> {
        if self.setup.filled > 0 {
            self.spare_cgroup();
        }
        let all_given = |this: &Self| (0..this.len()).all(|index| this.dst(index) != Mpfn::EMPTY);
        if self.setup.head == Kind::HugeHole && !self.dst(0).compound() && !all_given(&self) {
            // The core fills a huge hole with single pages without checking that each entry has a destination.
            self.take_all_back();
        }
        let (src, dst) = self.arrays.as_mut_ptrs();
        let len = self.len();
        if self.setup.by == By::Device {
            // SAFETY: The arrays are as `migrate_device_pfns()` left them, with destinations.
            unsafe { bindings::migrate_device_pages(src, dst, len) };
        } else {
            let args = &mut self.setup.args;
            (args.src, args.dst) = (src, dst);
            // SAFETY: As at setup: by the type invariants, what the arguments refer to still exists,
            // unchanged.
            unsafe { bindings::migrate_vma_pages(args) };
        }
        // SAFETY: The core has just seen the destinations.
        unsafe { Committed::new(self) }
    }

    /// # Safety
    ///
    /// The core must have seen every destination, or there must be none. `self` must not be used afterwards.
    pub(super) unsafe fn finalize(&mut self) {
        let (src, dst) = self.arrays.as_mut_ptrs();
        let len = self.len();
        if self.setup.by == By::Device {
            // SAFETY: By the requirements of this function.
            unsafe { bindings::migrate_device_finalize(src, dst, len) };
        } else {
            let args = &mut self.setup.args;
            (args.src, args.dst) = (src, dst);
            // SAFETY: By the requirements of this function.
            unsafe { bindings::migrate_vma_finalize(args) };
        }
    }
}

impl Drop for Collected<'_> {
    fn drop(&mut self) {
        self.take_all_back();
        // SAFETY: All destinations have just been taken back.
        unsafe { self.finalize() };
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
/// `pfn` must be the first page of a folio whose lock and one reference belong to the caller. They are passed to the
/// returned value.
unsafe fn owned_folio(pfn: usize) -> Option<LockedFolio> {
    // SAFETY: The folio is in use by the requirements of this function.
    let raw = NonNull::new(unsafe { bindings::rust_dmirror_pfn_folio(pfn) })?;
    // SAFETY: By the requirements of this function.
    Some(unsafe { LockedFolio::from_raw(raw) })
}
