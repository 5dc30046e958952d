// SPDX-License-Identifier: GPL-2.0

//! The expected contents of memory at the end of an interleaving.

use anyhow::{ensure, Result};

use crate::{
    area::{pattern, WORDS},
    device::PAGE_SIZE,
};

/// The expected contents of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// The pattern of a seed.
    Data(u64),
    Zero,
    /// The pattern of a seed or, if the kernel has freed the page, zeroes.
    DataOrZero(u64),
}

/// Consecutive pages.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub addr: usize,
    /// The number of the first page in the pattern.
    pub first: usize,
    pub npages: usize,
    pub holds: Holds,
    /// A page, a word of that page, and the value that was written to it.
    pub written: Option<(usize, usize, u64)>,
}

impl Span {
    /// Checks every word, as the CPU reads it. This brings pages back from the device.
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

/// Reads a word of a page, which other threads may write.
fn peek(addr: usize, word: usize) -> u64 {
    // SAFETY: callers pass pages that must be mapped and readable. If one is not, a signal ends the case, which then
    // fails.
    unsafe { (addr as *const u64).add(word).read_volatile() }
}
