// SPDX-License-Identifier: GPL-2.0

//! Races: loom runs each test once for every interleaving of its threads, and for every value that a
//! relaxed load may return. [`model_bounded`] tries fewer interleavings.

use crate::{
    inject::{
        Point,
        Points, //
    },
    layer::mm::{
        fault::Fault,
        lock::Beneficiary,
        pagemap::OwnerId,
        system::set_next, //
    },
    ledger::{
        Direction,
        Ledger, //
    },
    pause::{
        Armed,
        Directions,
        Pause,
        PausePoint,
        Timeout, //
    },
    policy::{
        around::{
            FaultAround,
            Streams, //
        },
        patience::{
            Patience,
            Verdict, //
        }, //
    },
    spare::ready::{
        MaxReady,
        Ready, //
    },
    splitter::{
        Asked,
        Splitter, //
    },
    stats::Counter,
    trace, //
};
use kernel::{
    mm::{
        Memory,
        Mm, //
    },
    prelude::*,
    sync::Arc,
    time::clock, //
};
use loom::{
    model,
    model::Builder,
    thread::spawn, //
};
use std::sync::atomic::{
    AtomicUsize,
    Ordering, //
};

fn shared<T, E>(init: impl PinInit<T, E>) -> Arc<T>
where
    Error: From<E>,
{
    Arc::pin_init(init, GFP_KERNEL).unwrap()
}

/// As `model()`, but switches threads at most twice where a thread could go on. The splitter's worker locks
/// each of its places; all interleavings of that would take a minute.
fn model_bounded(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(test);
}

/// Runs both concurrently.
fn both(one: impl FnOnce() + 'static, other: impl FnOnce() + 'static) {
    let other = spawn(other);
    one();
    other.join().unwrap();
}

#[test]
fn counters_lose_nothing() {
    model(|| {
        let counter = Arc::new(Counter::default(), GFP_KERNEL).unwrap();
        counter.add(1);
        let add = |by: [u64; 2]| {
            let counter = counter.clone();
            move || {
                for by in by {
                    let before = counter.get();
                    counter.add(by);
                    assert!(counter.get() >= before + by);
                }
            }
        };
        both(add([1, 2]), add([10, 20]));
        assert_eq!(counter.get(), 34);
    });
}

/// Of two faults in one place, the word of one is lost; a third fault sees either word, never a mixture.
#[test]
fn streams_are_never_mixed() {
    model(|| {
        let streams = Arc::new(Streams::default(), GFP_KERNEL).unwrap();
        streams.brought(10, 1);
        let bring = |page, pages| {
            let streams = streams.clone();
            move || streams.brought(page, pages)
        };
        let look = |streams: &Streams| {
            [11, 24, 132].map(|page| streams.pages(page, FaultAround::DEFAULT) as u32)
        };
        let (first, second) = (spawn(bring(20, 4)), spawn(bring(100, 32)));
        let seen = look(&streams);
        for (pages, goes_on) in seen.into_iter().zip([2, 8, 64]) {
            assert!(pages == 1 || pages == goes_on);
        }
        first.join().unwrap();
        second.join().unwrap();
        assert!([[1, 8, 1], [1, 1, 64]].contains(&look(&streams)));
    });
}

/// The flag that is read without the lock is set whenever the table has a folio.
#[test]
fn patience_knows_what_it_keeps() {
    model(|| {
        let patience = shared(Patience::new());
        assert_eq!(patience.refused(2), Verdict::Again(1));
        let (refused, settled) = (patience.clone(), patience.clone());
        both(
            move || assert_eq!(refused.refused(1), Verdict::Again(1)),
            move || settled.settled(2),
        );
        // settled() of either folio has removed it.
        patience.settled(1);
        assert_eq!(patience.refused(1), Verdict::Again(1));
        assert_eq!(patience.refused(2), Verdict::Again(1));
    });
}

#[test]
fn refusals_of_one_folio_add_up() {
    model(|| {
        let patience = shared(Patience::new());
        patience.settled(1);
        let refuse = || {
            let patience = patience.clone();
            move || {
                assert!(matches!(patience.refused(1), Verdict::Again(1 | 2)));
            }
        };
        both(refuse(), refuse());
        assert_eq!(patience.refused(1), Verdict::Again(4));
    });
}

/// A point that is armed once fails for one of two threads; a point that is armed meanwhile stays armed.
#[test]
fn points_fail_as_often_as_they_are_told() {
    model(|| {
        let points = shared(Points::new());
        points.arm(Point::Copy, 0, 1);
        let fire = || {
            let points = points.clone();
            move || points.fires(Point::Copy)
        };
        let (first, second) = (spawn(fire()), spawn(fire()));
        points.arm(Point::ExtraRef, 0, 1);
        let fired = [first.join().unwrap(), second.join().unwrap()];
        assert!(fired[0] != fired[1]);
        assert!(points.fires(Point::ExtraRef));
        assert!(!points.fires(Point::ExtraRef));
        assert_eq!(points.state(Point::Copy).hits, 1);
    });
}

/// Stops the next migration, for this many milliseconds at most.
fn armed(ms: u64) -> Armed {
    Armed {
        point: PausePoint::Filled,
        directions: Directions::Any,
        skip: 0,
        timeout: Timeout::new(ms).unwrap(),
    }
}

fn is_consistent(pause: &Pause) {
    let status = pause.status();
    assert_eq!(status.waiting, 0);
    assert_eq!(pause.is_armed(), status.armed.is_some());
}

