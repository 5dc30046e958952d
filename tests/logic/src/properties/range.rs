// SPDX-License-Identifier: GPL-2.0

//! `src/range.rs` in numbers that do not overflow.

use super::{
    edgy,
    seeds_in, //
};
use crate::{
    layer::mm::HUGE_SIZE,
    range::Pages, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};
use proptest::prelude::*;

const PAGE: u128 = PAGE_SIZE as u128;
const PAGE_I: i128 = PAGE_SIZE as i128;

/// Mostly a multiple of a page.
fn addresses() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => edgy().prop_map(|address| address << 12),
        2 => edgy().prop_map(|address| address & !0xfff),
        1 => edgy(),
    ]
}

fn limits() -> impl Strategy<Value = usize> {
    prop_oneof![
        Just((1 << 47) - PAGE_SIZE),
        Just((1 << 56) - PAGE_SIZE),
        Just(usize::MAX),
        edgy().prop_map(|limit| limit as usize),
    ]
}

/// The parts by huge page, page by page.
fn parts(start: usize, end: usize) -> Vec<core::ops::Range<usize>> {
    let mut parts: Vec<core::ops::Range<usize>> = Vec::new();
    for page in (start..end).step_by(PAGE_SIZE) {
        match parts.last_mut() {
            Some(part) if part.start / HUGE_SIZE == page / HUGE_SIZE => part.end = page + PAGE_SIZE,
            _ => parts.push(page..page + PAGE_SIZE),
        }
    }
    parts
}

proptest! {
    #![proptest_config(seeds_in!("range"))]

    #[test]
    fn only_whole_pages_below_the_limit_pass(
        address in addresses(),
        npages in edgy(),
        limit in limits(),
        // Instead of the limit: so much behind the end.
        behind in prop_oneof![Just(None), prop::sample::select(vec![-PAGE_I, -1, 0, 1]).prop_map(Some)],
    ) {
        let end = u128::from(address) + u128::from(npages) * PAGE;
        let near = behind.and_then(|by| usize::try_from(end as i128 + by).ok());
        let limit = near.unwrap_or(limit);
        let is_good = u128::from(address) % PAGE == 0 && npages > 0 && end <= limit as u128;
        match Pages::new(address, npages, limit) {
            Ok(pages) => {
                prop_assert!(is_good);
                prop_assert_eq!(pages.start() as u64, address);
                prop_assert_eq!(pages.end() as u128, end);
                prop_assert_eq!(pages.count() as u64, npages);
            }
            Err(error) => {
                prop_assert!(!is_good);
                prop_assert_eq!(error, EINVAL);
            }
        }
    }

    /// Below the end of all addresses as well.
    #[test]
    fn windows_are_the_parts_by_huge_page(
        first in prop_oneof![
            0..2000usize,
            ((1 << 52) - 3000..(1usize << 52) - 2000),
        ],
        npages in 1..2000usize,
        skipped in prop_oneof![0..2100usize, Just(usize::MAX >> 12)],
    ) {
        let start = first * PAGE_SIZE;
        let pages = Pages::new(start as u64, npages as u64, usize::MAX).unwrap();
        let windows: Vec<_> = pages.windows(0).collect();
        prop_assert_eq!(windows, parts(start, pages.end()));
        let from = start.saturating_add(skipped * PAGE_SIZE);
        let windows: Vec<_> = pages.windows(from).collect();
        prop_assert_eq!(windows, parts(from, pages.end()));
    }
}
