// SPDX-License-Identifier: GPL-2.0

//! What a case sees, and the comparison with what it should.

use crate::layer::mm::folio::Counts;
use core::ops::Range;
use kernel::prelude::*;

/// A folio at a stage, or a run of folios that look the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    stage: &'static str,
    refs: i32,
    mapcount: i32,
    order: u32,
    locked: bool,
    lru: bool,
    /// Anonymous pages of the mm, in pages.
    rss: usize,
    /// The first page of the pattern that is in them, and how many follow it; (0, 0) for none.
    pages: (usize, usize),
    /// How many folios.
    times: usize,
}

/// What is expected: one folio, neither locked nor on the LRU, no page in the mm, no data, unless
/// said.
pub(super) const fn line(stage: &'static str, refs: i32, mapcount: i32, order: u32) -> Line {
    Line {
        stage,
        refs,
        mapcount,
        order,
        locked: false,
        lru: false,
        rss: 0,
        pages: (0, 0),
        times: 1,
    }
}

/// The whole huge page, in one folio.
pub(super) const fn huge(stage: &'static str, refs: i32, mapcount: i32) -> Line {
    line(stage, refs, mapcount, 9).rss(512).holds(0..512)
}

/// The first `n` pages, which are all that there is, each in a folio that is locked and unmapped.
pub(super) const fn pages(stage: &'static str, n: usize) -> Line {
    line(stage, 1, 0, 0).locked().rss(n).holds(0..n).times(n)
}

impl Line {
    /// What is seen of a folio that holds so much of the pattern, while the mm has so many pages.
    pub(super) fn seen(
        stage: &'static str,
        counts: Counts,
        rss: usize,
        pages: (usize, usize),
    ) -> Self {
        Line {
            locked: counts.locked,
            lru: counts.lru,
            rss,
            pages,
            ..line(stage, counts.refs, counts.mapcount, counts.order)
        }
    }

    /// Locked.
    pub(super) const fn locked(mut self) -> Self {
        self.locked = true;
        self
    }

    /// On the LRU.
    pub(super) const fn lru(mut self) -> Self {
        self.lru = true;
        self
    }

    /// So many anonymous pages in the mm.
    pub(super) const fn rss(mut self, pages: usize) -> Self {
        self.rss = pages;
        self
    }

    /// Together they hold these pages of the pattern, in order.
    pub(super) const fn holds(mut self, pages: Range<usize>) -> Self {
        self.pages = (pages.start, pages.end - pages.start);
        self
    }

    /// So many folios.
    pub(super) const fn times(mut self, folios: usize) -> Self {
        self.times = folios;
        self
    }

    /// This line and another as one, if they look the same and hold the same data, or if that one's
    /// go on where these end.
    pub(super) fn join(&self, next: &Line) -> Option<Line> {
        let alike = Line {
            pages: self.pages,
            times: self.times,
            ..*next
        };
        let (first, count) = self.pages;
        let pages = match next.pages {
            same if same == self.pages => same,
            (begin, more) if count > 0 && begin == first + count => (first, count + more),
            _ => return None,
        };
        (alike == *self).then_some(Line {
            pages,
            times: self.times + next.times,
            ..*self
        })
    }

    fn print(&self, what: &str) {
        pr_err!(
            "{} {} x {}: refs {} mapcount {} order {} locked {} lru {} rss {} data {}+{}\n",
            what,
            self.times,
            self.stage,
            self.refs,
            self.mapcount,
            self.order,
            self.locked,
            self.lru,
            self.rss,
            self.pages.0,
            self.pages.1
        );
    }
}

/// All that a case saw.
#[derive(Default)]
pub(super) struct Log {
    lines: KVec<Line>,
    faults: KVec<&'static str>,
    /// Small folios of system memory may have a reference from a per-CPU list, or be on the LRU.
    pub(super) is_undrained: bool,
}

impl Log {
    /// Notes a folio, or some.
    pub(super) fn note(&mut self, line: Line) -> Result {
        Ok(self.lines.push(line, GFP_KERNEL)?)
    }

    /// Notes that something is not as it should be.
    pub(super) fn check(&mut self, is_right: bool, what: &'static str) -> Result {
        if !is_right {
            self.faults.push(what, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Whether it is what was expected; says what is not.
    pub(super) fn is(&self, expected: &[Line]) -> bool {
        let mut right = true;
        for at in 0..self.lines.len().max(expected.len()) {
            let (seen, wanted) = (self.lines.get(at), expected.get(at));
            let same = match (seen, wanted) {
                (Some(seen), Some(wanted))
                    if self.is_undrained && wanted.lru && wanted.order == 0 =>
                {
                    Line {
                        refs: wanted.refs,
                        lru: wanted.lru,
                        ..*seen
                    } == *wanted
                }
                (seen, wanted) => seen == wanted,
            };
            if !same {
                seen.inspect(|line| line.print("seen    "));
                wanted.inspect(|line| line.print("expected"));
                right = false;
            }
        }
        for fault in &self.faults {
            pr_err!("not so: {}\n", fault);
            right = false;
        }
        right
    }
}
