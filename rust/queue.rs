// SPDX-License-Identifier: GPL-2.0

//! A workqueue that is destroyed with its owner, so that no work outlives the module.
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

/// A workqueue that runs one work item at a time, on any CPU. Dropping it waits for queued work, so a work item
/// must not drop it.
///
/// It does not deref to [`Queue`], which can queue work with a delay: dropping would not wait for that.
///
/// # Invariants
///
/// It points to a workqueue that this value owns.
pub struct OwnedQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: Any thread may use and destroy a workqueue.
unsafe impl Send for OwnedQueue {}
// SAFETY: As above. A shared reference only allows queueing and flushing, which any thread may do at any time.
unsafe impl Sync for OwnedQueue {}

impl OwnedQueue {
    /// Makes a workqueue. Sleeps. C: `alloc_workqueue()`.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: `name` is a C string.
        let raw = unsafe { bindings::rust_dmirror_queue_alloc(name.as_char_ptr()) };
        // INVARIANT: It was just made, and is ours.
        Ok(OwnedQueue(NonNull::new(raw).ok_or(ENOMEM)?))
    }

    /// Queues a work item, unless it is already queued. C: `queue_work()`.
    pub fn enqueue<W, const ID: u64>(&self, work: W) -> W::EnqueueOutput
    where
        W: RawWorkItem<ID> + Send + 'static,
    {
        // SAFETY: By the type invariants, the workqueue is valid while `self` is.
        unsafe { Queue::from_raw(self.0.as_ptr()) }.enqueue(work)
    }

    /// Waits for queued work. Sleeps. C: `flush_workqueue()`.
    pub fn flush(&self) {
        // SAFETY: By the type invariants, it is valid.
        unsafe { bindings::rust_dmirror_queue_flush(self.0.as_ptr()) };
    }
}

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, it is ours. Nothing can be queued any more; queued work is run first.
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
        // A failed assertion ends the thread without dropping values, so the queue is dropped first.
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
