// SPDX-License-Identifier: GPL-2.0

//! Folios with a reference ([`Folio`]), and with a reference and the lock ([`LockedFolio`]).
//!
//! Guarantees that a reference is put once and a lock is released once.
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

/// The counts and flags of a folio, as read at one moment.
///
/// They are exact only while the folio is locked and unmapped. Otherwise references are taken and put at any time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    /// The page frame number of its first page.
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
    /// `folio` must be the head of a folio during the call: a reference is held on it, or the page tables that map it
    /// cannot change.
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

/// A reference on a folio.
///
/// # Invariants
///
/// The pointer points to the head of a folio on which this value owns one reference.
pub struct Folio(NonNull<bindings::folio>);

// SAFETY: A reference may be put by another thread than the one that took it.
unsafe impl Send for Folio {}
// SAFETY: The methods on `&self` only read atomics and page flags.
unsafe impl Sync for Folio {}

impl Folio {
    /// Takes ownership of a reference.
    ///
    /// # Safety
    ///
    /// `raw` must point to the head of a folio. The caller must own a reference on it, which is passed to the returned
    /// value.
    pub(super) unsafe fn from_raw(raw: NonNull<bindings::folio>) -> Self {
        // INVARIANT: By the requirements of this function.
        Folio(raw)
    }

    /// Returns the C pointer.
    pub(super) fn as_raw(&self) -> *mut bindings::folio {
        self.0.as_ptr()
    }

    /// Takes a reference on the folio that a page belongs to. `None` if the page is not in use. C: `folio_try_get()`.
    ///
    /// `None` also if there are very many references. Safe code can take references and forget them; if the count
    /// wrapped, the folio would be freed while in use. This is therefore the only way to another reference, and a
    /// [`Folio`] cannot be cloned.
    ///
    /// # Safety
    ///
    /// `pfn` must have a `struct page`.
    pub(super) unsafe fn try_get_pfn(pfn: usize) -> Option<Self> {
        // SAFETY: The page has a `struct page`, so looking up its folio reads valid memory.
        let raw = unsafe { bindings::rust_dmirror_pfn_folio(pfn) };
        // SAFETY: As above. If the count is zero, this fails.
        if !unsafe { bindings::rust_dmirror_folio_try_get(raw) } {
            return None;
        }
        // SAFETY: We just took the reference.
        let folio = unsafe { Self::from_raw(NonNull::new(raw)?) };
        // Between the two calls, the folio may have been freed and its pages merged into another. The reference is
        // only valid for the caller if the folio still has the page.
        folio.pfns().contains(&pfn).then_some(folio)
    }

    /// Returns the page frame number of its first page.
    pub fn pfn(&self) -> usize {
        // SAFETY: By the type invariants, the folio is valid.
        unsafe { bindings::rust_dmirror_folio_pfn(self.as_raw()) }
    }

    /// Returns its order. It does not change while the folio is locked, or while nobody else has a reference.
    pub fn order(&self) -> u32 {
        // SAFETY: By the type invariants, the folio is valid.
        unsafe { bindings::rust_dmirror_folio_order(self.as_raw()) }
    }

    /// Returns its current counts. They include the reference that this value owns.
    pub fn counts(&self) -> Counts {
        // SAFETY: By the type invariants, the folio is valid.
        unsafe { Counts::read(self.as_raw()) }
    }

    /// Returns the page frame numbers of its pages.
    pub fn pfns(&self) -> Range<usize> {
        let first = self.pfn();
        first..first + (1 << self.order())
    }

    /// Takes the lock if it is free, or returns `self` in the error. C: `folio_trylock()`. Does not sleep.
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
        // SAFETY: By the type invariants, this value owns a reference, which it no longer needs.
        unsafe { bindings::rust_dmirror_folio_put(self.as_raw()) };
    }
}

assert_not_impl!(Folio: Clone);
assert_not_impl!(LockedFolio: Clone);

/// A folio with a reference and the lock.
///
/// # Invariants
///
/// This value owns the folio's lock and the reference.
#[must_use = "dropping it unlocks the folio and puts the reference"]
pub struct LockedFolio(Folio);

impl LockedFolio {
    /// Takes ownership of a reference and the lock.
    ///
    /// # Safety
    ///
    /// As [`Folio::from_raw`]. The caller must also own the folio's lock, which is passed to the returned value.
    pub(super) unsafe fn from_raw(raw: NonNull<bindings::folio>) -> Self {
        // INVARIANT: By the requirements of this function.
        // SAFETY: By the requirements of this function.
        LockedFolio(unsafe { Folio::from_raw(raw) })
    }

    /// Returns whether it is mapped, and by huge entries only. A mapping may be split at any time by its process.
    /// Reclaim needs the folio lock for that. C: `folio_entire_mapcount()`.
    pub fn is_mapped_whole(&self) -> bool {
        // SAFETY: We hold a reference.
        unsafe { bindings::rust_dmirror_folio_is_mapped_whole(self.as_raw()) }
    }

    /// Passes the reference and the lock to the caller.
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
        // SAFETY: By the type invariants, this value owns the lock. The reference is put after this, when the field is
        // dropped.
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

    /// Returns whether a folio with `refs` additional references gives another one.
    fn gives(refs: i32) -> Result<bool> {
        let folio = Blank::anywhere(Size::Page)?;
        let pfn = folio.pfns().start;
        // No assertion while they are held: a failed one ends the thread without putting them.
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
