// SPDX-License-Identifier: GPL-2.0

//! `src/policy/patience.rs` against a list of folios, the one that was refused last at its end.

use super::seeds_in;
use crate::policy::patience::{
    Patience,
    Verdict, //
};
use kernel::{
    prelude::*,
    time::{
        advance,
        Delta, //
    }, //
};
use proptest::prelude::*;

struct Folio {
    pfn: usize,
    since: u64,
    last: u64,
    times: u32,
}

#[derive(Default)]
struct Model(Vec<Folio>);

impl Model {
    fn refused(&mut self, pfn: usize, ms: u64) -> Verdict {
        self.0.retain(|one| ms - one.last < 1000);
        let mut one = match self.0.iter().position(|one| one.pfn == pfn) {
            Some(at) => self.0.remove(at),
            None => Folio {
                pfn,
                since: ms,
                last: ms,
                times: 0,
            },
        };
        if self.0.len() == 64 {
            self.0.remove(0);
        }
        one.last = ms;
        one.times += 1;
        if one.times >= 10 && ms - one.since >= 500 {
            return Verdict::Over;
        }
        let pause = (1..one.times).fold(1, |pause, _| (pause * 2).min(32));
        self.0.push(one);
        Verdict::Again(pause)
    }

    fn settled(&mut self, pfn: usize) {
        self.0.retain(|one| one.pfn != pfn);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Refused(usize),
    Settled(usize),
}

/// Operations, each so many milliseconds after the one before.
fn ops(
    folios: usize,
    least_ms: u64,
    nr: core::ops::Range<usize>,
) -> impl Strategy<Value = Vec<(u64, Op)>> {
    let time = prop_oneof![
        12 => least_ms..60u64,
        2 => 400..600u64,
        1 => 990..1010u64,
        1 => least_ms..3000u64,
    ];
    let op = prop_oneof![
        12 => (0..folios).prop_map(Op::Refused),
        1 => (0..folios).prop_map(Op::Settled),
    ];
    prop::collection::vec((time, op), nr)
}

fn check(ops: Vec<(u64, Op)>, begin: u64) -> Result<(), TestCaseError> {
    advance(Delta::from_nanos(begin as i64));
    let patience = KBox::pin_init(Patience::new(), GFP_KERNEL).unwrap();
    let mut model = Model::default();
    let mut ms = 0;
    for (time, op) in ops {
        advance(Delta::from_millis(time as i64));
        ms += time;
        match op {
            Op::Refused(pfn) => prop_assert_eq!(patience.refused(pfn), model.refused(pfn, ms)),
            Op::Settled(pfn) => {
                patience.settled(pfn);
                model.settled(pfn);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(seeds_in!("patience"))]

    #[test]
    fn a_few_folios_are_given_up_in_time(ops in ops(3, 0, 0..200), begin in 0..10_000_000_000u64) {
        check(ops, begin)?;
    }

    /// With a folio a millisecond at most, it is clear which was refused longest ago.
    #[test]
    fn of_many_folios_the_latest_are_kept(ops in ops(70, 1, 0..600)) {
        // A second is not enough for so many, unless they come fast.
        let fast = ops.into_iter().map(|(time, op)| (time.min(1 + time / 50), op));
        check(fast.collect(), 0)?;
    }
}
