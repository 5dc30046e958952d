// SPDX-License-Identifier: GPL-2.0

//! Folios: with a reference ([`Folio`]), with a reference and the lock ([`LockedFolio`]).
//!
//! Guarantees that a reference is put once and a lock released once.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h)

use super::{
    bindings,
    bounds::assert_not_impl, //
};
use core::{
    mem::ManuallyDrop,
    ops::{
        Deref,
        Range, //
    },
    ptr::NonNull, //
};
use kernel::prelude::*;

/// What can be read of a folio at one moment.
///
/// Exact only while the folio is locked and unmapped; otherwise other references come and go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    /// The page frame number of the first page.
    pub pfn: usize,
    /// The order: the folio has `1 << order` pages.
    pub order: u32,
    /// C: `folio_ref_count()`.
    pub refs: i32,
    /// C: `folio_mapcount()`.
    pub mapcount: i32,
    /// C: `folio_expected_ref_count()`.
    pub expected: i32,
    /// C: `folio_test_locked()`.
    pub locked: bool,
    /// C: `folio_test_lru()`; false for device memory.
    pub lru: bool,
    /// C: `folio_test_anon()`.
    pub anon: bool,
    /// C: `folio_is_device_private()`.
    pub device_private: bool,
    /// C: `folio_is_device_coherent()`.
    pub device_coherent: bool,
}

impl Counts {
    /// Reads the counts of a folio.
    ///
    /// # Safety
    ///
    /// `folio` must be the head of a folio, and stay that during the call: a reference is held, or
    /// the page tables that map it are held still.
    pub(super) unsafe fn read(folio: *const bindings::folio) -> Self {
        let mut raw = bindings::rust_dmirror_folio_counts {
            pfn: 0,
            order: 0,
            refs: 0,
            mapcount: 0,
            expected: 0,
            locked: false,
            lru: false,
            anon: false,
            device_private: false,
            device_coherent: false,
        };
        // SAFETY: `folio` is valid by the requirements of this function, `raw` is ours.
        unsafe { bindings::rust_dmirror_folio_counts(folio, &mut raw) };
        Counts {
            pfn: raw.pfn,
            order: raw.order,
            refs: raw.refs,
            mapcount: raw.mapcount,
            expected: raw.expected,
            locked: raw.locked,
            lru: raw.lru,
            anon: raw.anon,
            device_private: raw.device_private,
            device_coherent: raw.device_coherent,
        }
    }
}

/// A folio with a reference of our own.
///
/// # Invariants
///
/// The pointer is to the head of a folio on which this value owns one reference.
pub struct Folio(NonNull<bindings::folio>);

// SAFETY: References may be put by another thread than the one that took them.
unsafe impl Send for Folio {}
// SAFETY: All methods that take `&self` only read atomics and page flags.
unsafe impl Sync for Folio {}

impl Folio {
    /// Takes over a reference.
    ///
    /// # Safety
    ///
    /// `raw` must point to the head of a folio, and the caller must own a reference on it that it
    /// gives up here.
    pub(super) unsafe fn from_raw(raw: NonNull<bindings::folio>) -> Self {
        // INVARIANT: By the requirements of this function.
        Folio(raw)
    }

    /// The pointer that C knows.
    pub(super) fn as_raw(&self) -> *mut bindings::folio {
        self.0.as_ptr()
    }

    /// Another reference on the folio that holds a page, if the page is in use. C: `folio_try_get()`.
    ///
    /// None also if there are very many references already. Safe code may take one again and again and
    /// forget it, and a count that wraps would free the folio under its users. That is why this is the only way
    /// to another reference, and a [`Folio`] cannot be cloned.
    ///
    /// # Safety
    ///
    /// `pfn` must be the number of a page that has a `struct page`.
    pub(super) unsafe fn try_get_pfn(pfn: usize) -> Option<Self> {
        // SAFETY: The page has a `struct page`, so that finding its folio reads valid memory.
        let raw = unsafe { bindings::rust_dmirror_pfn_folio(pfn) };
        // SAFETY: As above; this fails where the count is zero.
        if !unsafe { bindings::rust_dmirror_folio_try_get(raw) } {
            return None;
        }
        // SAFETY: We just took the reference.
        let folio = unsafe { Self::from_raw(NonNull::new(raw)?) };
        // The folio may have been freed and merged into another between the two calls above; the
        // answer is only of use if it still holds the page.
        folio.pfns().contains(&pfn).then_some(folio)
    }

