// SPDX-License-Identifier: GPL-2.0

//! `src/migrate/splitter.rs` against an array of places. The worker runs in `flush()`.

use super::seeds_in;
use crate::{
    layer::mm::{
        fault::Fault,
        pagemap::OwnerId, //
    },
    migrate::splitter::Splitter, //
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

/// What the worker finds when it comes for a folio.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    /// The process is gone, or nothing is mapped there any more.
    NoProcess,
    Nothing,
    /// It can be split from then on, by the clock in milliseconds; whoever faulted may have its page by then.
    SplitFrom(u64, bool),
}

const ADDRESS: usize = 3 << 21;

impl Memory for Found {
    fn is_alive(&self) -> bool {
        *self != Found::NoProcess
    }

    fn collect(&self, address: usize) -> Option<bool> {
        match self {
            Found::SplitFrom(ms, is_taken) => {
                let is_there = !is_taken || address > ADDRESS;
                Some(clock() >= *ms * 1_000_000 && is_there)
            }
            _ => None,
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
    since: u64,
    found: Found,
    is_failed: bool,
}

struct Model {
    places: [Option<Place>; 16],
    done: u64,
}

impl Model {
    fn find(&self, pfn: usize) -> Option<Place> {
        self.places
            .iter()
            .flatten()
            .find(|place| place.pfn == pfn)
            .copied()
    }

    fn is_at(&self, pfn: usize, ms: u64) -> bool {
        self.find(pfn)
            .is_some_and(|place| !place.is_failed && ms - place.since < 200)
    }

    fn ask(&mut self, pfn: usize, found: Found, ms: u64) -> bool {
        for place in &mut self.places {
            *place = place.filter(|place| !place.is_failed || ms - place.since < 1000);
        }
        if self.find(pfn).is_some() {
            return self.is_at(pfn, ms);
        }
        let Some(place) = self.places.iter_mut().find(|place| place.is_none()) else {
            return false;
        };
        *place = Some(Place {
            pfn,
            since: ms,
            found,
            is_failed: false,
        });
        true
    }

    /// The worker tries for fifty milliseconds; gives the time at its end.
    fn flush(&mut self, mut ms: u64) -> u64 {
        for slot in &mut self.places {
            let Some(place) = slot.as_mut().filter(|place| !place.is_failed) else {
                continue;
            };
            let is_done = match place.found {
                Found::NoProcess | Found::Nothing => true,
                Found::SplitFrom(from, _) => {
                    let from = from.max(ms);
                    let is_in_time = from < ms + 50;
                    ms = from.min(ms + 50);
                    is_in_time
                }
            };
            match is_done {
                true => {
                    *slot = None;
                    self.done += 1;
                }
                false => place.is_failed = true,
            }
        }
        ms
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let found = prop_oneof![
        1 => Just(Found::NoProcess),
        1 => Just(Found::Nothing),
        6 => (0..3000u64, any::<bool>()).prop_map(|(ms, is_taken)| Found::SplitFrom(ms, is_taken)),
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
                    let memory = match found {
                        Found::SplitFrom(from, is_taken) => Found::SplitFrom(begin + from, is_taken),
                        other => other,
                    };
                    let mm = Mm::new(match memory {
                        Found::NoProcess => Found::Nothing,
                        other => other,
                    });
                    // Who faults is there, then.
                    let mm = mm.mmget_not_zero().unwrap();
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
                prop_assert_eq!(splitter.is_at(pfn), model.is_at(pfn, ms()));
            }
        }
    }
}