/// After wait(), resume() ends the stop, long before its limit.
#[test]
fn a_stopped_migration_is_resumed() {
    model(|| {
        let pause = shared(Pause::new());
        pause.arm(armed(10_000));
        let (passed, resumed) = (pause.clone(), pause.clone());
        both(
            move || {
                passed.pass(PausePoint::Filled, Direction::Fault);
                assert!(clock() < 1_000_000_000);
            },
            move || {
                assert_eq!(resumed.wait(armed(10_000).timeout), Ok(()));
                resumed.resume();
            },
        );
        is_consistent(&pause);
        assert_eq!(pause.status().reached, 1);
    });
}

/// After clear(), no migration stays stopped or stops, whether it arrived before or after.
#[test]
fn clearing_lets_everybody_go() {
    model(|| {
        let pause = shared(Pause::new());
        pause.arm(armed(10_000));
        let (passed, cleared) = (pause.clone(), pause.clone());
        both(
            move || {
                passed.pass(PausePoint::Filled, Direction::Fault);
                assert!(clock() < 1_000_000_000);
            },
            move || cleared.clear(),
        );
        is_consistent(&pause);
        assert!(!pause.is_armed());
    });
}

/// Of two migrations that arrive concurrently, one stops.
#[test]
fn one_of_two_migrations_stops() {
    model(|| {
        let pause = shared(Pause::new());
        pause.arm(armed(1));
        let pass = || {
            let pause = pause.clone();
            move || pause.pass(PausePoint::Filled, Direction::Evict)
        };
        both(pass(), pass());
        is_consistent(&pause);
        assert_eq!(pause.status().reached, 1);
    });
}

/// A pause that is armed while a migration stops at the last one is not lost.
#[test]
fn what_is_armed_anew_is_known() {
    model(|| {
        let pause = shared(Pause::new());
        pause.arm(armed(1));
        let (passed, armed_anew) = (pause.clone(), pause.clone());
        both(
            move || passed.pass(PausePoint::Filled, Direction::Evict),
            move || {
                armed_anew.arm(Armed {
                    point: PausePoint::Finalize,
                    ..armed(1)
                });
            },
        );
        is_consistent(&pause);
        assert!(pause.is_armed());
    });
}

/// The static key never underflows, and follows the flag.
#[test]
fn the_ledger_is_switched_by_anybody() {
    model(|| {
        let ledger = Ledger::new().unwrap();
        ledger.is_enabled();
        ledger.enable(false);
        let switch = |on| {
            let ledger = ledger.clone();
            move || ledger.enable(on)
        };
        both(switch(true), switch(false));
        assert_eq!(ledger.is_enabled(), trace::is_ledger_enabled());
        drop(ledger);
        assert!(!trace::is_ledger_enabled());
    });
}

/// An address space in which every split succeeds. Counts the splits; loom does not interleave that.
#[derive(Clone, Default)]
struct Splits(std::sync::Arc<AtomicUsize>);

impl Memory for Splits {
    fn is_alive(&self) -> bool {
        true
    }

    fn is_locked(&self) -> bool {
        false
    }

    fn collect(&self, _: usize) -> Option<bool> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Some(true)
    }
}

/// The worker never returns while a request is left.
#[test]
fn the_worker_overlooks_nobody() {
    model_bounded(|| {
        let splitter = Arc::new(Splitter::new().unwrap(), GFP_KERNEL).unwrap();
        assert!(!splitter.is_at(1));
        assert_eq!(splitter.done(), 0);
        let ask = |pfn| {
            let splitter = splitter.clone();
            move || {
                let mm = Mm::new(Splits::default()).mmget_not_zero().unwrap();
                let fault = Fault {
                    mm: &mm,
                    address: 0,
                };
                assert_eq!(splitter.ask(&fault, pfn, OwnerId(1)), Asked::Pending);
            }
        };
        both(ask(1), ask(2));
        splitter.flush();
        assert_eq!(splitter.done(), 2);
        assert!(!splitter.is_at(1) && !splitter.is_at(2));
    });
}

/// A requested folio stays pending until it is split, even if the worker finishes another one meanwhile.
#[test]
fn what_was_asked_for_is_known() {
    model_bounded(|| {
        let splitter = Arc::new(Splitter::new().unwrap(), GFP_KERNEL).unwrap();
        splitter.is_at(2);
        splitter.done();
        let (first, second) = (Splits::default(), Splits::default());
        let ask = |pfn, memory: &Splits| {
            let mm = Mm::new(memory.clone()).mmget_not_zero().unwrap();
            let fault = Fault {
                mm: &mm,
                address: 0,
            };
            assert_eq!(splitter.ask(&fault, pfn, OwnerId(1)), Asked::Pending);
        };
        // The worker may finish the first at any moment of the second request.
        ask(1, &first);
        ask(2, &second);
        let is_known = splitter.is_at(2);
        assert!(is_known || second.0.load(Ordering::SeqCst) > 0);
        splitter.flush();
        assert_eq!(splitter.done(), 2);
    });
}

/// When set_most() returns, no more folios are kept, and the worker gets no more of them.
#[test]
fn a_limit_holds_when_it_is_set() {
    model(|| {
        set_next([true; 9]);
        let ready = Arc::new(Ready::new(MaxReady::new(2).unwrap()).unwrap(), GFP_KERNEL).unwrap();
        assert_eq!((ready.count(), ready.most().get()), (0, 2));
        let (taken, limited) = (ready.clone(), ready.clone());
        both(
            move || drop(taken.take(Beneficiary(&true))),
            move || {
                limited.set_most(MaxReady::new(1).unwrap());
                assert!(limited.count() <= 1);
            },
        );
        ready.set_most(MaxReady::NONE);
        assert_eq!(ready.count(), 0);
    });
}
