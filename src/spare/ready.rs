// SPDX-License-Identifier: GPL-2.0

//! Huge folios of system memory that are there before anybody waits for one.
//!
//! What comes back from the device is copied into a new folio. The page allocator may clear that first
//! (`init_on_alloc`, on by default in many kernels), which takes a huge one about as long as the copy
//! does, while a process waits. So a worker gets a few beforehand, and others when they are taken: on
//! another CPU, if there is one that has nothing better to do. When memory is short they go back.
//!
//! Nobody can move what is kept, so it comes from memory that is not to be moved, and stays there when a
//! process gets it: that is the price, which a machine with a zone for movable memory does not pay.

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

/// The most folios that a device keeps ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MaxReady(usize);

impl MaxReady {
    /// None are kept.
    pub(crate) const NONE: MaxReady = MaxReady(0);

    /// The default of `huge_ready=`, for tests.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) const DEFAULT: MaxReady = MaxReady(4);

    const LARGEST: usize = 64;

    /// From a number.
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

    /// The number.
    pub(crate) fn get(self) -> usize {
        self.0
    }
}

/// Where they are kept.
#[pin_data]
struct Shelf {
    most: Atomic<usize>,
    /// Nothing is allocated while it is locked: who waits for memory locks it, too.
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

    /// Gets as many as there is room for, if they are at hand. May sleep.
    fn fill(&self) {
        for _ in self.len()..self.most() {
            let Ok(folio) = Blank::to_keep(Effort::AtHand) else {
                return;
            };
            // Room is never short by the bounds of `MaxReady`; what does not fit is freed, after the lock.
            let _refused = self.folios.lock().push_within_capacity(folio);
        }
    }

    /// Takes one that is fit. If none is, and there is no room for others, one goes: they would be in
    /// the way for ever.
    fn take(&self, is_fit: impl Fn(&Blank) -> bool) -> Option<Blank> {
        let mut folios = self.folios.lock();
        if let Some(at) = folios.iter().position(is_fit) {
            return folios.remove(at).ok();
        }
        let useless = match folios.len() >= self.most() {
            true => folios.remove(0).ok(),
            false => None,
        };
        // Freed after the lock.
        drop(folios);
        drop(useless);
        None
    }

    /// Frees so many, each after the lock; gives how many they were.
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
    // First: what is queued is done before the shelf goes.
    queue: OwnedQueue,
    shrinker: Shrinker<Shelf>,
}

impl Ready {
    /// None yet: the first are made when one is wanted.
    pub(crate) fn new(most: MaxReady) -> Result<Self> {
        Ok(Ready {
            queue: OwnedQueue::new(c"rust_dmirror")?,
            shrinker: Shrinker::new(c"rust_dmirror", Shelf::new(most)?)?,
        })
    }

    fn shelf(&self) -> &Arc<Shelf> {
        self.shrinker.kept()
    }

    /// One that may be used in `vma`, if there is one; others are on their way then.
    pub(crate) fn take(&self, vma: Beneficiary<'_>) -> Option<Blank> {
        let shelf = self.shelf();
        if shelf.most() == 0 || !Blank::may_be_kept_for(vma) {
            return None;
        }
        let folio = shelf.take(Blank::is_fit);
        // If it is queued already, it is not queued twice.
        let _ = self.queue.enqueue(shelf.clone());
        folio
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.shelf().len()
    }

    /// How many there may be.
    pub(crate) fn most(&self) -> MaxReady {
        MaxReady(self.shelf().most())
    }

    /// Changes that. Sleeps: when it returns, there are not more.
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

    /// Two of them, if they are at hand, which nobody promises.
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
        // There is room, so nothing goes.
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
