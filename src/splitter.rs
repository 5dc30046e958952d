// SPDX-License-Identifier: GPL-2.0

//! Splits large device folios for CPU faults that cannot move them whole.
//!
//! Inside a fault nothing good can be done without a huge page of system memory. The fault holds a
//! reference, so the folio cannot be split (K4). Its mapping can, but that leaves a large folio mapped by
//! PTEs, on which the next fault crashes an unfixed kernel if the page is zapped meanwhile (K19). So the fault
//! asks a worker to split the folio by address, returns, and is taken again by the CPU, until it finds a
//! small folio. A folio that the worker could not split is as one that somebody holds: the fault asks again, for as
//! long as its patience lasts.
//!
//! Only for kernels without the fixes: see [`crate::policy::plan`].

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

/// Folios that are split at a time. Faults on more of them wait for a place.
const PLACES: usize = 16;

/// How often the worker tries to split a folio, a millisecond apart: faults that are taken again hold its lock now
/// and then.
const TRIES: u32 = 50;

/// How long it is kept that the worker could not split a folio, for the faults on it to find.
const REMEMBER_MS: u64 = 1000;

/// Pages that the worker collects, from the one that faulted on: if the folio is split, but whoever faulted was
/// faster and has the first, the others tell.
const LOOKED_AT: usize = 16;

/// What is to be split: the folio that is mapped at `address`.
struct Request {
    mm: ARef<Mm>,
    address: usize,
    owner: OwnerId,
    /// Attempts so far.
    tries: u32,
}

/// What a fault on a folio is told that cannot move it whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// The worker is about to split it, or busy with others: the fault is to be taken again.
    Pending,
    /// The worker could not split it, and tries again.
    Refused,
}

/// What an attempt came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Attempt {
    /// It is split.
    Split,
    /// Nobody maps it there any more.
    Gone,
    /// Somebody holds it, or has moved it away.
    Refused,
    /// Whoever changes the address space has it locked, and faults wait for that, too.
    Busy,
}

enum State {
    /// The worker comes to it.
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
    /// Whether faults on the folio need only be taken again.
    fn is_pending(&self) -> bool {
        !matches!(self.state, State::Failed)
    }

    /// Whether nobody seems to wait for it any more.
    fn is_over(&self) -> bool {
        !self.is_pending() && nanos_since(self.since) / 1_000_000 >= REMEMBER_MS
    }
}

type Places = [Option<Place>; PLACES];

#[pin_data]
struct Shared {
    /// Whether there is anything in `places`: almost never.
    any: Atomic<bool>,
    #[pin]
    places: SpinLock<Places>,
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

    /// Takes the request in one place, to work on it.
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

    /// Records the result of an attempt. True if it is to be tried again.
    fn put(&self, at: usize, mut request: Request, attempt: Attempt) -> bool {
        // Once more would not help a folio that nobody lets go.
        request.tries += u32::from(attempt == Attempt::Refused);
        let is_over = request.tries >= TRIES;
        let is_again = matches!(attempt, Attempt::Refused | Attempt::Busy) && !is_over;
        // What is not put back goes after the lock: it may be the last reference.
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
    /// One attempt: to collect a page alone splits the folio that it is of, in every process that maps it. If that
    /// is refused, nothing behind the page is collected, either. Sleeps.
    fn attempt(&self) -> Attempt {
        let Ok(mut batch) = Batch::for_pages(LOOKED_AT) else {
            return Attempt::Refused;
        };
        // A process that is gone faults no more.
        let Some(mm) = self.mm.mmget_not_zero() else {
            return Attempt::Gone;
        };
        // Others wait behind this one.
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
        // What was collected is dropped at once, which maps the pages again.
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

    /// All that is asked for in turns: what cannot be split keeps nothing else waiting.
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

/// Splits folios of a device.
pub(crate) struct Splitter {
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
    pub(crate) fn new() -> Result<Self> {
        Ok(Splitter {
            queue: OwnedQueue::new(c"dmirror_splitter")?,
            shared: Arc::pin_init(Shared::new(), GFP_KERNEL)?,
        })
    }

    /// Whether the folio that begins at `pfn` is about to be split, so that a fault on it need only be taken again.
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

    /// Has the folio that begins at `pfn` split, on which `fault` cannot move it whole. Does not sleep.
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
            // The worker gets on with the others meanwhile.
            (None, None) => {
                drop(places);
                return Asked::Pending;
            }
        };
        // What was there has no reference to an mm: those go with the lock released.
        places[at] = Some(Place {
            pfn,
            since: now(),
            state: State::Asked(request),
        });
        self.shared.any.store(true, Relaxed);
        drop(places);
        // If it is queued already, it looks at all places before it ends.
        let _ = self.queue.enqueue(self.shared.clone());
        answer
    }

    /// Folios that were split.
    pub(crate) fn done(&self) -> u64 {
        self.shared.done.load(Relaxed)
    }

    /// Waits for what was asked for. Sleeps.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn flush(&self) {
        self.queue.flush();
    }
}
