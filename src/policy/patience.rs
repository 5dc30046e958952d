// SPDX-License-Identifier: GPL-2.0

//! Decides how long CPU faults on a folio with extra references are repeated, before the process gets SIGBUS.
//!
//! A fault must not wait for the extra references to be put. The core has taken the folio's lock and a reference
//! for the fault, and the holder of another reference may need that lock, for example a collector that splits the
//! folio. A refused fault therefore returns, so that the core drops both, and the CPU faults again. Before it
//! returns, it pauses for at most [`LONGEST_PAUSE_MS`], with lock and reference held: after `migrate_to_ram()`
//! returns, the driver cannot act.
//!
//! This file limits the repetitions. For each folio it records since when and how often faults were refused.

use crate::clock::{
    nanos_since,
    now, //
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        SpinLock, //
    },
    time::{
        Instant,
        Monotonic, //
    }, //
};

/// The time in milliseconds for which faults on a folio must have been refused, before it is given up; chosen.
const LIMIT_MS: u64 = 500;

/// The number of refusals that it also takes: time alone means nothing on a machine that stands still for a while.
const LIMIT_TIMES: u32 = 10;

/// The time in milliseconds without a refusal after which a folio is forgotten; chosen.
const FORGET_MS: u64 = 1000;

/// The longest pause in a fault, in milliseconds; chosen.
const LONGEST_PAUSE_MS: u32 = 32;

/// The number of folios that are tracked; chosen. If there are more, the one whose last refusal is oldest is dropped.
const PLACES: usize = 64;

#[derive(Clone, Copy)]
struct Refusal {
    pfn: usize,
    since: u64,
    last: u64,
    times: u32,
}

/// What a refused fault does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Pause for this number of milliseconds, and let the CPU fault again.
    Again(u32),
    /// Give up, with SIGBUS.
    Over,
}

struct Refusals {
    places: [Option<Refusal>; PLACES],
}

impl Refusals {
    /// Makes an empty list, initialised in place: it is too large for the stack.
    fn new() -> impl pin_init::Init<Self> {
        init!(Refusals {
            places <- pin_init::init_array_from_fn(|_| None),
        })
    }

    fn refused(&mut self, pfn: usize, ms: u64) -> Verdict {
        let is_known = |slot: &Option<Refusal>| {
            slot.is_some_and(|one| one.pfn == pfn && ms.saturating_sub(one.last) < FORGET_MS)
        };
        let at = match self.places.iter().position(is_known) {
            Some(at) => at,
            None => {
                // An empty place, or the one whose last refusal is oldest.
                let age = |slot: &Option<Refusal>| slot.map_or(0, |one| one.last + 1);
                let oldest = (0..PLACES)
                    .min_by_key(|at| age(&self.places[*at]))
                    .unwrap_or(0);
                self.places[oldest] = None;
                oldest
            }
        };
        let one = self.places[at].get_or_insert(Refusal {
            pfn,
            since: ms,
            last: ms,
            times: 0,
        });
        one.last = ms;
        one.times = one.times.saturating_add(1);
        if one.times >= LIMIT_TIMES && ms - one.since >= LIMIT_MS {
            self.places[at] = None;
            return Verdict::Over;
        }
        Verdict::Again(LONGEST_PAUSE_MS.min(1 << (one.times - 1).min(16)))
    }

    fn settled(&mut self, pfn: usize) {
        for slot in &mut self.places {
            *slot = slot.filter(|one| one.pfn != pfn);
        }
    }

    fn is_empty(&self) -> bool {
        self.places.iter().all(Option::is_none)
    }
}

/// The refusals of a device's CPU faults.
#[pin_data]
pub(crate) struct Patience {
    begin: Instant<Monotonic>,
    /// Whether any folio is tracked. Almost always false.
    any: Atomic<bool>,
    #[pin]
    refusals: SpinLock<Refusals>,
}

impl Patience {
    /// Makes it, without refusals.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Patience {
            begin: now(),
            any: Atomic::new(false),
            refusals <- new_spinlock!(Refusals::new(), "dmirror_patience"),
        })
    }

    /// Records that a fault on a folio was refused. Returns what the fault does.
    pub(crate) fn refused(&self, pfn: usize) -> Verdict {
        let mut refusals = self.refusals.lock();
        let verdict = refusals.refused(pfn, nanos_since(self.begin) / 1_000_000);
        self.any.store(!refusals.is_empty(), Relaxed);
        verdict
    }

    /// Records that a fault on a folio succeeded.
    #[inline]
    pub(crate) fn settled(&self, pfn: usize) {
        if self.any.load(Relaxed) {
            self.forget(pfn);
        }
    }

    #[cold]
    fn forget(&self, pfn: usize) {
        let mut refusals = self.refusals.lock();
        refusals.settled(pfn);
        self.any.store(!refusals.is_empty(), Relaxed);
    }
}

#[kunit_tests(rust_dmirror_patience)]
mod tests {
    use super::*;

    const NONE: Refusals = Refusals {
        places: [None; PLACES],
    };

    /// Returns when a folio is given up, if ever, that is refused each `every` milliseconds.
    fn end(every: u64) -> Option<u64> {
        let mut refusals = NONE;
        (0..1000)
            .map(|round| 7 + round * every)
            .find(|ms| refusals.refused(3, *ms) == Verdict::Over)
            .map(|ms| ms - 7)
    }

    #[test]
    fn it_ends_after_time_and_tries() {
        assert_eq!(end(1), Some(LIMIT_MS));
        assert_eq!(end(100), Some(900));
        // Refusals so far apart are not counted together.
        assert_eq!(end(FORGET_MS), None);
    }

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut refusals = NONE;
        for pause in [1, 2, 4, 8, 16, 32, 32] {
            assert_eq!(refusals.refused(3, 0), Verdict::Again(pause));
        }
    }

    #[test]
    fn the_first_folio_keeps_its_place() {
        let mut refusals = NONE;
        // At the very beginning, when "never" and "at 0 ms" are easily taken for one.
        assert_eq!(refusals.refused(1, 0), Verdict::Again(1));
        assert_eq!(refusals.refused(2, 0), Verdict::Again(1));
        assert_eq!(refusals.refused(1, 0), Verdict::Again(2));
    }

    #[test]
    fn success_begins_anew() {
        let mut refusals = NONE;
        for ms in 0..LIMIT_MS {
            assert_ne!(refusals.refused(3, ms), Verdict::Over);
        }
        refusals.settled(3);
        assert!(refusals.is_empty());
        assert_eq!(refusals.refused(3, LIMIT_MS), Verdict::Again(1));
    }

    #[test]
    fn folios_do_not_concern_each_other() {
        let mut refusals = NONE;
        for pfn in 0..PLACES {
            assert_eq!(refusals.refused(pfn, pfn as u64), Verdict::Again(1));
        }
        assert_eq!(refusals.refused(PLACES, 100), Verdict::Again(1));
        // Only the oldest was dropped for it.
        assert_eq!(refusals.refused(1, 101), Verdict::Again(2));
        assert_eq!(refusals.refused(0, 102), Verdict::Again(1));
    }
}
