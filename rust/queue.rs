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

#[kunit_tests(rust_dmirror_queue)]
mod tests {
    use super::*;
    use kernel::{
        impl_has_work,
        new_work,
        sync::{
            atomic::{
                Atomic,
                Relaxed, //
            },
            Arc, //
        },
        time::{
            delay::fsleep,
            Delta, //
        },
        workqueue::{
            Work,
            WorkItem, //
        }, //
    };

    #[pin_data]
    struct Slow {
        runs: Atomic<usize>,
        #[pin]
        work: Work<Slow>,
    }

    impl_has_work! {
        impl HasWork<Self> for Slow { self.work }
    }

    impl WorkItem for Slow {
        type Pointer = Arc<Self>;

        fn run(this: Arc<Self>) {
            fsleep(Delta::from_millis(20));
            this.runs.store(this.runs.load(Relaxed) + 1, Relaxed);
        }
    }

    fn slow() -> Result<Arc<Slow>> {
        Arc::pin_init(
            pin_init!(Slow {
                runs: Atomic::new(0),
                work <- new_work!("rust_dmirror_test"),
            }),
            GFP_KERNEL,
        )
    }

    #[test]
    fn flush_waits_for_what_is_queued() -> Result {
        let (queue, slow) = (OwnedQueue::new(c"rust_dmirror_test")?, slow()?);
        let seen = [(); 2].map(|()| {
            let is_new = queue.enqueue(slow.clone()).is_ok();
            queue.flush();
            (is_new, slow.runs.load(Relaxed))
        });
        // What a failed assertion holds is never let go.
        drop(queue);
        assert_eq!(seen, [(true, 1), (true, 2)]);
        Ok(())
    }

    #[test]
    fn work_ends_before_its_queue() -> Result {
        let (queue, slow) = (OwnedQueue::new(c"rust_dmirror_test")?, slow()?);
        let is_new = queue.enqueue(slow.clone()).is_ok();
        drop(queue);
        assert_eq!((is_new, slow.runs.load(Relaxed)), (true, 1));
        Ok(())
    }
}
