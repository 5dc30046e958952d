// SPDX-License-Identifier: GPL-2.0

//! For `rust/queue.rs`: the guarantees of an ordered workqueue. A pending item is not queued twice; it can be
//! queued again once it starts to run; one item runs at a time.
//!
//! Under loom, each queued item runs in a thread. Otherwise it runs in [`OwnedQueue::flush`].

use core::ffi::CStr;
use kernel::{
    prelude::*,
    sync::{
        Arc,
        SpinLock, //
    },
    workqueue::{
        HasWork,
        WorkItem, //
    }, //
};

#[cfg(loom)]
type Job = loom::thread::JoinHandle<()>;
#[cfg(not(loom))]
type Job = Box<dyn FnOnce() + Send>;

/// The queue.
pub struct OwnedQueue {
    jobs: SpinLock<Vec<Job>>,
    /// Held by what runs.
    running: std::sync::Arc<SpinLock<()>>,
}

impl OwnedQueue {
    /// Makes one.
    pub fn new(_name: &'static CStr) -> Result<Self> {
        Ok(OwnedQueue {
            jobs: SpinLock::new(Vec::new(), "jobs"),
            running: std::sync::Arc::new(SpinLock::new((), "running")),
        })
    }

    /// Queues a work item, unless it is queued already.
    pub fn enqueue<W>(&self, work: Arc<W>) -> Result<(), Arc<W>>
    where
        W: WorkItem<Pointer = Arc<W>> + HasWork + Send + Sync + 'static,
    {
        // Until the item is queued, so that a flush waits for all that run.
        let mut jobs = self.jobs.lock();
        if work.work().set_pending(true) {
            return Err(work);
        }
        let running = self.running.clone();
        let run = move || {
            let _one = running.lock();
            work.work().set_pending(false);
            W::run(work);
        };
        #[cfg(loom)]
        let run = loom::thread::spawn(run);
        #[cfg(not(loom))]
        let run = Box::new(run);
        jobs.push(run);
        Ok(())
    }

    /// Waits for what is queued; by one thread at a time, which is less than the kernel allows.
    pub fn flush(&self) {
        let jobs = core::mem::take(&mut *self.jobs.lock());
        for job in jobs {
            #[cfg(loom)]
            job.join().unwrap();
            #[cfg(not(loom))]
            job();
        }
    }
}

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        self.flush();
    }
}
