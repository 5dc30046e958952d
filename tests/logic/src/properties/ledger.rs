// SPDX-License-Identifier: GPL-2.0

//! `src/ledger/` against a list of all records that were ever written.

use super::seeds_in;
use crate::{
    layer::mm::folio::Counts,
    ledger::{
        Direction,
        Ledger,
        Record,
        Stage,
        KEPT, //
    },
    trace, //
};
use kernel::prelude::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Enable(bool),
    /// Records with these numbers of references, expected ones and held ones.
    Write(Stage, Vec<(i32, i32, i32)>),
    /// So many that are as they should be.
    Fill(usize),
}

fn record(stage: Stage, pfn: usize, refs: i32, expected: i32, held: i32) -> Record {
    let counts = Counts {
        pfn,
        order: 0,
        refs,
        mapcount: 0,
        expected,
        locked: true,
        lru: false,
        anon: true,
        device_private: false,
        device_coherent: false,
    };
    Record {
        stage,
        device: 0,
        direction: Direction::ToDevice,
        counts,
        held,
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let stages = vec![
        Stage::Setup,
        Stage::Filled,
        Stage::PagesSource,
        Stage::PagesDestination,
        Stage::Final,
    ];
    let counts = prop::collection::vec((0..4i32, 0..3i32, 0..3i32), 0..9);
    let op = prop_oneof![
        2 => prop::bool::weighted(0.8).prop_map(Op::Enable),
        6 => (prop::sample::select(stages), counts).prop_map(|(stage, counts)| Op::Write(stage, counts)),
        1 => (KEPT - 5..KEPT + 5).prop_map(Op::Fill),
    ];
    prop::collection::vec(op, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig {
        // A case may write some ten thousand records.
        cases: ProptestConfig::default().cases,
        ..seeds_in!("ledger")
    })]

    #[test]
    fn the_last_records_are_kept_and_all_are_checked(ops in ops(), stop in 0..KEPT as u64 + 2) {
        let ledger = Ledger::new().unwrap();
        let mut all: Vec<Record> = Vec::new();
        let mut is_enabled = false;
        for op in ops {
            match op {
                Op::Enable(on) => {
                    ledger.enable(on);
                    is_enabled = on;
                }
                Op::Write(stage, counts) => {
                    for (refs, expected, held) in counts {
                        let record = record(stage, all.len(), refs, expected, held);
                        ledger.write(record);
                        all.extend(is_enabled.then_some(record));
                    }
                }
                Op::Fill(nr) => {
                    for _ in 0..nr {
                        let record = record(Stage::Setup, all.len(), 3, 2, 1);
                        ledger.write(record);
                        all.extend(is_enabled.then_some(record));
                    }
                }
            }
            prop_assert_eq!(ledger.is_enabled(), is_enabled);
            prop_assert_eq!(trace::is_ledger_enabled(), is_enabled);
            let exact = |record: &&Record| record.stage != Stage::Final;
            let excess = |record: &Record| record.counts.refs - record.counts.expected - record.held;
            let wrong = all.iter().filter(exact).filter(|record| excess(record) != 0).count();
            let low = all.iter().filter(exact).filter(|record| excess(record) < 0).count();
            prop_assert_eq!(ledger.totals(), (all.len() as u64, wrong as u64));
            prop_assert_eq!(ledger.too_low(), low as u64);
        }
        let first = all.len().saturating_sub(KEPT);
        let kept = all.len() - first;
        let mut seen = Vec::new();
        // It ends with the first error.
        let done = ledger.each(|number, record| {
            if seen.len() as u64 == stop {
                return Err(EINVAL);
            }
            seen.push((number, record.counts.pfn));
            Ok(())
        });
        prop_assert_eq!(done.is_err(), (kept as u64) > stop);
        let expected = all[first..].iter().map(|record| record.counts.pfn).zip(first as u64..);
        let expected: Vec<_> = expected.map(|(pfn, number)| (number, pfn)).take(stop as usize).collect();
        prop_assert_eq!(seen, expected);
        drop(ledger);
        prop_assert!(!trace::is_ledger_enabled());
    }
}
