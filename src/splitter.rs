// SPDX-License-Identifier: GPL-2.0

//! A worker that splits large device folios for CPU faults that cannot migrate them whole.
//!
//! Without a huge page of system memory, a fault cannot split the folio, because it holds a reference (K4). It can
//! make the core split the mapping. But then a large folio is mapped by PTEs, and a kernel without the fixes
//! crashes if such a page is zapped during the next fault on it (K19). The fault therefore asks this worker to
//! split the folio by address, and returns. The CPU faults again until the folio is small. If the worker cannot
//! split it, the fault counts as refused and asks again, as long as [`crate::policy::patience`] allows.
//!
//! Used on kernels without the fixes only: see [`crate::policy::plan`]. Ids are explained in docs/defects.md.

use crate::{
    clock::{
        nanos_since,
        now, //
    },
    layer::{
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
    }, //
};
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

/// The number of folios that are tracked; chosen. Faults on more folios are repeated until a place is free.
const PLACES: usize = 16;

/// How often the worker tries to split a folio, a millisecond apart; chosen. Repeated faults hold its lock now and
/// then.
const TRIES: u32 = 50;

/// The time in milliseconds for which a failure is kept, for the faults on the folio to see; chosen.
const REMEMBER_MS: u64 = 1000;

/// The number of pages that the worker collects, from the one that faulted on; chosen. After the split, a repeated
/// fault may lock the first page before the worker collects it. The other pages then show that the folio was split.
const LOOKED_AT: usize = 16;

/// A request to split the folio that is mapped at `address`.
struct Request {
    mm: ARef<Mm>,
    address: usize,
    owner: OwnerId,
    /// Attempts so far.
    tries: u32,
}

/// The answer to a fault that has asked for a split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// The worker will split the folio, or is busy with others: the CPU must fault again.
    Pending,
    /// The worker could not split the folio, and will try again.
    Refused,
}

/// The result of an attempt to split.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Attempt {
    /// The folio is split.
    Split,
    /// The address space or the mapping no longer exists.
    Gone,
    /// The folio could not be split, or has been migrated away.
    Refused,
    /// `mmap_lock` is held for writing. Faults wait for that as well.
    Busy,
}

enum State {
    /// The worker has not begun yet.
    Asked(Request),
    /// The worker is splitting the folio.
    Taken,
    /// The worker could not split the folio.
    Failed,
}

struct Place {
    /// The page frame number of the folio's first page.
    pfn: usize,
    since: Instant<Monotonic>,
    state: State,
}

impl Place {
    /// Returns whether a fault on the folio need only be repeated.
    fn is_pending(&self) -> bool {
        !matches!(self.state, State::Failed)
    }

    /// Returns whether the failure is so old that the place can be reused.
    fn is_over(&self) -> bool {
        !self.is_pending() && nanos_since(self.since) / 1_000_000 >= REMEMBER_MS
    }
}

type Places = [Option<Place>; PLACES];

#[pin_data]
struct Shared {
    /// Whether a place is in use. Almost always false.
    any: Atomic<bool>,
    #[pin]
    places: SpinLock<Places>,
    /// The number of folios that were split.
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

    /// Takes the request out of a place, to work on it.
    fn take(&self, at: usize) -> Option<Request> {
        let mut places = self.places.lock();
        let place = places.get_mut(at)?.as_mut()?;
        match core::mem::replace(&mut place.state, State::Taken) {
            State::Asked(request) => Some(request),
            other => {
                place.state = other;
                None
            }
        }
    }

    /// Records the result of an attempt. Returns whether there will be another one.
    fn put(&self, at: usize, mut request: Request, attempt: Attempt) -> bool {
        // Only refusals count: `Busy` passes, but a refused split may be refused for ever.
        request.tries += u32::from(attempt == Attempt::Refused);
        let is_over = request.tries >= TRIES;
        let is_again = matches!(attempt, Attempt::Refused | Attempt::Busy) && !is_over;
        // A request that is not put back is dropped after the lock is released: it may have the last reference.
        let mut request = Some(request);
        let mut places = self.places.lock();
        if let Some(slot) = places.get_mut(at) {
            match (attempt, slot.as_mut(), is_again) {
                (_, Some(place), true) => {
                    if let Some(request) = request.take() {
                        place.state = State::Asked(request);
                    }
                }
                (Attempt::Refused, Some(place), false) => {
                    place.state = State::Failed;
                    place.since = now();
                }
                _ => *slot = None,
            }
        }
        self.any.store(places.iter().any(Option::is_some), Relaxed);
        drop(places);
        if attempt == Attempt::Split {
            self.done.fetch_add(1, Relaxed);
        }
        is_again
    }
}

