// SPDX-License-Identifier: GPL-2.0

//! Shrinkers: caches of memory that the kernel can have freed when it needs memory.
//!
//! C header: [`include/linux/shrinker.h`](srctree/include/linux/shrinker.h)

use super::bindings;
use core::ptr::NonNull;
use kernel::{
    ffi::c_ulong,
    prelude::*,
    str::CStr,
    sync::Arc, //
};

/// A cache that can free memory. It counts in pages: the kernel compares the number with those of other caches, and
/// a cache that counted in huge folios would seem too small to be shrunk in time.
///
/// Both methods run in reclaim, while a task waits for memory. They may take a lock only if no code allocates
/// memory with that lock held.
pub trait Shrink: Send + Sync + 'static {
    /// Returns the number of pages that can be freed.
    fn count(&self) -> usize;

    /// Frees `wanted` pages, rounded up to whole folios, or all if there are fewer. Returns the number of freed pages.
    fn give_back(&self, wanted: usize) -> usize;
}

/// A registered shrinker of a cache. Dropping it unregisters it, and waits for calls in progress.
///
/// # Invariants
///
/// `raw` is registered, and its private data points to `kept`.
pub struct Shrinker<T: Shrink> {
    raw: NonNull<bindings::shrinker>,
    kept: Arc<T>,
}

// SAFETY: Any thread may unregister a shrinker. It calls `kept`, which is `Sync`, from any thread.
unsafe impl<T: Shrink> Send for Shrinker<T> {}
// SAFETY: A shared reference only gives access to `kept`, which is `Sync`.
unsafe impl<T: Shrink> Sync for Shrinker<T> {}

impl<T: Shrink> Shrinker<T> {
    /// Registers a shrinker of `kept`. Sleeps. C: `shrinker_alloc()`, `shrinker_register()`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub fn new(name: &'static CStr, kept: Arc<T>) -> Result<Self> {
        // SAFETY: Both are C strings, and the format string takes the second as its only argument.
        let raw = unsafe { bindings::shrinker_alloc(0, c"%s".as_char_ptr(), name.as_char_ptr()) };
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        // SAFETY: The shrinker is new, and nothing else accesses it before it is registered.
        unsafe {
            let raw = raw.as_ptr();
            (*raw).count_objects = Some(Self::count_objects);
            (*raw).scan_objects = Some(Self::scan_objects);
            (*raw).private_data = Arc::as_ptr(&kept).cast_mut().cast();
            bindings::shrinker_register(raw);
        }
        // INVARIANT: It was just registered, and its private data points to `kept`, which this value keeps.
        Ok(Shrinker { raw, kept })
    }

    /// Returns the cache.
    pub fn kept(&self) -> &Arc<T> {
        &self.kept
    }

    /// # Safety
    ///
    /// `raw` must be registered by [`Shrinker::new`], and stay registered for `'a`.
    unsafe fn from_raw<'a>(raw: *const bindings::shrinker) -> &'a T {
        // SAFETY: By the invariants of `Shrinker`, its private data points to a `T` that stays while it is registered.
        unsafe { &*(*raw).private_data.cast::<T>() }
    }

    /// # Safety
    ///
    /// Called by the core for a registered shrinker. Dropping the shrinker waits for the call.
    unsafe extern "C" fn count_objects(
        raw: *mut bindings::shrinker,
        _control: *mut bindings::shrink_control,
    ) -> c_ulong {
        // SAFETY: The core calls this for a registered shrinker.
        unsafe { Self::from_raw(raw) }.count()
    }

    /// # Safety
    ///
    /// As for [`Self::count_objects`]; `control` has the number of pages to free.
    unsafe extern "C" fn scan_objects(
        raw: *mut bindings::shrinker,
        control: *mut bindings::shrink_control,
    ) -> c_ulong {
        // SAFETY: The core calls this for a registered shrinker, and does not use `control` during the call.
        let (kept, control) = unsafe { (Self::from_raw(raw), &mut *control) };
        let given = kept.give_back(control.nr_to_scan);
        // Without this, the core would count only the pages that it asked for, and continue.
        control.nr_scanned = control.nr_scanned.max(given);
        given
    }
}

impl<T: Shrink> Drop for Shrinker<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, it is registered. This waits for calls in progress.
        unsafe { bindings::shrinker_free(self.raw.as_ptr()) };
    }
}

#[kunit_tests(rust_dmirror_shrinker)]
mod tests {
    use super::*;
    use kernel::sync::atomic::{
        Atomic,
        Relaxed, //
    };

    struct Kept(Atomic<usize>);

    impl Shrink for Kept {
        fn count(&self) -> usize {
            self.0.load(Relaxed)
        }

        /// Frees multiples of four pages.
        fn give_back(&self, wanted: usize) -> usize {
            let count = self.count();
            let given = wanted.next_multiple_of(4).min(count);
            self.0.store(count - given, Relaxed);
            given
        }
    }

    #[test]
    fn the_core_reaches_what_is_kept() -> Result {
        let kept = Arc::new(Kept(Atomic::new(9)), GFP_KERNEL)?;
        let shrinker = Shrinker::new(c"rust_dmirror_test", kept.clone())?;
        let raw = shrinker.raw.as_ptr();
        // SAFETY: It is registered, and these do not change any more.
        let (count_objects, scan_objects) = unsafe { ((*raw).count_objects, (*raw).scan_objects) };
        let count_objects = count_objects.ok_or(ENOENT)?;
        let scan_objects = scan_objects.ok_or(ENOENT)?;
        let mut control = bindings::shrink_control {
            nr_to_scan: 2,
            nr_scanned: 2,
            ..Default::default()
        };
        // Reclaim may run at the same time, and then frees all pages.
        let before = kept.count();
        // SAFETY: The shrinker is registered, and `control` is ours.
        let count = unsafe { count_objects(raw, &mut control) };
        let between = kept.count();
        assert!((between..=before).contains(&count));
        // SAFETY: As above.
        let given = unsafe { scan_objects(raw, &mut control) };
        let after = kept.count();
        assert!(after < between || between == 0);
        assert!(after == 0 || (given == 4 && control.nr_scanned == 4));
        kept.give_back(9);
        // SAFETY: As above.
        let count = unsafe { count_objects(raw, &mut control) };
        assert_eq!(count, 0);
        drop(shrinker);
        assert_eq!(kept.count(), 0);
        Ok(())
    }
}
