// SPDX-License-Identifier: GPL-2.0

//! What must be found in memory at the end of an interleaving.

use anyhow::{ensure, Result};

use crate::{
    area::{pattern, WORDS},
    device::PAGE_SIZE,
};

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// The pattern of a seed.
    Data(u64),
    Zero,
    /// The pattern of a seed or, if the kernel has taken its chance, zeroes.
    DataOrZero(u64),
}

/// Pages that lie one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub addr: usize,
    /// The number in the pattern of the first page.
    pub first: usize,
    pub npages: usize,
    pub holds: Holds,
    /// A page, a word of it, and what was written there.
    pub written: Option<(usize, usize, u64)>,
}

impl Span {
    /// Reads every word by the CPU: what is on the device comes back.
    pub fn verify(&self) -> Result<()> {
        for page in self.first..self.first + self.npages {
            self.verify_page(page)?;
        }
        Ok(())
    }

    fn verify_page(&self, page: usize) -> Result<()> {
        let addr = self.addr + (page - self.first) * PAGE_SIZE;
        let holds = match self.holds {
            Holds::DataOrZero(seed) if peek(addr, 0) == pattern(seed, page, 0) => Holds::Data(seed),
            Holds::DataOrZero(_) => Holds::Zero,
            holds => holds,
        };
        for word in 0..WORDS {
            let wanted = match (self.written, holds) {
                (Some((p, w, value)), _) if (p, w) == (page, word) => value,
                (_, Holds::Data(seed)) => pattern(seed, page, word),
                _ => 0,
            };
            let seen = peek(addr, word);
            ensure!(
                seen == wanted,
                "page {page} at {addr:#x}, word {word}: {seen:#x} instead of {wanted:#x} ({holds:?})"
            );
        }
        Ok(())
    }
}

/// A word of a page, which others may write.
fn peek(addr: usize, word: usize) -> u64 {
    // SAFETY: callers name pages that are mapped for reading; if they were not, that is what the case is
    // to find out, and it ends by a signal.
    unsafe { (addr as *const u64).add(word).read_volatile() }
}
