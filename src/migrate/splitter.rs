// SPDX-License-Identifier: GPL-2.0

//! Splits large device folios for CPU faults that cannot move them whole.
//!
//! Inside a fault nothing good can be done without a huge page of system memory. The fault holds a
//! reference, so the folio cannot be split (K4). Its mapping can, but that leaves a large folio mapped by
//! PTEs, on which the next fault crashes an unfixed kernel if the page is zapped meanwhile (K19). So the fault
//! asks a worker to split the folio by address, returns, and is taken again by the CPU, until it finds a
//! small folio. Should the worker not get there in time, the fault does it the old way.
//!
//! Only for kernels without the fixes: see [`super::policy`].

use super::{
    nanos_since,
    now, //
};
use crate::layer::{
    mm::{
        fault::Fault,
        lock::MmapReadLock,
        migrate::{
            Batch,
            Kind,
            Select, //
        },
        pagemap::OwnerId,
        HUGE_SIZE, //
    },
    queue::OwnedQueue, //
};
use core::ops::ControlFlow;
use kernel::{
    impl_has_work,
    mm::Mm,
    new_spinlock,
    new_work,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        SpinLock, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    },
    workqueue::{
        Work,
        WorkItem, //
    }, //
};

/// Folios that are split at a time. With more of them, faults do without.
const PLACES: usize = 16;

/// How long a fault relies on the worker. Under emulation the worker was seen to take 2 ms.
const WAIT_MS: u64 = 200;

/// How long the worker remembers a folio that it could not split.
const REMEMBER_MS: u64 = 1000;

/// How often the worker tries, a millisecond apart: faults that are taken again hold the lock of the
/// folio now and then.
const TRIES: u32 = 50;

/// Pages that the worker collects, from the one that faulted on: if the folio is split, but whoever faulted was
/// faster and has the first, the others tell.
const LOOKED_AT: usize = 16;

/// What is to be split: the folio that is mapped at `address`.
struct Request {
    mm: ARef<Mm>,
    address: usize,
    owner: OwnerId,
}

enum State {
    /// Nobody works on it yet.
    Asked(Request),
    /// The worker is at it.
    Taken,
    /// The worker could not split it.
    Failed,
}

struct Place {
    /// The folio's first page.
    pfn: usize,
    since: Instant<Monotonic>,
    state: State,
}

impl Place {
    fn age_ms(&self) -> u64 {
        nanos_since(self.since) / 1_000_000
    }

    /// Whether faults on the folio may rely on the worker.
    fn is_pending(&self) -> bool {
        !matches!(self.state, State::Failed) && self.age_ms() < WAIT_MS
    }
}

#[pin_data]
struct Shared {
    /// Whether there is anything in `places`: almost never.
    any: Atomic<bool>,
    #[pin]
    places: SpinLock<[Option<Place>; PLACES]>,
    /// Folios that were split.
    done: Atomic<u64>,
    #[pin]
    work: Work<Shared>,
}

impl_has_work! {
    impl HasWork<Self> for Shared { self.work }
}

impl Shared {
    fn new() -> impl PinInit<Self> {
        pin_init!(Shared {
            any: Atomic::new(false),
            places <- new_spinlock!([const { None }; PLACES], "dmirror_splitter"),
            done: Atomic::new(0),
            work <- new_work!("dmirror_splitter"),
        })
    }

    /// Takes what was asked for, to work on it.
    fn take(&self) -> Option<(usize, Request)> {
        let mut places = self.places.lock();
        for place in places.iter_mut().flatten() {
            match core::mem::replace(&mut place.state, State::Taken) {
                State::Asked(request) => return Some((place.pfn, request)),
                other => place.state = other,
            }
        }
        None
    }

    /// Notes what came of it.
    fn finish(&self, pfn: usize, is_split: bool) {
        let mut places = self.places.lock();
        for slot in places.iter_mut() {
            if let Some(place) = slot.as_mut().filter(|place| place.pfn == pfn) {
                match is_split {
                    true => *slot = None,
                    false => place.state = State::Failed,
                }
            }
        }
        self.any.store(places.iter().any(Option::is_some), Relaxed);
        drop(places);
        if is_split {
            self.done.fetch_add(1, Relaxed);
        }
    }
}

