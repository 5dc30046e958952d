// SPDX-License-Identifier: GPL-2.0

//! A workqueue of one's own, which ends with its owner: no work of a module outlives it.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use super::bindings;
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    str::CStr,
    workqueue::{
        Queue,
        RawWorkItem, //
    }, //
};

/// A workqueue that runs one work item at a time, on any CPU. Dropping it waits for what is queued, so
/// it must not be dropped by that.
///
/// It is no [`Queue`] to its users: what is queued with a delay would be waited for by nobody.
///
/// # Invariants
///
/// It points to a workqueue that this value owns.
pub struct OwnedQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: A workqueue may be used and destroyed by any thread.
unsafe impl Send for OwnedQueue {}
// SAFETY: As above; by reference, it can only be queued to.
unsafe impl Sync for OwnedQueue {}

impl OwnedQueue {
    /// Makes one. Sleeps. C: `alloc_workqueue()`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: It is a C string.
        let raw = unsafe { bindings::rust_dmirror_queue_alloc(name.as_char_ptr()) };
        // INVARIANT: It was just made, for us.
        Ok(OwnedQueue(NonNull::new(raw).ok_or(ENOMEM)?))
    }

    /// Queues a work item, unless it is queued already. C: `queue_work()`.
    pub fn enqueue<W, const ID: u64>(&self, work: W) -> W::EnqueueOutput
    where
        W: RawWorkItem<ID> + Send + 'static,
    {
        // SAFETY: By the type invariants, it is valid for as long as `self` is.
        unsafe { Queue::from_raw(self.0.as_ptr()) }.enqueue(work)
    }

    /// Waits for what is queued. Sleeps. C: `flush_workqueue()`.
    pub fn flush(&self) {
        // SAFETY: By the type invariants, it is valid.
        unsafe { bindings::rust_dmirror_queue_flush(self.0.as_ptr()) };
    }
}

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, it is ours. Nobody can queue to it any more; what is queued is
        // run first.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}
