// SPDX-License-Identifier: GPL-2.0

//! New folios of system memory, to be destinations of migrations, allocated one by one or many at a time.
//!
//! C headers: [`include/linux/gfp.h`](srctree/include/linux/gfp.h),
//! [`include/linux/mempolicy.h`](srctree/include/linux/mempolicy.h)

use super::{
    backing::Backing,
    bindings,
    fault::Fault,
    folio::{
        Folio,
        LockedFolio, //
    },
    lock::Beneficiary,
    migrate::Source,
    Size, //
};
use core::{
    ops::Range,
    ptr::NonNull, //
};
use kernel::prelude::*;

/// How hard the allocator tries to get a huge folio.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effort {
    /// It takes a free one only.
    AtHand,
    /// It may compact and reclaim memory, once.
    Compact,
}

/// A new locked folio of system memory that must be filled before it is used: it has the data of a previous user.
///
/// # Invariants
///
/// This value owns the lock and a reference, and nobody else accesses the contents. The folio has the size `size`, and
/// its first page has the page frame number `pfn`.
#[must_use = "dropping it frees the folio"]
pub struct Blank {
    folio: LockedFolio,
    pfn: usize,
    size: Size,
}

impl Blank {
    /// Allocates a folio for `address` in `vma`. C: `vma_alloc_folio()`.
    ///
    /// Does not invoke the OOM killer, and does not try hard for a huge folio: callers can go on without. May sleep.
    pub fn for_vma(vma: Beneficiary<'_>, address: usize, size: Size) -> Result<Self> {
        Self::alloc_for(vma, address, Self::gfp(size), size)
    }

    /// As [`Blank::for_vma`], for the address of a CPU fault. A single page is allocated as for any other CPU
    /// fault, which may invoke the OOM killer.
    pub fn for_fault(fault: &Fault<'_>, size: Size) -> Result<Self> {
        let gfp = match size {
            Size::Huge => Self::gfp(size),
            Size::Page => bindings::GFP_FAULT_DESTINATION,
        };
        Self::alloc_for(fault.beneficiary(), fault.range().start, gfp, size)
    }

    /// As [`Blank::for_vma`], without a VMA. C: `folio_alloc()`.
    pub fn anywhere(size: Size) -> Result<Self> {
        // SAFETY: Any flags and order may be asked for.
        let raw = unsafe { bindings::rust_dmirror_folio_alloc(Self::gfp(size), size.order()) };
        // SAFETY: The allocator returned a new folio of that order, if any.
        unsafe { Self::from_new(raw, size) }
    }

    /// Allocates a huge folio that is kept until it is needed. It is allocated as unmovable memory, because it
    /// cannot be migrated while it is kept. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if none can be allocated with this effort.
    pub fn to_keep(effort: Effort) -> Result<Self> {
        let gfp = match effort {
            Effort::AtHand => bindings::GFP_HUGE_AT_HAND,
            Effort::Compact => bindings::GFP_HUGE_TO_KEEP,
        };
        // SAFETY: Any flags and order may be asked for.
        let raw = unsafe { bindings::rust_dmirror_folio_alloc(gfp, Size::Huge.order()) };
        // SAFETY: The allocator returned a new huge folio, if any.
        unsafe { Self::from_new(raw, Size::Huge) }
    }

    /// Returns whether a kept folio may be used in place of a new one for `vma`: there is no memory policy, and the
    /// nearest node has no zone for movable memory.
    pub fn may_be_kept_for(vma: Beneficiary<'_>) -> bool {
        // SAFETY: The VMA is valid and read-locked by the invariants of `VmaRef`.
        unsafe { bindings::rust_dmirror_vma_takes_kept(vma.as_ptr()) }
    }

    /// Returns whether this kept folio may be used now: it is on the nearest node, and no page has a hardware error.
    pub fn is_fit(&self) -> bool {
        // SAFETY: We own the folio.
        unsafe { bindings::rust_dmirror_folio_is_fit(self.folio.as_raw()) }
    }

    fn gfp(size: Size) -> bindings::gfp_t {
        match size {
            Size::Huge => bindings::GFP_HUGE_DESTINATION,
            Size::Page => bindings::GFP_DESTINATION,
        }
    }

    fn alloc_for(
        vma: Beneficiary<'_>,
        address: usize,
        gfp: bindings::gfp_t,
        size: Size,
    ) -> Result<Self> {
        let order = size.order();
        // SAFETY: The VMA is valid and read-locked by the invariants of `VmaRef`.
        let raw =
            unsafe { bindings::rust_dmirror_vma_alloc_folio(gfp, order, vma.as_ptr(), address) };
        // SAFETY: The allocator returned a new folio of that order, if any.
        unsafe { Self::from_new(raw, size) }
    }

    /// # Safety
    ///
    /// `raw` must be null or a new folio of this size that nobody else uses. Its one reference is passed to the
    /// returned value.
    unsafe fn from_new(raw: *mut bindings::folio, size: Size) -> Result<Self> {
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        // SAFETY: By the requirements of this function.
        let folio = unsafe { Folio::from_raw(raw) };
        let folio = folio.try_lock().map_err(|_| EBUSY)?;
        let pfn = folio.pfn();
        // INVARIANT: The folio is new. Who finds it by its PFN takes a reference at most, and does not access the
        // contents.
        Ok(Blank { folio, pfn, size })
    }

