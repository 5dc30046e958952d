// SPDX-License-Identifier: GPL-2.0

//! A set of executed addresses: a bitmap for each page, with a bit for each byte.
//!
//! In a file it is the addresses in ascending order, eight bytes each, little endian.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

const PAGE: u64 = 4096;
const WORDS: usize = PAGE as usize / 64;

#[derive(Default)]
pub struct Pages(BTreeMap<u64, Box<[u64; WORDS]>>);

impl Pages {
    /// Returns an empty set.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub fn insert(&mut self, address: u64) {
        let page = self
            .0
            .entry(address / PAGE)
            .or_insert_with(|| Box::new([0; WORDS]));
        let bit = (address % PAGE) as usize;
        page[bit / 64] |= 1 << (bit % 64);
    }

    /// Iterates over the addresses, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|(page, words)| {
            (0..PAGE)
                .filter(|&bit| words[bit as usize / 64] & (1 << (bit % 64)) != 0)
                .map(move |bit| page * PAGE + bit)
        })
    }

    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.iter()
            .try_for_each(|address| out.write_all(&address.to_le_bytes()))
    }
}