impl Request {
    /// Splits the folio, if it is still there. Sleeps.
    fn split(&self) -> bool {
        let Ok(mut batch) = Batch::for_pages(LOOKED_AT) else {
            return false;
        };
        for _ in 0..TRIES {
            match self.attempt(&mut batch) {
                ControlFlow::Break(is_split) => return is_split,
                ControlFlow::Continue(()) => fsleep(Delta::from_millis(1)),
            }
        }
        false
    }

    /// One attempt: to collect a page alone splits the folio that it is of, in every process that maps it. If that
    /// is refused, nothing behind the page is collected, either.
    fn attempt(&self, batch: &mut Batch) -> ControlFlow<bool> {
        // A process that is gone faults no more.
        let Some(mm) = self.mm.mmget_not_zero() else {
            return ControlFlow::Break(true);
        };
        let Ok(mmap) = MmapReadLock::new(&mm) else {
            return ControlFlow::Break(false);
        };
        let Some(vma) = mmap.vma(self.address) else {
            return ControlFlow::Break(true);
        };
        let huge_end = (self.address | (HUGE_SIZE - 1)) + 1;
        let end = (self.address + LOOKED_AT * PAGE_SIZE)
            .min(huge_end)
            .min(vma.end());
        let range = self.address..end;
        let collected = batch.setup(vma, range, Select::DevicePrivate, false, self.owner);
        // What was collected is dropped at once, which maps the pages again.
        let is_split = collected.is_ok_and(|collected| {
            (0..collected.len()).any(|index| collected.kind(index) != Kind::Skipped)
        });
        match is_split {
            true => ControlFlow::Break(true),
            false => ControlFlow::Continue(()),
        }
    }
}

impl WorkItem for Shared {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        while let Some((pfn, request)) = this.take() {
            this.finish(pfn, request.split());
        }
    }
}

/// Splits folios of a device.
pub struct Splitter {
    // First: what is queued is done before the rest goes.
    queue: OwnedQueue,
    shared: Arc<Shared>,
}

impl Splitter {
    /// One that has nothing to do.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub fn new() -> Result<Self> {
        Ok(Splitter {
            queue: OwnedQueue::new(c"dmirror_splitter")?,
            shared: Arc::pin_init(Shared::new(), GFP_KERNEL)?,
        })
    }

    /// Whether the folio that begins at `pfn` is being split, so that a fault on it need only be taken again.
    #[inline]
    pub fn is_at(&self, pfn: usize) -> bool {
        self.shared.any.load(Relaxed) && self.is_pending(pfn)
    }

    #[cold]
    fn is_pending(&self, pfn: usize) -> bool {
        let places = self.shared.places.lock();
        places
            .iter()
            .flatten()
            .any(|place| place.pfn == pfn && place.is_pending())
    }

    /// Has the folio that begins at `pfn` split, on which `fault` cannot move it whole. If false, it will not
    /// be: there is no place, or the worker has tried before. Does not sleep.
    #[cold]
    pub fn ask(&self, fault: &Fault<'_>, pfn: usize, owner: OwnerId) -> bool {
        let request = Request {
            mm: ARef::from(&**fault.vma().mm()),
            address: fault.address(),
            owner,
        };
        let mut places = self.shared.places.lock();
        let is_over =
            |place: &Place| matches!(place.state, State::Failed) && place.age_ms() >= REMEMBER_MS;
        for slot in places.iter_mut() {
            if slot.as_ref().is_some_and(is_over) {
                // Without a reference to an mm: those go with the lock released.
                *slot = None;
            }
        }
        if let Some(place) = places.iter().flatten().find(|place| place.pfn == pfn) {
            let is_pending = place.is_pending();
            drop(places);
            return is_pending;
        }
        let Some(slot) = places.iter_mut().find(|slot| slot.is_none()) else {
            drop(places);
            return false;
        };
        *slot = Some(Place {
            pfn,
            since: now(),
            state: State::Asked(request),
        });
        self.shared.any.store(true, Relaxed);
        drop(places);
        // If it is queued already, it looks at all places before it ends.
        let _ = self.queue.enqueue(self.shared.clone());
        true
    }

    /// Folios that were split.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Relaxed)
    }

    /// Waits for what was asked for. Sleeps.
    #[cfg(CONFIG_KUNIT = "y")]
    pub fn flush(&self) {
        self.queue.flush();
    }
}
