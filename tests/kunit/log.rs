// SPDX-License-Identifier: GPL-2.0

//! What a case sees, and the comparison with what it should.

use crate::layer::mm::folio::Counts;
use kernel::prelude::*;

/// A folio at a stage.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    stage: &'static str,
    refs: i32,
    mapcount: i32,
    order: u32,
    locked: bool,
    lru: bool,
    /// Anonymous pages of the mm, in pages; `None` where it is not looked at.
    rss: Option<usize>,
}

/// What is expected: neither locked nor on the LRU, unless said.
pub(super) const fn line(stage: &'static str, refs: i32, mapcount: i32, order: u32) -> Line {
    Line {
        stage,
        refs,
        mapcount,
        order,
        locked: false,
        lru: false,
        rss: None,
    }
}

impl Line {
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
        self.rss = Some(pages);
        self
    }

    fn print(&self, what: &str) {
        pr_err!(
            "{} {}: refs {} mapcount {} order {} locked {} lru {} rss {:?}\n",
            what,
            self.stage,
            self.refs,
            self.mapcount,
            self.order,
            self.locked,
            self.lru,
            self.rss
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
    /// Notes a folio.
    pub(super) fn note(&mut self, stage: &'static str, counts: Counts) -> Result {
        let seen = Line {
            stage,
            refs: counts.refs,
            mapcount: counts.mapcount,
            order: counts.order,
            locked: counts.locked,
            lru: counts.lru,
            rss: None,
        };
        Ok(self.lines.push(seen, GFP_KERNEL)?)
    }

    /// Notes a folio, and the anonymous pages of the mm.
    pub(super) fn note_rss(&mut self, stage: &'static str, counts: Counts, rss: usize) -> Result {
        self.note(stage, counts)?;
        if let Some(line) = self.lines.last_mut() {
            line.rss = Some(rss);
        }
        Ok(())
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
        let mut right = self.lines.len() == expected.len();
        if !right {
            pr_err!("{} lines, expected {}\n", self.lines.len(), expected.len());
        }
        for (seen, wanted) in self.lines.iter().zip(expected) {
            // The number of pages in the mm is compared where it is expected.
            let same = Line {
                rss: wanted.rss.and(seen.rss),
                ..*seen
            };
            let is_vague = self.is_undrained && wanted.lru && wanted.order == 0;
            let same = match is_vague {
                true => Line {
                    refs: wanted.refs,
                    lru: wanted.lru,
                    ..same
                },
                false => same,
            };
            if same != *wanted {
                seen.print("seen    ");
                wanted.print("expected");
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
