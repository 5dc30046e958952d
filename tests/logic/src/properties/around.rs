// SPDX-License-Identifier: GPL-2.0

//! `src/policy/around.rs` against what each place was told last.

use super::{
    edgy,
    seeds_in, //
};
use crate::{
    layer::mm::HUGE_PAGES,
    policy::around::{
        FaultAround,
        Streams, //
    }, //
};
use kernel::prelude::*;
use proptest::prelude::*;

/// How many streams are followed.
const STREAMS: usize = 8;

/// A fault on a page, on the one that is expected there, or near it; what it brings may be less than asked.
#[derive(Clone, Debug)]
enum Op {
    At(usize),
    Next(usize),
    Less(usize, usize),
}

/// Pages of a process, of which none has the number 0; the last ones as well.
fn pages() -> impl Strategy<Value = usize> {
    prop_oneof![
        1..10 * HUGE_PAGES,
        (1..2 * HUGE_PAGES).prop_map(|page| (1 << 52) - page),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        1 => pages().prop_map(Op::At),
        6 => (0..STREAMS).prop_map(Op::Next),
        1 => (0..STREAMS, 1..=HUGE_PAGES).prop_map(|(place, pages)| Op::Less(place, pages)),
    ];
    prop::collection::vec(op, 0..100)
}

proptest! {
    #![proptest_config(seeds_in!("around"))]

    #[test]
    fn a_fault_where_the_last_one_ended_brings_twice_as_much(ops in ops(), most in 0..10u32) {
        let most = FaultAround::new(1 << most).unwrap();
        let streams = Streams::default();
        // For each place the page that is expected, and how many the last fault brought.
        let mut places = [None; STREAMS];
        for op in ops {
            let page = match op {
                Op::At(page) => page,
                Op::Next(place) | Op::Less(place, _) => match places[place] {
                    Some((next, _)) => next,
                    None => continue,
                },
            };
            // A stream that goes on into the next huge page is looked for in that one's place.
            let place = &mut places[page / HUGE_PAGES % STREAMS];
            let expected = match place {
                Some((next, last)) if *next == page => {
                    let mut twice = 2;
                    while twice <= *last {
                        twice *= 2;
                    }
                    twice.min(most.pages())
                }
                _ => 1,
            };
            let pages = streams.pages(page, most);
            prop_assert_eq!(pages, expected);
            let brought = match op {
                Op::Less(_, less) => less,
                _ => pages,
            };
            streams.brought(page, brought);
            *place = Some((page + brought, brought));
        }
    }

    #[test]
    fn limits_are_the_powers_of_two_up_to_a_huge_page(pages in edgy()) {
        let powers: Vec<u64> = (0..10).map(|power| 1 << power).collect();
        match FaultAround::new(pages) {
            Ok(most) => {
                prop_assert!(powers.contains(&pages));
                prop_assert_eq!(most.pages() as u64, pages);
            }
            Err(error) => {
                prop_assert!(!powers.contains(&pages));
                prop_assert_eq!(error, EINVAL);
            }
        }
    }
}
