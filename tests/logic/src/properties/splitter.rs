// SPDX-License-Identifier: GPL-2.0

//! `src/splitter.rs` against an array of places. The worker runs in `flush()`.

use super::seeds_in;
use crate::{
    layer::mm::{
        fault::Fault,
        pagemap::OwnerId, //
    },
    splitter::{
        Asked,
        Splitter, //
    }, //
};
use kernel::{
    mm::{
        Memory,
        Mm, //
    },
    time::{
        advance,
        clock,
        Delta, //
    }, //
};
use proptest::prelude::*;
use std::sync::{
    atomic::{
        AtomicBool,
        Ordering::Relaxed, //
    },
    Arc, //
};

/// What the worker finds when it comes for a folio.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    /// The process is gone, or nothing is mapped there any more.
    NoProcess,
    Nothing,
    /// It can be split from then on, by the clock in milliseconds; whoever faulted may have its page by then.
    SplitFrom(u64, bool),
    /// Somebody holds `mmap_lock` up to then; afterwards it can be split.
    LockedTo(u64),
}

const ADDRESS: usize = 3 << 21;

/// Is there while it faults.
#[derive(Clone)]
struct Process {
    is_faulting: Arc<AtomicBool>,
    memory: Found,
}

impl Memory for Process {
    fn is_alive(&self) -> bool {
        self.is_faulting.load(Relaxed) || self.memory != Found::NoProcess
    }

    fn is_locked(&self) -> bool {
        matches!(self.memory, Found::LockedTo(ms) if clock() < ms * 1_000_000)
    }

    fn collect(&self, address: usize) -> Option<bool> {
        match self.memory {
            Found::NoProcess | Found::Nothing => None,
            Found::SplitFrom(ms, is_taken) => {
                let is_there = !is_taken || address > ADDRESS;
                Some(clock() >= ms * 1_000_000 && is_there)
            }
            Found::LockedTo(_) => Some(true),
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Ask(usize, Found),
    Wait(u64),
    Flush,
}

#[derive(Clone, Copy)]
struct Place {
    pfn: usize,
    /// Since when it has failed.
    failed: Option<u64>,
    found: Found,
    tries: u32,
}

struct Model {
    places: [Option<Place>; 16],
    done: u64,
}

impl Model {
    fn is_at(&self, pfn: usize) -> bool {
        let is_it = |place: &Place| place.pfn == pfn && place.failed.is_none();
        self.places.iter().flatten().any(is_it)
    }

    fn ask(&mut self, pfn: usize, found: Found, ms: u64) -> Asked {
        if self.is_at(pfn) {
            return Asked::Pending;
        }
        let is_its = |place: &Option<Place>| place.is_some_and(|place| place.pfn == pfn);
        let is_free = |place: &Option<Place>| match place {
            None => true,
            Some(place) => place.failed.is_some_and(|since| ms - since >= 1000),
        };
        let (at, answer) = match self.places.iter().position(is_its) {
            Some(at) => (Some(at), Asked::Refused),
            None => (self.places.iter().position(is_free), Asked::Pending),
        };
        if let Some(at) = at {
            self.places[at] = Some(Place {
                pfn,
                failed: None,
                found,
                tries: 0,
            });
        }
        answer
    }

    /// The worker goes round, a millisecond apart, until nothing is left to try; gives the time at its end.
    fn flush(&mut self, mut ms: u64) -> u64 {
        loop {
            let mut is_again = false;
            for slot in &mut self.places {
                let Some(place) = slot.as_mut().filter(|place| place.failed.is_none()) else {
                    continue;
                };
                let is_split = match place.found {
                    Found::NoProcess | Found::Nothing => {
                        *slot = None;
                        continue;
                    }
                    Found::SplitFrom(from, _) => ms >= from,
                    Found::LockedTo(to) if ms < to => {
                        is_again = true;
                        continue;
                    }
                    Found::LockedTo(_) => true,
                };
                if is_split {
                    *slot = None;
                    self.done += 1;
                    continue;
                }
                place.tries += 1;
                match place.tries < 50 {
                    true => is_again = true,
                    false => place.failed = Some(ms),
                }
            }
            if !is_again {
                return ms;
            }
            ms += 1;
        }
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let found = prop_oneof![
        1 => Just(Found::NoProcess),
        1 => Just(Found::Nothing),
        6 => (0..3000u64, any::<bool>()).prop_map(|(ms, is_taken)| Found::SplitFrom(ms, is_taken)),
        1 => (0..100u64).prop_map(Found::LockedTo),
    ];
    let op = prop_oneof![
        8 => (0..24usize, found).prop_map(|(pfn, found)| Op::Ask(pfn, found)),
        1 => prop_oneof![0..60u64, 190..210u64, 700..1010u64].prop_map(Op::Wait),
        1 => Just(Op::Flush),
    ];
    prop::collection::vec(op, 0..80)
}

proptest! {
    #![proptest_config(seeds_in!("splitter"))]

    #[test]
    fn faults_rely_on_the_worker_as_long_as_they_should(ops in ops()) {
        // Cases share a thread, and so its clock.
        let begin = clock() / 1_000_000;
        let ms = || clock() / 1_000_000 - begin;
        let splitter = Splitter::new().unwrap();
        let mut model = Model { places: [None; 16], done: 0 };
        for op in ops {
            match op {
                Op::Ask(pfn, found) => {
                    let found = match found {
                        Found::LockedTo(of) => Found::LockedTo(ms() + of),
                        other => other,
                    };
                    let memory = match found {
                        Found::SplitFrom(from, is_taken) => Found::SplitFrom(begin + from, is_taken),
                        Found::LockedTo(to) => Found::LockedTo(begin + to),
                        other => other,
                    };
                    let process = Process { is_faulting: Arc::default(), memory };
                    process.is_faulting.store(true, Relaxed);
                    let mm = Mm::new(process.clone()).mmget_not_zero().unwrap();
                    process.is_faulting.store(false, Relaxed);
                    let fault = Fault { mm: &mm, address: ADDRESS };
                    let asked = splitter.ask(&fault, pfn, OwnerId(1));
                    prop_assert_eq!(asked, model.ask(pfn, found, ms()));
                }
                Op::Wait(ms) => advance(Delta::from_millis(ms as i64)),
                Op::Flush => {
                    let end = model.flush(ms());
                    splitter.flush();
                    prop_assert_eq!(ms(), end);
                }
            }
            prop_assert_eq!(splitter.done(), model.done);
            for pfn in 0..24 {
                prop_assert_eq!(splitter.is_at(pfn), model.is_at(pfn));
            }
        }
    }
}
