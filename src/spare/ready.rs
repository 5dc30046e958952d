// SPDX-License-Identifier: GPL-2.0

//! Huge folios of system memory that are allocated before a process waits for one.
//!
//! The page allocator may clear a new folio (`init_on_alloc`, on by default in many kernels). For a huge one, that
//! takes about as long as the copy from the device. A worker therefore allocates a few in advance, and others when
//! some are taken, on another CPU if one is idle. A shrinker frees them when memory is short.
//!
//! Kept folios cannot be migrated, so they are allocated as unmovable memory, and stay that when a process gets
//! them. If a node has a zone for movable memory, none are kept for it.

use crate::layer::{
    mm::{
        lock::Beneficiary,
        shrinker::{
            Shrink,
            Shrinker, //
        },
        system::{
            Blank,
            Effort, //
        },
        HUGE_PAGES, //
    },
    queue::OwnedQueue, //
};
use kernel::{
    impl_has_work,
    new_mutex,
    new_work,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    workqueue::{
        Work,
        WorkItem, //
    }, //
};

/// The number of folios that a device keeps ready at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MaxReady(usize);

impl MaxReady {
    /// None are kept.
    pub(crate) const NONE: MaxReady = MaxReady(0);

    /// The default of `huge_ready=`, for tests.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) const DEFAULT: MaxReady = MaxReady(4);

    const LARGEST: usize = 64;

    /// Makes a limit from a number of folios.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is too large.
    pub(crate) fn new(most: u64) -> Result<Self> {
        match usize::try_from(most) {
            Ok(most) if most <= Self::LARGEST => Ok(MaxReady(most)),
            _ => Err(EINVAL),
        }
    }

    /// Returns the number.
    pub(crate) fn get(self) -> usize {
        self.0
    }
}

/// The kept folios.
#[pin_data]
struct Shelf {
    most: Atomic<usize>,
    /// Nothing is allocated with it locked: reclaim locks it.
    #[pin]
    folios: Mutex<KVec<Blank>>,
    #[pin]
    work: Work<Shelf>,
}

impl_has_work! {
    impl HasWork<Self> for Shelf { self.work }
}

impl Shelf {
    fn new(most: MaxReady) -> Result<Arc<Self>> {
        let folios = KVec::with_capacity(MaxReady::LARGEST, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Shelf {
                most: Atomic::new(most.0),
                folios <- new_mutex!(folios, "dmirror_ready"),
                work <- new_work!("dmirror_ready"),
            }),
            GFP_KERNEL,
        )
    }

    fn most(&self) -> usize {
        self.most.load(Relaxed)
    }

    fn len(&self) -> usize {
        self.folios.lock().len()
    }

    /// Allocates folios up to the limit, as long as free huge pages are available. May sleep.
    fn fill(&self) {
        for _ in self.len()..self.most() {
            let Ok(folio) = Blank::to_keep(Effort::AtHand) else {
                return;
            };
            // The capacity is enough for any `MaxReady`. A folio that did not fit would be freed without the lock.
            let _refused = self.folios.lock().push_within_capacity(folio);
        }
    }

    /// Takes a folio that is fit. If none is, and the limit is reached, frees one: otherwise unfit folios would take up
    /// the places for ever.
    fn take(&self, is_fit: impl Fn(&Blank) -> bool) -> Option<Blank> {
        let mut folios = self.folios.lock();
        if let Some(at) = folios.iter().position(is_fit) {
            return folios.remove(at).ok();
        }
        let useless = match folios.len() >= self.most() {
            true => folios.remove(0).ok(),
            false => None,
        };
        // Freed after the lock is released.
        drop(folios);
        drop(useless);
        None
    }

    /// Frees up to `nr` folios, each after the lock is released. Returns their number.
    fn free(&self, nr: usize) -> usize {
        (0..nr).map_while(|_| self.take(|_| true)).count()
    }
}

impl WorkItem for Shelf {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.fill();
    }
}

impl Shrink for Shelf {
    fn count(&self) -> usize {
        self.len() * HUGE_PAGES
    }

    fn give_back(&self, wanted: usize) -> usize {
        self.free(wanted.div_ceil(HUGE_PAGES)) * HUGE_PAGES
    }
}

