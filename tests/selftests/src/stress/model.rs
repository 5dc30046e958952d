// SPDX-License-Identifier: GPL-2.0

//! The possible values of each word of each page.
//!
//! Every page has *lanes*: one word for each thread, which only this thread writes by the CPU, and one lane for all
//! other words, which only change when the device writes the whole page. A value consists of page, lane, and a
//! version that only grows. A version is *issued* before it is written, and *committed* afterwards. A read, by the
//! CPU or by the device, must find a version that is not older than the one committed before the read, and not
//! newer than the one issued after it. Zero stands for the version at which the page's contents were discarded.
//! While they are being discarded, which the page's *generation* tells, a read may find either.
//!
//! A write of a whole page takes the page's lock for writing, a write of a lane takes it for reading. The model
//! needs no other order, and never blocks a migration.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, SeqCst},
};

use anyhow::{ensure, Result};

use super::board::{share, MAX_THREADS};
use crate::device::PAGE_SIZE;

pub const WORDS: usize = PAGE_SIZE / size_of::<u64>();
/// The number of lanes of a page at most.
const LANES: usize = MAX_THREADS + 1;
const STRIDE: usize = WORDS / LANES;

const LANE_SHIFT: u32 = 44;
const PAGE_SHIFT: u32 = 48;
const VERSION: u64 = (1 << LANE_SHIFT) - 1;
/// Written by a child, into pages of its own.
const CHILD: u64 = 1 << 63;

/// Per lane: the version issued last, the one committed last, and the one that zero stands for.
const ISSUED: usize = 0;
const COMMITTED: usize = 1;
const ZERO: usize = 2;
const FIELDS: usize = 3;

pub struct Model {
    lanes: usize,
    fields: &'static [AtomicU64],
    generations: &'static [AtomicU64],
}

/// The state of a page before an access.
#[derive(Clone, Copy)]
pub struct Expect {
    page: usize,
    generation: u64,
    committed: [u64; LANES],
}

impl Model {
    /// For so many pages and threads. All words are zero.
    pub fn new(pages: usize, threads: usize) -> Result<Model> {
        ensure!(threads <= MAX_THREADS, "at most {MAX_THREADS} threads");
        ensure!(pages < 1 << (63 - PAGE_SHIFT), "too many pages");
        let lanes = threads + 1;
        Ok(Model {
            lanes,
            fields: share(pages * lanes * FIELDS)?,
            generations: share(pages)?,
        })
    }

    fn field(&self, page: usize, lane: usize, which: usize) -> &AtomicU64 {
        &self.fields[(page * self.lanes + lane) * FIELDS + which]
    }

    /// Returns the lane of the words that belong to no thread.
    fn rest(&self) -> usize {
        self.lanes - 1
    }

    /// The word of a thread's lane: another one in every page, so that pages cannot be mistaken.
    pub fn word(&self, page: usize, lane: usize) -> usize {
        lane * STRIDE + page % STRIDE
    }

    pub fn lane(&self, page: usize, word: usize) -> usize {
        let lane = word / STRIDE;
        match lane < self.rest() && word == self.word(page, lane) {
            true => lane,
            false => self.rest(),
        }
    }

    fn value(page: usize, lane: usize, version: u64) -> u64 {
        ((page as u64) << PAGE_SHIFT) | ((lane as u64) << LANE_SHIFT) | version
    }

    /// What a child writes.
    pub fn child_value(page: usize, word: usize) -> u64 {
        CHILD | Self::value(page, 0, word as u64)
    }

    /// Issues the next version of a lane.
    pub fn issue(&self, page: usize, lane: usize) -> u64 {
        let version = self.field(page, lane, ISSUED).load(Acquire) + 1;
        self.field(page, lane, ISSUED).store(version, SeqCst);
        Self::value(page, lane, version)
    }

    pub fn commit(&self, page: usize, lane: usize, value: u64) {
        let version = value & VERSION;
        self.field(page, lane, COMMITTED).store(version, SeqCst);
    }

    /// Issues every lane of a page, for a device that writes it whole.
    pub fn issue_page(&self, page: usize, bytes: &mut [u8]) {
        let mut values = [0; LANES];
        for (lane, value) in values.iter_mut().enumerate().take(self.lanes) {
            *value = self.issue(page, lane);
        }
        for (word, to) in bytes.chunks_exact_mut(size_of::<u64>()).enumerate() {
            to.copy_from_slice(&values[self.lane(page, word)].to_ne_bytes());
        }
    }

    pub fn commit_page(&self, page: usize) {
        for lane in 0..self.lanes {
            self.commit(page, lane, self.field(page, lane, ISSUED).load(Acquire));
        }
    }

    /// Begins to discard the page's contents: from now on, they may be gone.
    pub fn discarding(&self, page: usize) {
        self.generations[page].fetch_add(1, SeqCst);
    }

    /// Ends discarding the page's contents: from now on, they are gone.
    pub fn discarded(&self, page: usize) {
        for lane in 0..self.lanes {
            let version = self.issue(page, lane) & VERSION;
            self.field(page, lane, ZERO).store(version, SeqCst);
            self.commit(page, lane, version);
        }
        self.generations[page].fetch_add(1, SeqCst);
    }

    pub fn expect(&self, page: usize) -> Expect {
        let generation = self.generations[page].load(SeqCst);
        let mut committed = [0; LANES];
        for (lane, version) in committed.iter_mut().enumerate().take(self.lanes) {
            *version = self.field(page, lane, COMMITTED).load(SeqCst);
        }
        Expect {
            page,
            generation,
            committed,
        }
    }

