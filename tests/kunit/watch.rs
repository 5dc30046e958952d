// SPDX-License-Identifier: GPL-2.0

//! What a case sees of a folio at a stage: its counts, the data in it, and the RSS of the mm.
//!
//! The driver's own stages are watched through the ledger, which tells of each record as it is
//! written, while the folio is locked and unmapped.

use super::log::{
    Line,
    Log, //
};
use crate::{
    device::chunk::ChunkPagemap,
    layer::mm::{
        folio::Counts,
        lock::anon_rss,
        testing, //
    },
    ledger::{
        Observe,
        Record, //
    }, //
};
use kernel::{
    mm::MmWithUser,
    new_spinlock,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        SpinLock, //
    }, //
};

/// Lines that are kept: runs are one line.
const ROOM: usize = 64;

/// The pattern: each page has its number at its begin and at another place, which differs from
/// page to page.
pub(super) fn words(page: usize) -> [(usize, u64); 2] {
    let value = TAG | page as u64;
    [(0, value), (8 * (page % 500), value)]
}

const TAG: u64 = 0x1234_5678_0000_0000;

/// Looks at folios.
#[pin_data]
pub(super) struct Watch {
    mm: ARef<MmWithUser>,
    chunks: KVec<Arc<ChunkPagemap>>,
    #[pin]
    seen: SpinLock<Seen>,
}

struct Seen {
    lines: KVec<Line>,
    overflow: bool,
}

impl Watch {
    /// For an mm and the memory of a device.
    pub(super) fn new(mm: ARef<MmWithUser>, chunks: KVec<Arc<ChunkPagemap>>) -> Result<Arc<Self>> {
        let seen = Seen {
            lines: KVec::with_capacity(ROOM, GFP_KERNEL)?,
            overflow: false,
        };
        Arc::pin_init(
            pin_init!(Watch {
                mm,
                chunks,
                seen <- new_spinlock!(seen, "dmirror_watch"),
            }),
            GFP_KERNEL,
        )
    }

    /// Anonymous pages of the mm.
    pub(super) fn rss(&self) -> usize {
        anon_rss(&self.mm)
    }

    /// A folio that stays what it is during the call. Does not sleep.
    pub(super) fn line(&self, stage: &'static str, counts: Counts) -> Line {
        Line::seen(stage, counts, self.rss(), self.pattern(counts))
    }

    /// Moves what was seen since the last time into the log.
    pub(super) fn report(&self, log: &mut Log) -> Result {
        let mut lines = KVec::with_capacity(ROOM, GFP_KERNEL)?;
        let overflow = {
            let mut seen = self.seen.lock();
            core::mem::swap(&mut lines, &mut seen.lines);
            seen.overflow
        };
        log.check(!overflow, "there is room for all lines")?;
        lines.iter().try_for_each(|line| log.note(*line))
    }

    /// A word of a page, wherever it is.
    fn word(&self, pfn: usize, offset: usize) -> Option<u64> {
        for chunk in self.chunks.iter().filter(|c| c.pfns().contains(&pfn)) {
            if let Some((backing, page)) = chunk.data().backing_page(pfn - chunk.pfns().start) {
                let mut word = [0; 8];
                let at = (page << PAGE_SHIFT) + offset;
                backing.read(at, &mut word).ok()?;
                return Some(u64::from_ne_bytes(word));
            }
        }
        testing::peek(pfn, offset)
    }

    /// The first page of the pattern that is in a folio, and how many follow it.
    fn pattern(&self, counts: Counts) -> (usize, usize) {
        let first = match self.word(counts.pfn, 0) {
            Some(word) if word & TAG == TAG => (word ^ TAG) as usize,
            _ => return (0, 0),
        };
        let is_there = |at: usize| {
            words(first + at)
                .iter()
                .all(|(offset, value)| self.word(counts.pfn + at, *offset) == Some(*value))
        };
        let count = (0..1 << counts.order)
            .take_while(|at| is_there(*at))
            .count();
        (first, count)
    }
}

impl Observe for Watch {
    fn record(&self, record: &Record) {
        // What is mapped after finalize is not exact: cases look at it themselves.
        if !record.stage.is_exact() {
            return;
        }
        let line = self.line(record.stage.name(), record.counts);
        let mut seen = self.seen.lock();
        // Sources and destinations take turns, and attempts follow each other: like goes to like.
        for before in &mut seen.lines {
            if let Some(joined) = before.join(&line) {
                *before = joined;
                return;
            }
        }
        if seen.lines.push_within_capacity(line).is_err() {
            seen.overflow = true;
        }
    }
}

const _: () = assert!(8 * 500 < PAGE_SIZE);
