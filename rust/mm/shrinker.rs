// SPDX-License-Identifier: GPL-2.0

//! Memory that is kept for later, and given back when the kernel needs it.
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

/// What keeps something that it can give back, counted in pages: the kernel weighs the number against
/// those of other caches, and asks nobody who seems to have next to nothing before it is too late.
///
/// Both functions run while somebody waits for memory. They may take a lock if nothing is allocated
/// while it is held, anywhere.
pub trait Shrink: Send + Sync + 'static {
    /// How many pages could be given back.
    fn count(&self) -> usize;

    /// Gives some back, and says how many pages they were: `wanted`, or as many more as it takes to
    /// give back whole folios.
    fn give_back(&self, wanted: usize) -> usize;
}

/// Lets the kernel ask for what somebody keeps, until it is dropped, which waits for who is asking.
///
/// # Invariants
///
/// `raw` is registered; its private data is `kept`.
pub struct Shrinker<T: Shrink> {
    raw: NonNull<bindings::shrinker>,
    kept: Arc<T>,
}

// SAFETY: A shrinker may be unregistered by any thread, and calls `kept` from any, which is `Sync`.
unsafe impl<T: Shrink> Send for Shrinker<T> {}
// SAFETY: By reference there is nothing but `kept`, which is `Sync`.
unsafe impl<T: Shrink> Sync for Shrinker<T> {}

impl<T: Shrink> Shrinker<T> {
    /// Registers `kept`. Sleeps. C: `shrinker_alloc()`, `shrinker_register()`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub fn new(name: &'static CStr, kept: Arc<T>) -> Result<Self> {
        // SAFETY: Both are C strings, and the first asks for the second.
        let raw = unsafe { bindings::shrinker_alloc(0, c"%s".as_char_ptr(), name.as_char_ptr()) };
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        // SAFETY: It is new, and nobody else's until it is registered.
        unsafe {
            let raw = raw.as_ptr();
            (*raw).count_objects = Some(Self::count_objects);
            (*raw).scan_objects = Some(Self::scan_objects);
            (*raw).private_data = Arc::as_ptr(&kept).cast_mut().cast();
            bindings::shrinker_register(raw);
        }
        // INVARIANT: It was just registered, with a pointer to `kept`, which lives as long as this value.
        Ok(Shrinker { raw, kept })
    }

    /// What is kept.
    pub fn kept(&self) -> &Arc<T> {
        &self.kept
    }

    /// # Safety
    ///
    /// `raw` must be registered by [`Shrinker::new`], and stay that for `'a`.
    unsafe fn from_raw<'a>(raw: *const bindings::shrinker) -> &'a T {
        // SAFETY: By the invariants of `Shrinker`, its private data is of this type, and stays for as
        // long as it is registered.
        unsafe { &*(*raw).private_data.cast::<T>() }
    }

    /// # Safety
    ///
    /// Called by the core for a shrinker that is registered; dropping it waits for the call.
    unsafe extern "C" fn count_objects(
        raw: *mut bindings::shrinker,
        _control: *mut bindings::shrink_control,
    ) -> c_ulong {
        // SAFETY: That is how the core calls it.
        unsafe { Self::from_raw(raw) }.count()
    }

    /// # Safety
    ///
    /// As for [`Self::count_objects`]; `control` tells how many are asked for.
    unsafe extern "C" fn scan_objects(
        raw: *mut bindings::shrinker,
        control: *mut bindings::shrink_control,
    ) -> c_ulong {
        // SAFETY: That is how the core calls it; nobody else uses `control` meanwhile.
        let (kept, control) = unsafe { (Self::from_raw(raw), &mut *control) };
        let given = kept.give_back(control.nr_to_scan);
        // The core takes it for what was asked for, and would go on.
        control.nr_scanned = control.nr_scanned.max(given);
        given
    }
}

impl<T: Shrink> Drop for Shrinker<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, it is registered. This waits until nobody uses it any more.
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

        /// By four.
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
        // Memory reclaim may ask as well, and then takes all that there is.
        let before = kept.count();
        // SAFETY: It is registered, and `control` is ours.
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