impl Request {
    /// Makes an attempt: collecting without COMPOUND splits the folio, in every process that maps it. If the folio
    /// cannot be split, nothing is collected. Sleeps.
    fn attempt(&self) -> Attempt {
        let Ok(mut batch) = Batch::for_pages(LOOKED_AT) else {
            return Attempt::Refused;
        };
        // The process has exited, so there will be no more faults.
        let Some(mm) = self.mm.mmget_not_zero() else {
            return Attempt::Gone;
        };
        // Does not wait for the lock, since other requests are behind this one.
        let Some(mmap) = MmapReadLock::try_new(&mm) else {
            return Attempt::Busy;
        };
        let Some(vma) = mmap.vma(self.address) else {
            return Attempt::Gone;
        };
        let huge_end = (self.address | (HUGE_SIZE - 1)) + 1;
        let end = (self.address + LOOKED_AT * PAGE_SIZE)
            .min(huge_end)
            .min(vma.end());
        let range = self.address..end;
        let collected = batch.setup(vma, range, Select::DevicePrivate, false, self.owner);
        // `collected` is dropped at once, which maps the pages again.
        let is_split = collected.is_ok_and(|collected| {
            (0..collected.len()).any(|index| collected.kind(index) != Kind::Skipped)
        });
        match is_split {
            true => Attempt::Split,
            false => Attempt::Refused,
        }
    }
}

impl WorkItem for Shared {
    type Pointer = Arc<Self>;

    /// Makes an attempt at each request in turn, so that a folio that cannot be split does not delay the others.
    fn run(this: Arc<Self>) {
        loop {
            let (mut any, mut is_again) = (false, false);
            for at in 0..PLACES {
                if let Some(request) = this.take(at) {
                    let attempt = request.attempt();
                    is_again |= this.put(at, request, attempt);
                    any = true;
                }
            }
            if !any {
                return;
            }
            if is_again {
                fsleep(Delta::from_millis(1));
            }
        }
    }
}

/// The worker of a device.
pub(crate) struct Splitter {
    // Dropped first, which waits for queued work.
    queue: OwnedQueue,
    shared: Arc<Shared>,
}

impl Splitter {
    /// Makes a worker without requests.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new() -> Result<Self> {
        Ok(Splitter {
            queue: OwnedQueue::new(c"dmirror_splitter")?,
            shared: Arc::pin_init(Shared::new(), GFP_KERNEL)?,
        })
    }

    /// Returns whether the folio at `pfn` is about to be split, so that a fault on it need only be repeated.
    #[inline]
    pub(crate) fn is_at(&self, pfn: usize) -> bool {
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

    /// Asks the worker to split the folio at `pfn`, which `fault` cannot migrate whole. Does not sleep.
    #[cold]
    pub(crate) fn ask(&self, fault: &Fault<'_>, pfn: usize, owner: OwnerId) -> Asked {
        let request = Request {
            mm: fault.mm(),
            address: fault.address(),
            owner,
            tries: 0,
        };
        let mut places = self.shared.places.lock();
        let known = places
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|place| place.pfn == pfn));
        let is_free = |slot: &Option<Place>| slot.as_ref().is_none_or(Place::is_over);
        let (at, answer) = match (known, places.iter().position(is_free)) {
            (Some(at), _) if places[at].as_ref().is_some_and(Place::is_pending) => {
                drop(places);
                return Asked::Pending;
            }
            (Some(at), _) => (at, Asked::Refused),
            (None, Some(at)) => (at, Asked::Pending),
            // No place is free. The worker continues with the other folios.
            (None, None) => {
                drop(places);
                return Asked::Pending;
            }
        };
        // The replaced place is empty or failed and has no `Request`, whose `mm` must not be dropped with the lock
        // held.
        places[at] = Some(Place {
            pfn,
            since: now(),
            state: State::Asked(request),
        });
        self.shared.any.store(true, Relaxed);
        drop(places);
        // If it is already queued or running, it will see the new request before it ends.
        let _ = self.queue.enqueue(self.shared.clone());
        answer
    }

    /// Returns the number of folios that were split.
    pub(crate) fn done(&self) -> u64 {
        self.shared.done.load(Relaxed)
    }

    /// Waits for all requests. Sleeps.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn flush(&self) {
        self.queue.flush();
    }
}
