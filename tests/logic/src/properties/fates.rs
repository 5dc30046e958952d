// SPDX-License-Identifier: GPL-2.0

//! `src/policy/fates.rs` against a list with an entry for each page.

use super::seeds_in;
use crate::{
    layer::mm::{
        migrate::Outcome,
        HUGE_PAGES, //
    },
    policy::fates::{
        Fate,
        FateCounts,
        Fates, //
    },
    report::Report,
    uapi, //
};
use kernel::{
    alloc::Judged,
    prelude::*, //
};
use proptest::prelude::*;

const OUTCOMES: [Outcome; 8] = [
    Outcome::Whole,
    Outcome::Split,
    Outcome::Small,
    Outcome::SplitRefused,
    Outcome::Refused,
    Outcome::NotGiven,
    Outcome::Empty,
    Outcome::NotCollected,
];

#[derive(Clone, Debug)]
enum Op {
    Reset(usize),
    Note(usize, usize, Outcome, Fate, bool),
    Truncate(usize),
}

#[derive(Clone, Copy)]
struct Page {
    fate: Fate,
    is_collected: bool,
}

fn after(before: Fate, outcome: Outcome, reason: Fate, splitting: bool) -> Fate {
    let was_split = splitting || before == Fate::SplitRefused;
    match (before, outcome) {
        // What moved stays moved.
        (Fate::Whole | Fate::Split | Fate::Small, _) => before,
        (_, Outcome::Whole) => Fate::Whole,
        (_, Outcome::Split) => Fate::Split,
        (_, Outcome::Small) if was_split => Fate::Split,
        (_, Outcome::Small) => Fate::Small,
        (_, Outcome::SplitRefused) => Fate::SplitRefused,
        (_, Outcome::Refused) => Fate::Core,
        (_, Outcome::NotGiven) => reason,
        (_, Outcome::Empty) => Fate::Empty,
        (_, Outcome::NotCollected) if was_split => Fate::SplitRefused,
        (_, Outcome::NotCollected) => before,
    }
}

fn counts(pages: &[Page]) -> FateCounts {
    let nr = |fate| pages.iter().filter(|page| page.fate == fate).count() as u64;
    FateCounts {
        collected: pages.iter().filter(|page| page.is_collected).count() as u64,
        whole: nr(Fate::Whole),
        split: nr(Fate::Split),
        small: nr(Fate::Small),
        split_refused: nr(Fate::SplitRefused),
        refused: [
            nr(Fate::NotCollected),
            nr(Fate::NoMemory),
            nr(Fate::CopyFailed),
            nr(Fate::Core),
        ],
        empty: nr(Fate::Empty),
    }
}

fn numbers() -> impl Strategy<Value = usize> {
    prop_oneof![
        3 => 0..6usize,
        2 => HUGE_PAGES - 2..HUGE_PAGES + 3,
        1 => 0..HUGE_PAGES,
        1 => Just(usize::MAX),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let reason = prop::sample::select(vec![Fate::NoMemory, Fate::CopyFailed]);
    let outcome = prop::sample::select(OUTCOMES.to_vec());
    let note = (numbers(), numbers(), outcome, reason, any::<bool>());
    let op = prop_oneof![
        1 => numbers().prop_map(Op::Reset),
        8 => note.prop_map(|(index, nr, outcome, reason, splitting)| {
            Op::Note(index, nr, outcome, reason, splitting)
        }),
        1 => numbers().prop_map(Op::Truncate),
    ];
    prop::collection::vec(op, 0..30)
}

proptest! {
    #![proptest_config(seeds_in!("fates"))]

    #[test]
    fn answers_as_a_list_of_pages_does(ops in ops(), index in numbers()) {
        const NEW: Page = Page { fate: Fate::NotCollected, is_collected: false };
        let mut fates = Fates::new().unwrap();
        let mut model: Vec<Page> = Vec::new();
        for op in ops {
            match op {
                Op::Reset(nr) => {
                    fates.reset(nr);
                    model = vec![NEW; nr.min(HUGE_PAGES)];
                }
                Op::Note(index, nr, outcome, reason, splitting) => {
                    fates.note(index, nr, outcome, reason, splitting);
                    for page in model.iter_mut().skip(index).take(nr) {
                        page.fate = after(page.fate, outcome, reason, splitting);
                        page.is_collected |= outcome != Outcome::NotCollected;
                    }
                }
                Op::Truncate(nr) => {
                    fates.truncate(nr);
                    model.truncate(nr);
                }
            }
            let has = |fate| model.iter().any(|page| page.fate == fate);
            prop_assert_eq!(fates.has_uncollected(), has(Fate::NotCollected));
            prop_assert_eq!(fates.has_refused_split(), has(Fate::SplitRefused));
            for index in [0, 1, 5, HUGE_PAGES - 1, HUGE_PAGES, index] {
                let stays = model.get(index).is_some_and(|page| {
                    matches!(page.fate, Fate::NotCollected | Fate::SplitRefused)
                });
                prop_assert_eq!(fates.stays(index), stays);
            }
            let mut counted = FateCounts::default();
            fates.count(&mut counted);
            prop_assert_eq!(counted, counts(&model));
            let moved = model.iter().filter(|page| page.fate.is_migrated()).count();
            prop_assert_eq!(counted.migrated(), moved as u64);
            // FateCounts add up over windows.
            fates.count(&mut counted);
            prop_assert_eq!(counted.collected, 2 * counts(&model).collected);
            prop_assert_eq!(counted.migrated(), 2 * moved as u64);
        }
    }
}

#[test]
fn user_space_is_told_every_count() {
    let counts = FateCounts {
        collected: 1,
        whole: 2,
        split: 3,
        small: 4,
        split_refused: 5,
        refused: [6, 7, 8, 9],
        empty: 10,
    };
    let report = Report {
        counts,
        ..Report::default()
    };
    let mut arg = uapi::Migrate::default();
    report.tell(&mut arg);
    let told = [
        arg.collected,
        arg.whole,
        arg.split,
        arg.small,
        arg.split_refused,
    ];
    assert_eq!(told, [1, 2, 3, 4, 5]);
    assert_eq!((arg.refused, arg.empty), ([6, 7, 8, 9], 10));
}

#[test]
fn no_memory_is_an_error() {
    let _none = Judged::by(|_| false);
    assert_eq!(Fates::new().err(), Some(ENOMEM));
}
