// SPDX-License-Identifier: GPL-2.0

//! `rust/mm/mpfn.rs` and `rust/mm/hmm.rs`: what a word means, bit by bit.

use super::{
    edgy,
    seeds_in, //
};
use crate::layer::mm::{
    hmm::Pfn,
    mpfn::Mpfn, //
};
use proptest::prelude::*;

/// Whether a bit of a number is set, by division.
fn bit(raw: u64, bit: u32) -> bool {
    raw / 2u64.pow(bit) % 2 == 1
}

proptest! {
    #![proptest_config(seeds_in!("words"))]

    #[test]
    fn migrate_pfns_are_those_of_c(raw in prop_oneof![edgy(), 0..128u64]) {
        let entry = Mpfn::from_raw(raw as usize);
        prop_assert_eq!(entry.as_raw() as u64, raw);
        prop_assert_eq!(entry.pfn().map(|pfn| pfn as u64), bit(raw, 0).then_some(raw / 64));
        prop_assert_eq!(entry.migrates(), bit(raw, 1));
        prop_assert_eq!(entry.writable(), bit(raw, 3));
        prop_assert_eq!(entry.compound(), bit(raw, 4));
        let is_hole = !bit(raw, 0) && bit(raw, 1) && bit(raw, 4);
        prop_assert_eq!(entry.is_huge_hole(), is_hole);
    }

    #[test]
    fn destinations_keep_what_fits(pfn in edgy(), compound: bool) {
        let entry = Mpfn::destination(pfn as usize, compound);
        prop_assert_eq!(entry.pfn().map(|pfn| pfn as u64), Some(pfn % (1 << 58)));
        prop_assert_eq!(entry.compound(), compound);
        prop_assert!(!entry.migrates() && !entry.writable() && !entry.is_huge_hole());
    }

    #[test]
    fn hmm_pfns_are_those_of_c(low in edgy(), high in 0..2048u64) {
        let raw = low % (1 << 53) + high * (1 << 53);
        let pfn = Pfn::from_raw(raw as usize);
        let (valid, write, error) = (bit(raw, 63), bit(raw, 62), bit(raw, 61));
        prop_assert_eq!(pfn.is_error(), error);
        prop_assert_eq!(pfn.writable(), write);
        let number = (valid && !error).then_some(raw % (1 << 53));
        prop_assert_eq!(pfn.pfn().map(|pfn| pfn as u64), number);
        prop_assert_eq!(u64::from(pfn.map_order()), raw / (1 << 53) % 32);
    }
}
