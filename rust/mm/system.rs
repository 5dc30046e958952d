// SPDX-License-Identifier: GPL-2.0

//! New folios of system memory: destinations, one by one or many at a time.
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

/// How hard a huge folio is tried for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effort {
    /// Only what is there already.
    AtHand,
    /// Memory may be compacted and reclaimed for it, once.
    Compact,
}

/// A new folio of system memory, locked, that is still to be filled: what was in it before is nobody's
/// business.
///
/// # Invariants
///
/// We hold the lock, and nobody else accesses the contents. The folio is of this `size`, and `pfn` is the
/// number of its first page.
#[must_use = "dropping it frees the folio"]
pub struct Blank {
    folio: LockedFolio,
    pfn: usize,
    size: Size,
}

impl Blank {
    /// A folio of one page, or a huge one, for `address` in `vma`. C: `vma_alloc_folio()`.
    ///
    /// It is tried for without killing anybody, a huge one also without a long search: there are
    /// ways to go on without. May sleep.
    pub fn for_vma(vma: Beneficiary<'_>, address: usize, size: Size) -> Result<Self> {
        Self::alloc_for(vma, address, Self::gfp(size), size)
    }

    /// As [`Blank::for_vma`], for what a CPU fault waits for: a single page is tried for as hard as
    /// for any other fault.
    pub fn for_fault(fault: &Fault<'_>, size: Size) -> Result<Self> {
        let gfp = match size {
            Size::Huge => Self::gfp(size),
            Size::Page => bindings::GFP_FAULT_DESTINATION,
        };
        Self::alloc_for(fault.beneficiary(), fault.range().start, gfp, size)
    }

    /// As [`Blank::for_vma`], where no VMA is known. C: `folio_alloc()`.
    pub fn anywhere(size: Size) -> Result<Self> {
        // SAFETY: Any flags and order may be asked for.
        let raw = unsafe { bindings::rust_dmirror_folio_alloc(Self::gfp(size), size.order()) };
        // SAFETY: The allocator returned a new folio of that order, if any.
        unsafe { Self::from_new(raw, size) }
    }

    /// A huge folio to be kept until somebody wants it. It comes from where memory is that cannot be
    /// moved: nobody can move this one. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is none to be had with this effort.
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

    /// Whether a folio that was kept may take the place of a new one for `vma`, asked for now: no memory
    /// policy has a say, and the nearest node has no zone for movable memory.
    pub fn may_be_kept_for(vma: Beneficiary<'_>) -> bool {
        // SAFETY: The VMA is valid and read-locked by the invariants of `VmaRef`.
        unsafe { bindings::rust_dmirror_vma_takes_kept(vma.as_ptr()) }
    }

    /// Whether it may be this folio: its node is the nearest, and none of its pages is broken.
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
    /// `raw` must be null, or a folio that nobody else knows, of this size, whose one reference is given up
    /// here.
    unsafe fn from_new(raw: *mut bindings::folio, size: Size) -> Result<Self> {
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        // SAFETY: By the requirements of this function.
        let folio = unsafe { Folio::from_raw(raw) };
        let folio = folio.try_lock().map_err(|_| EBUSY)?;
        let pfn = folio.pfn();
        // INVARIANT: The folio is new; whoever finds it by its number looks at its counts, at most.
        Ok(Blank { folio, pfn, size })
    }

    /// The locked folio.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(super) fn folio(&self) -> &LockedFolio {
        &self.folio
    }

    pub(super) fn pfns(&self) -> Range<usize> {
        self.pfn..self.pfn + self.size.pages()
    }

    /// Fills it from device memory, beginning at page `first` of `from`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `from` has not as many pages from there on; then the folio is freed.
    pub fn fill(self, from: &Backing, first: usize) -> Result<SystemFolio> {
        let pfns = self.pfns();
        from.copy_out(first, pfns.len(), |src| {
            // SAFETY: By the type invariants nobody else uses these pages; `src` is as many.
            unsafe { bindings::rust_dmirror_copy_to_pages(pfns.start, src, pfns.len()) }
        })?;
        Ok(SystemFolio(self))
    }

    /// Fills it from the same number of pages of coherent device memory.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `from` has another number of pages; then the folio is freed.
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

/// A new folio of system memory, locked and filled: a destination.
#[must_use = "dropping it frees the folio"]
pub struct SystemFolio(Blank);

impl SystemFolio {
    /// Its size.
    pub fn size(&self) -> Size {
        self.0.size
    }

    /// The number of its first page.
    pub(super) fn pfn(&self) -> usize {
        self.0.pfn
    }

    /// The locked folio, to be given to a migration.
    pub(super) fn into_locked(self) -> LockedFolio {
        self.0.folio
    }
}

/// Pages that are asked for at a time: what the page allocator keeps at hand for a CPU.
const AT_A_TIME: usize = 32;

/// New folios of one page for a VMA.
///
/// They are had many at a time where that makes no difference but time; where a memory policy decides
/// on which node each of them is, one by one. What is not taken is freed on drop.
///
/// # Invariants
///
/// The first `left` of `pages` are folios of one page, each with one reference, that nobody else knows
/// and this value owns.
pub struct SystemPages<'a> {
    vma: Beneficiary<'a>,
    pages: [*mut bindings::page; AT_A_TIME],
    left: usize,
}

impl<'a> SystemPages<'a> {
    /// None yet.
    pub fn new(vma: Beneficiary<'a>) -> Self {
        // INVARIANT: There are none.
        SystemPages {
            vma,
            pages: [core::ptr::null_mut(); AT_A_TIME],
            left: 0,
        }
    }

    /// One for `address`, as [`Blank::for_vma`] gives it. `wanted` is how many are going to be
    /// wanted, with this one, at most. May sleep.
    pub fn next(&mut self, address: usize, wanted: usize) -> Result<Blank> {
        if self.left == 0 && wanted > 1 {
            self.fetch(wanted.min(AT_A_TIME));
        }
        match self.take() {
            // SAFETY: It was ours, and nobody else knows it.
            Some(page) => unsafe { Blank::from_new(page.cast(), Size::Page) },
            None => Blank::for_vma(self.vma, address, Size::Page),
        }
    }

    fn fetch(&mut self, nr: usize) {
        self.pages.fill(core::ptr::null_mut());
        let pages = self.pages.as_mut_ptr();
        // SAFETY: The VMA is valid and read-locked by the invariants of `VmaRef`; there is room for as
        // many pages, and none in it.
        let nr = unsafe {
            bindings::rust_dmirror_vma_alloc_pages(
                bindings::GFP_DESTINATION,
                self.vma.as_ptr(),
                nr,
                pages,
            )
        };
        // INVARIANT: The allocator returned as many, each with one reference, which is ours.
        self.left = nr;
    }

    /// Gives one up. A page without neighbours is a folio.
    fn take(&mut self) -> Option<*mut bindings::page> {
        // INVARIANT: It is not ours any more.
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