    /// The number of its first page.
    pub fn pfn(&self) -> usize {
        // SAFETY: By the type invariants, the folio is valid.
        unsafe { bindings::rust_dmirror_folio_pfn(self.as_raw()) }
    }

    /// Its order. It does not change while the folio is locked, or nobody else knows it.
    pub fn order(&self) -> u32 {
        // SAFETY: By the type invariants, the folio is valid.
        unsafe { bindings::rust_dmirror_folio_order(self.as_raw()) }
    }

    /// The counts of this moment; they include the reference that this value owns.
    pub fn counts(&self) -> Counts {
        // SAFETY: By the type invariants, the folio is valid.
        unsafe { Counts::read(self.as_raw()) }
    }

    /// The page frame numbers of its pages.
    pub fn pfns(&self) -> Range<usize> {
        let first = self.pfn();
        first..first + (1 << self.order())
    }

    /// Takes the lock if nobody has it. C: `folio_trylock()`. Does not sleep.
    ///
    /// Gives the reference back in the error.
    pub fn try_lock(self) -> Result<LockedFolio, Folio> {
        // SAFETY: By the type invariants, the folio is valid.
        if unsafe { bindings::rust_dmirror_folio_trylock(self.as_raw()) } {
            // INVARIANT: We own the reference of `self` and the lock that was just taken.
            Ok(LockedFolio(self))
        } else {
            Err(self)
        }
    }
}

impl Drop for Folio {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, we own a reference, and we give it up here.
        unsafe { bindings::rust_dmirror_folio_put(self.as_raw()) };
    }
}

assert_not_impl!(Folio: Clone);
assert_not_impl!(LockedFolio: Clone);

/// A folio with a reference and the lock of our own.
///
/// # Invariants
///
/// This value owns the folio's lock beside the reference.
#[must_use = "dropping it unlocks the folio and puts the reference"]
pub struct LockedFolio(Folio);

impl LockedFolio {
    /// Takes over a reference and the lock.
    ///
    /// # Safety
    ///
    /// As [`Folio::from_raw`], and the caller must own the folio's lock, which it gives up here.
    pub(super) unsafe fn from_raw(raw: NonNull<bindings::folio>) -> Self {
        // INVARIANT: By the requirements of this function.
        // SAFETY: By the requirements of this function.
        LockedFolio(unsafe { Folio::from_raw(raw) })
    }

    /// Whether all of its mappings are of the whole folio, by one entry each. A mapping may be split at any time, but
    /// reclaim, which splits any, needs the lock for that. C: `folio_entire_mapcount()`.
    pub fn is_mapped_whole(&self) -> bool {
        // SAFETY: We hold a reference.
        unsafe { bindings::rust_dmirror_folio_is_mapped_whole(self.as_raw()) }
    }

    /// Gives reference and lock away.
    pub(super) fn into_raw(self) -> NonNull<bindings::folio> {
        ManuallyDrop::new(self).0 .0
    }
}

impl Deref for LockedFolio {
    type Target = Folio;

    fn deref(&self) -> &Folio {
        &self.0
    }
}

impl Drop for LockedFolio {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, we own the lock, and we give it up here. The reference is
        // put after this, when the field is dropped.
        unsafe { bindings::folio_unlock(self.0.as_raw()) };
    }
}

#[kunit_tests(rust_dmirror_folio)]
mod tests {
    use super::*;
    use crate::layer::mm::{
        system::Blank,
        testing,
        Size, //
    };

    /// Whether a folio with so many references more gives another.
    fn gives(refs: i32) -> Result<bool> {
        let folio = Blank::anywhere(Size::Page)?;
        let pfn = folio.pfns().start;
        // What is asserted while they are held would never give them back.
        Ok(testing::with_references(folio.folio(), refs, || {
            // SAFETY: A folio's pages have a `struct page`.
            unsafe { Folio::try_get_pfn(pfn) }.is_some()
        }))
    }

    #[test]
    fn it_knows_its_pages() -> Result {
        for size in [Size::Page, Size::Huge] {
            let new = Blank::anywhere(size)?;
            let pages = new.pfns();
            assert_eq!(pages.len(), size.pages());
            assert_eq!(new.folio().pfns(), pages);
        }
        Ok(())
    }

    #[test]
    fn the_count_does_not_wrap() -> Result {
        assert!(gives(0)?);
        assert!(gives(1000)?);
        assert!(!gives(i32::MAX / 2)?);
        assert!(!gives(i32::MAX - 1)?);
        Ok(())
    }
}
