// SPDX-License-Identifier: GPL-2.0

//! `src/coherent.rs` in numbers that do not overflow.

use super::{
    edgy,
    seeds_in, //
};
use crate::coherent::{
    spans,
    Span, //
};
use proptest::prelude::*;

const MIB: u128 = 1 << 20;
const HUGE: u128 = 2 * MIB;

/// Mostly a multiple of a huge page; near each other, or near the end of all addresses.
fn addresses() -> impl Strategy<Value = u64> {
    let huge = |at: u64| at << 21;
    prop_oneof![
        6 => (0..40u64).prop_map(huge),
        2 => (0..40u64).prop_map(move |below| huge((1 << 42) - below)),
        2 => edgy().prop_map(huge),
        1 => edgy(),
    ]
}

fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => (0..20u64).prop_map(|blocks| 2 * blocks),
        1 => 0..40u64,
        2 => edgy(),
    ]
}

proptest! {
    #![proptest_config(seeds_in!("coherent"))]

    #[test]
    fn ranges_are_whole_apart_and_have_addresses(first in addresses(), second in addresses(), mib in sizes()) {
        let starts = [first, second];
        let size = u128::from(mib) * MIB;
        let ranges = starts.map(|start| (u128::from(start), u128::from(start) + size));
        let is_good = size > 0
            && size % HUGE == 0
            && ranges.iter().all(|(start, end)| {
                *start > 0 && start % HUGE == 0 && *end <= isize::MAX as u128
            })
            && (ranges[0].1 <= ranges[1].0 || ranges[1].1 <= ranges[0].0);
        match spans(starts, mib) {
            Ok(None) => prop_assert_eq!(starts, [0, 0]),
            Ok(Some(spans)) => {
                prop_assert!(is_good);
                let made = starts.map(|start| Span { start, size: size as usize });
                prop_assert_eq!(spans, made);
            }
            Err(_) => prop_assert!(!is_good && starts != [0, 0]),
        }
    }
}