    /// Returns the locked folio.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) fn folio(&self) -> &LockedFolio {
        &self.folio
    }

    pub(super) fn pfns(&self) -> Range<usize> {
        self.pfn..self.pfn + self.size.pages()
    }

    /// Fills it with the data of device memory, from page `first` of `from` on.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `from` has fewer pages from there on. The folio is freed then.
    pub fn fill(self, from: &Backing, first: usize) -> Result<SystemFolio> {
        let pfns = self.pfns();
        from.copy_out(first, pfns.len(), |src| {
            // SAFETY: By the type invariants, nobody else uses these pages, and `src` has as many.
            unsafe { bindings::rust_dmirror_copy_to_pages(pfns.start, src, pfns.len()) }
        })?;
        Ok(SystemFolio(self))
    }

    /// Fills it with the data of a source in coherent device memory of the same size.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `from` has another number of pages. The folio is freed then.
    pub fn fill_from(self, from: &Source<'_>) -> Result<SystemFolio> {
        // SAFETY: By the type invariants nobody else uses these pages.
        unsafe { from.copy_to_pfns(self.pfns()) }?;
        Ok(SystemFolio(self))
    }

    /// Fills it with zeroes.
    pub fn clear(self) -> SystemFolio {
        let pfns = self.pfns();
        // SAFETY: By the type invariants nobody else uses these pages.
        unsafe { bindings::rust_dmirror_clear_pages(pfns.start, pfns.len()) };
        SystemFolio(self)
    }
}

/// A new folio of system memory, locked and filled, to be the destination of a migration.
#[must_use = "dropping it frees the folio"]
pub struct SystemFolio(Blank);

impl SystemFolio {
    /// Returns its size.
    pub fn size(&self) -> Size {
        self.0.size
    }

    /// Returns the page frame number of its first page.
    pub(super) fn pfn(&self) -> usize {
        self.0.pfn
    }

    /// Returns the locked folio, for a migration.
    pub(super) fn into_locked(self) -> LockedFolio {
        self.0.folio
    }
}

/// The number of pages that are allocated at a time; chosen after the batches of the page allocator's per-CPU lists.
const AT_A_TIME: usize = 32;

/// An allocator of single pages for a VMA.
///
/// If a memory policy decides for each page on which node it is, allocates them one by one; otherwise many at a time.
/// Pages that were not taken are freed on drop.
///
/// # Invariants
///
/// The first `left` of `pages` are folios of one page that nobody else uses. This value owns one reference on each.
pub struct SystemPages<'a> {
    vma: Beneficiary<'a>,
    pages: [*mut bindings::page; AT_A_TIME],
    left: usize,
}

impl<'a> SystemPages<'a> {
    /// Makes an allocator without pages.
    pub fn new(vma: Beneficiary<'a>) -> Self {
        // INVARIANT: There are none.
        SystemPages {
            vma,
            pages: [core::ptr::null_mut(); AT_A_TIME],
            left: 0,
        }
    }

    /// Allocates a page for `address`, as [`Blank::for_vma`] does. `wanted` is the number of pages that will be
    /// taken at most, with this one. May sleep.
    pub fn next(&mut self, address: usize, wanted: usize) -> Result<Blank> {
        if self.left == 0 && wanted > 1 {
            self.fetch(wanted.min(AT_A_TIME));
        }
        match self.take() {
            // SAFETY: The page was ours, and nobody else uses it.
            Some(page) => unsafe { Blank::from_new(page.cast(), Size::Page) },
            None => Blank::for_vma(self.vma, address, Size::Page),
        }
    }

    fn fetch(&mut self, nr: usize) {
        self.pages.fill(core::ptr::null_mut());
        let pages = self.pages.as_mut_ptr();
        // SAFETY: The VMA is valid and read-locked by the invariants of `VmaRef`. `pages` has room for `nr` pages and
        // is empty.
        let nr = unsafe {
            bindings::rust_dmirror_vma_alloc_pages(
                bindings::GFP_DESTINATION,
                self.vma.as_ptr(),
                nr,
                pages,
            )
        };
        // INVARIANT: The allocator returned `nr` pages, each with one reference, which is ours.
        self.left = nr;
    }

    /// Takes a page out. A single page is a folio.
    fn take(&mut self) -> Option<*mut bindings::page> {
        // INVARIANT: The page is no longer among the first `left`.
        self.left = self.left.checked_sub(1)?;
        self.pages.get(self.left).copied()
    }
}

impl Drop for SystemPages<'_> {
    fn drop(&mut self) {
        while let Some(raw) = self.take().and_then(|page| NonNull::new(page.cast())) {
            // SAFETY: The reference was ours.
            drop(unsafe { Folio::from_raw(raw) });
        }
    }
}

#[kunit_tests(rust_dmirror_system)]
mod tests {
    use super::*;
    use kernel::page::PAGE_SIZE;

    #[test]
    fn a_cleared_page_is_zeroed() -> Result {
        let new = Blank::anywhere(Size::Page)?;
        let pfn = new.pfns().start;
        let mut bytes = KVec::from_elem(0xffu8, PAGE_SIZE, GFP_KERNEL)?;
        // SAFETY: The page is new, and nobody else's; there are as many bytes.
        unsafe { bindings::rust_dmirror_copy_to_pages(pfn, bytes.as_ptr().cast(), 1) };
        let cleared = new.clear();
        // SAFETY: As above; `cleared` still owns it.
        unsafe { bindings::rust_dmirror_copy_from_pages(bytes.as_mut_ptr().cast(), pfn, 1) };
        assert!(bytes.iter().all(|byte| *byte == 0));
        drop(cleared);
        Ok(())
    }
}
