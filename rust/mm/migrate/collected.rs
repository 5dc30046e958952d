// SPDX-License-Identifier: GPL-2.0

//! Sources that were collected, and the destinations that are given to them.

use super::{
    committed::Committed,
    source::Source,
    Batch, //
};
use crate::layer::mm::{
    bindings,
    folio::{
        Counts,
        LockedFolio,
        SystemFolio, //
    },
    mpfn::Mpfn,
    pagemap::DeviceFolio,
    HUGE_PAGES, //
};
use core::ptr::NonNull;
use kernel::types::NotThreadSafe;

/// By which half of the interface the pages were collected.
pub(super) enum Via {
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
    pub(super) batch: &'a mut Batch,
    pub(super) len: usize,
    to_device: bool,
    via: Via,
    // Folio locks are released by the thread that took them.
    _nts: NotThreadSafe,
}

impl<'a> Collected<'a> {
    /// The first `len` entries of `batch` must be as the core left them at setup, without
    /// destinations.
    pub(super) fn new(batch: &'a mut Batch, len: usize, to_device: bool, via: Via) -> Self {
        // INVARIANT: By the requirement of this function, which only this module's setup calls.
        Collected {
            batch,
            len,
            to_device,
            via,
            _nts: NotThreadSafe,
        }
    }

    /// Keeps what was collected, to be able to tell afterwards what became of it.
    pub(super) fn remember(self) -> Self {
        self.batch.before[..self.len].copy_from_slice(&self.batch.src[..self.len]);
        self
    }

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

    pub(super) fn before(&self, index: usize) -> Mpfn {
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
        // SAFETY: It was locked and referenced at setup, and stays so until finalize, which is not
        // before `self` goes.
        Some(unsafe { Source::new(self.before(index).pfn()?, nr) })
    }

    /// The counts of the entry's destination, if it has one.
    pub fn destination_counts(&self, index: usize) -> Option<Counts> {
        let pfn = Mpfn::from_raw(self.batch.dst[..self.len][index]).pfn()?;
        // SAFETY: By the type invariants, the entry owns a reference on the folio.
        Some(unsafe { Counts::read(bindings::rust_dmirror_pfn_folio(pfn)) })
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
        let pfn = folio.pfn();
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
        Committed::new(self)
    }

    pub(super) fn finalize(&mut self) {
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