/// Huge folios that a device keeps ready.
pub(crate) struct Ready {
    // Dropped first, which waits for queued work.
    queue: OwnedQueue,
    shrinker: Shrinker<Shelf>,
}

impl Ready {
    /// Makes an empty one. The first folios are allocated after the first `take`.
    pub(crate) fn new(most: MaxReady) -> Result<Self> {
        Ok(Ready {
            queue: OwnedQueue::new(c"rust_dmirror")?,
            shrinker: Shrinker::new(c"rust_dmirror", Shelf::new(most)?)?,
        })
    }

    fn shelf(&self) -> &Arc<Shelf> {
        self.shrinker.kept()
    }

    /// Takes a folio for `vma`, if one may be used there, and has the worker allocate others.
    pub(crate) fn take(&self, vma: Beneficiary<'_>) -> Option<Blank> {
        let shelf = self.shelf();
        if shelf.most() == 0 || !Blank::may_be_kept_for(vma) {
            return None;
        }
        let folio = shelf.take(Blank::is_fit);
        // Fails if the work is already queued, which is as good.
        let _ = self.queue.enqueue(shelf.clone());
        folio
    }

    /// Returns the number of kept folios.
    pub(crate) fn count(&self) -> usize {
        self.shelf().len()
    }

    /// Returns the limit.
    pub(crate) fn most(&self) -> MaxReady {
        MaxReady(self.shelf().most())
    }

    /// Sets the limit, and frees the folios above it. Sleeps.
    pub(crate) fn set_most(&self, most: MaxReady) {
        let shelf = self.shelf();
        shelf.most.store(most.0, Relaxed);
        self.queue.flush();
        shelf.free(shelf.len().saturating_sub(most.0));
    }
}

#[kunit_tests(rust_dmirror_ready)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_a_limit() {
        assert_eq!(MaxReady::new(0), Ok(MaxReady::NONE));
        assert_eq!(MaxReady::new(64).map(MaxReady::get), Ok(64));
        assert_eq!(MaxReady::new(65), Err(EINVAL));
        assert_eq!(MaxReady::new(u64::MAX), Err(EINVAL));
    }

    /// Makes a shelf with two folios. `None` if no huge pages are free.
    fn two() -> Result<Option<Arc<Shelf>>> {
        let shelf = Shelf::new(MaxReady::new(2)?)?;
        assert_eq!(shelf.len(), 0);
        shelf.fill();
        assert!(shelf.len() <= 2);
        let is_full = shelf.len() == 2;
        if !is_full {
            pr_warn!("no huge pages at hand\n");
        }
        Ok(is_full.then_some(shelf))
    }

    #[test]
    fn there_are_never_more_than_wanted() -> Result {
        let Some(shelf) = two()? else {
            return Ok(());
        };
        shelf.fill();
        assert_eq!((shelf.len(), shelf.count()), (2, 2 * HUGE_PAGES));
        assert!(shelf.take(|_| true).is_some());
        assert_eq!(shelf.len(), 1);
        // The limit is not reached, so nothing is freed.
        assert!(shelf.take(|_| false).is_none());
        assert_eq!(shelf.len(), 1);
        assert_eq!(shelf.give_back(1), HUGE_PAGES);
        assert_eq!(shelf.give_back(1), 0);
        Ok(())
    }

    #[test]
    fn what_nobody_can_use_makes_room() -> Result {
        let Some(shelf) = two()? else {
            return Ok(());
        };
        assert!(shelf.take(|_| false).is_none());
        assert_eq!(shelf.len(), 1);
        Ok(())
    }

    #[test]
    fn less_are_wanted_at_once() -> Result {
        let ready = Ready::new(MaxReady::new(3)?)?;
        ready.shelf().fill();
        assert!(ready.count() <= 3);
        ready.set_most(MaxReady::new(1)?);
        assert!(ready.count() <= 1);
        assert_eq!(ready.most(), MaxReady(1));
        ready.set_most(MaxReady::NONE);
        ready.shelf().fill();
        assert_eq!(ready.count(), 0);
        Ok(())
    }
}