    /// Whether `value` may be what a word holds. `reshaped` says that its mapping was changed
    /// meanwhile, so that another, empty page may have been in its place.
    pub fn check(&self, expect: &Expect, word: usize, value: u64, reshaped: bool) -> Result<()> {
        let page = expect.page;
        let lane = self.lane(page, word);
        let committed = expect.committed[lane];
        // After the value, which was read before this was called.
        let zero = self.field(page, lane, ZERO).load(Acquire);
        let issued = self.field(page, lane, ISSUED).load(SeqCst);
        let generation = self.generations[page].load(SeqCst);
        let moving = reshaped || generation % 2 == 1 || generation != expect.generation;
        let good = match value {
            0 => moving || (committed..=issued).contains(&zero),
            _ => {
                value & !VERSION == Self::value(page, lane, 0)
                    && (committed..=issued).contains(&(value & VERSION))
            }
        };
        ensure!(
            good,
            "page {page}, word {word}, lane {lane}: {}, but version {committed} was committed \
             before and {issued} is the last one issued (zero stands for {zero}{})",
            describe(value),
            if moving { ", discarded meanwhile" } else { "" }
        );
        Ok(())
    }

    /// Checks a page's worth of words: every thread's, and some of the others.
    pub fn check_page(&self, expect: &Expect, bytes: &[u8], reshaped: bool) -> Result<u64> {
        let mut compared = 0;
        for lane in 0..self.rest() {
            let word = self.word(expect.page, lane);
            self.check(expect, word, word_of(bytes, word), reshaped)?;
            compared += 1;
        }
        for word in [0, WORDS / 2 + 1, WORDS - 1] {
            self.check(expect, word, word_of(bytes, word), reshaped)?;
            compared += 1;
        }
        Ok(compared)
    }

    /// Returns a word to check, mostly one of a thread.
    pub fn some_word(&self, page: usize, arg: u64) -> usize {
        match arg % 8 {
            0 => (arg >> 8) as usize % WORDS,
            _ => self.word(page, (arg >> 8) as usize % self.rest()),
        }
    }

    #[cfg(test)]
    fn is_still(&self, page: usize) -> bool {
        (0..self.lanes).all(|lane| {
            self.field(page, lane, ISSUED).load(Acquire)
                == self.field(page, lane, COMMITTED).load(Acquire)
        })
    }
}

fn word_of(bytes: &[u8], word: usize) -> u64 {
    let mut value = [0; size_of::<u64>()];
    let from = word * size_of::<u64>();
    value.copy_from_slice(&bytes[from..from + size_of::<u64>()]);
    u64::from_ne_bytes(value)
}

/// Formats a value for messages.
fn describe(value: u64) -> String {
    if value == 0 {
        return "zero".into();
    }
    let page = (value & !CHILD) >> PAGE_SHIFT;
    let lane = (value >> LANE_SHIFT) & 0xf;
    let by = if value & CHILD != 0 { "a child's " } else { "" };
    format!(
        "{value:#x} ({by}page {page}, lane {lane}, version {})",
        value & VERSION
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        Model::new(4, 3).unwrap()
    }

    #[test]
    fn every_word_has_one_lane() {
        let model = model();
        for page in 0..4 {
            for lane in 0..3 {
                assert_eq!(model.lane(page, model.word(page, lane)), lane);
            }
            let rest = (0..WORDS).filter(|w| model.lane(page, *w) == 3).count();
            assert_eq!(rest, WORDS - 3);
        }
    }

    #[test]
    fn old_new_and_foreign_values_are_refused() {
        let model = model();
        let word = model.word(2, 1);
        let before = model.expect(2);
        model.check(&before, word, 0, false).unwrap();
        let first = model.issue(2, 1);
        // Issued, not committed: either may be there.
        model.check(&before, word, 0, false).unwrap();
        model.check(&before, word, first, false).unwrap();
        model.commit(2, 1, first);
        let after = model.expect(2);
        // A lost write.
        assert!(model.check(&after, word, 0, false).is_err());
        // One that never was, and one of another page, lane, process.
        assert!(model.check(&after, word, first + 1, false).is_err());
        assert!(model.check(&after, model.word(2, 0), first, false).is_err());
        let other = model.expect(3);
        assert!(model.check(&other, model.word(3, 1), first, false).is_err());
        assert!(model
            .check(&after, word, Model::child_value(2, word), false)
            .is_err());
        let second = model.issue(2, 1);
        model.commit(2, 1, second);
        // An old reader may see either, a new one only the second.
        model.check(&after, word, first, false).unwrap();
        assert!(model.check(&model.expect(2), word, first, false).is_err());
    }

    #[test]
    fn whole_pages_and_discards() {
        let model = model();
        let mut bytes = vec![0; PAGE_SIZE];
        model.issue_page(1, &mut bytes);
        model.commit_page(1);
        assert!(model.is_still(1));
        let expect = model.expect(1);
        model.check_page(&expect, &bytes, false).unwrap();
        assert!(model
            .check_page(&expect, &vec![0; PAGE_SIZE], false)
            .is_err());
        // While it goes, either may be there; then only zero.
        model.discarding(1);
        model
            .check_page(&expect, &vec![0; PAGE_SIZE], false)
            .unwrap();
        model.check_page(&expect, &bytes, false).unwrap();
        model.discarded(1);
        let expect = model.expect(1);
        model
            .check_page(&expect, &vec![0; PAGE_SIZE], false)
            .unwrap();
        assert!(model.check_page(&expect, &bytes, false).is_err());
        // And what is written after that must not be lost again.
        let value = model.issue(1, 0);
        model.commit(1, 0, value);
        let expect = model.expect(1);
        assert!(model.check(&expect, model.word(1, 0), 0, false).is_err());
        model.check(&expect, model.word(1, 0), 0, true).unwrap();
    }
}
