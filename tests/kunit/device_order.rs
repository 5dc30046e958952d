// SPDX-License-Identifier: GPL-2.0

//! Device folios made again at another order; and whether this suite would notice what it is for.

use super::{
    log::{
        line,
        Log, //
    },
    rig::Rig, //
};
use crate::{
    layer::mm::{
        folio::Folio,
        Size,
        HUGE_PAGES, //
    },
    ledger::Direction, //
};
use kernel::prelude::*;

/// The same block of the device: huge, then page by page, then huge.
fn orders() -> Result<Log> {
    Rig::run(|rig, log| {
        let alloc = |size| {
            let supply = rig.device.memory.supply()?;
            let mut taker = supply.taker(rig.client().owner());
            taker.next(size, 1)?.fill(None)
        };
        let first = alloc(Size::Huge)?;
        let block = first.pfns();
        rig.note(log, "huge", first.counts())?;
        drop(first);
        let mut pages = KVec::with_capacity(HUGE_PAGES, GFP_KERNEL)?;
        for _ in 0..HUGE_PAGES {
            pages.push(alloc(Size::Page)?, GFP_KERNEL)?;
        }
        for page in &pages {
            let counts = page.counts();
            let is_clean = (counts.refs, counts.mapcount, counts.order) == (1, 0, 0);
            log.check(is_clean, "a small folio is clean")?;
            log.check(block.contains(&counts.pfn), "it is in the same block")?;
        }
        rig.note(log, "small", pages[HUGE_PAGES / 2].counts())?;
        drop(pages);
        let again = alloc(Size::Huge)?;
        log.check(again.pfns() == block, "it is the same block")?;
        rig.note(log, "huge again", again.counts())
    })
}

/// All blocks but one are taken. Pages of the last one that were looked up and not taken must not be missing when a
/// huge folio is wanted.
fn last_block() -> Result<Log> {
    Rig::run(|rig, log| {
        let chunks = rig.device.memory.chunks()?;
        let memory = chunks.first().ok_or(ENODEV)?;
        let owner = rig.client().owner();
        let blocks = rig.device.memory.usage().2 / HUGE_PAGES;
        let mut taken = KVec::with_capacity(blocks, GFP_KERNEL)?;
        for _ in 1..blocks {
            // Nothing stands behind them: that would be all of 256 MiB.
            let folio = memory.alloc(Size::Huge, owner).ok_or(ENOMEM)?;
            taken.push(folio, GFP_KERNEL)?;
        }
        let supply = rig.device.memory.supply()?;
        let mut taker = supply.taker(owner);
        drop(taker.next(Size::Page, HUGE_PAGES)?);
        let block = taker.next(Size::Huge, 1)?.fill(None)?;
        log.check(block.size() == Size::Huge, "the last block is had, whole")
    })
}

/// A reference is leaked on a device folio, and found; then put.
fn leak() -> Result<(usize, Log)> {
    let mut missing = 0;
    let log = Rig::run(|rig, log| {
        rig.write_pattern()?;
        rig.migrate(rig.range(), Direction::ToDevice)?;
        let mut leaked: Option<Folio> = None;
        let start = rig.base;
        rig.client().mirror().fill(
            &mut crate::layer::mm::mirror::Room::new()?,
            start..start + kernel::page::PAGE_SIZE,
            crate::layer::mm::hmm::Want::Look,
            |_, _, seen| leaked = seen.page().and_then(|page| page.folio()),
        )?;
        rig.note_mapped(log, "leaked", 0)?;
        crate::layer::mm::testing::unmap(rig.base, crate::layer::mm::HUGE_SIZE)?;
        missing = rig.device.memory.usage().1;
        drop(leaked);
        Ok(())
    })?;
    Ok((missing, log))
}

#[kunit_tests(rust_dmirror_refs_orders)]
mod tests {
    use super::*;

    #[test]
    fn huge_small_huge_come_back_clean() -> Result {
        assert!(orders()?.is(&[
            line("huge", 1, 0, 9).locked(),
            line("small", 1, 0, 0).locked(),
            line("huge again", 1, 0, 9).locked(),
        ]));
        Ok(())
    }

    #[test]
    fn what_was_looked_up_and_not_taken_is_found() -> Result {
        assert!(last_block()?.is(&[]));
        Ok(())
    }

    #[test]
    fn a_leaked_reference_is_seen() -> Result {
        let (missing, log) = leak()?;
        assert_eq!(missing, HUGE_PAGES);
        assert!(log.is(&[line("leaked", 2, 1, 9).rss(512).holds(0..512)]));
        Ok(())
    }

    /// What a refusal leaves must not pass for anything else.
    #[test]
    fn a_wrong_count_is_seen() -> Result {
        let log = orders()?;
        assert!(!log.is(&[
            line("huge", 1, 0, 9).locked(),
            line("small", 2, 0, 0).locked(),
            line("huge again", 1, 0, 9).locked(),
        ]));
        Ok(())
    }
}
