// SPDX-License-Identifier: GPL-2.0

//! To the device, stage by stage.

use super::{
    log::{
        huge,
        line,
        pages,
        Line,
        Log, //
    },
    rig::Rig,
    walk::{
        stages,
        How, //
    }, //
};
use crate::{
    inject::Point,
    layer::mm::{
        migrate::{
            Batch,
            Destination,
            Kind,
            Select, //
        },
        system::Blank,
        testing,
        Size,
        HUGE_PAGES,
        HUGE_SIZE, //
    },
    ledger::Direction, //
};
use kernel::prelude::*;

/// Destinations are given, but nothing is committed: everything must come back (K1).
fn given_up(size: Size) -> Result<Log> {
    let pages = match size {
        Size::Huge => 1,
        // The last one as well.
        Size::Page => HUGE_PAGES,
    };
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        let mut batch = Batch::new()?;
        rig.collect(
            &mut batch,
            rig.range(),
            Select::System,
            |mut collected, _| {
                for page in 0..pages {
                    let source = collected.source(0);
                    let part = match size {
                        Size::Huge => source,
                        Size::Page => source.and_then(|source| source.page(page)),
                    };
                    let folio = rig.device_folio(part, size)?;
                    log.check(collected.give(page, folio).is_ok(), "the folio is taken")?;
                }
                drop(collected);
                Ok(())
            },
        )?;
        let used = rig.device.memory.usage().1;
        log.check(used == 0, "the destinations are free again")?;
        rig.note_mapped(log, "after", 0)?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")
    })
}

/// The same with small sources, each of which has a destination. What is not taken back of these, the core
/// takes for migrated; of a huge source's pages, it frees it.
fn given_up_small() -> Result<Log> {
    const NR: usize = HUGE_PAGES / 2;
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        testing::unmap(rig.base + HUGE_SIZE / 2, HUGE_SIZE / 2)?;
        let lower = rig.base..rig.base + HUGE_SIZE / 2;
        let mut batch = Batch::new()?;
        rig.collect(&mut batch, lower, Select::System, |mut collected, _| {
            for page in 0..NR {
                let folio = rig.device_folio(collected.source(page), Size::Page)?;
                log.check(collected.give(page, folio).is_ok(), "the folio is taken")?;
            }
            drop(collected);
            Ok(())
        })?;
        let used = rig.device.memory.usage().1;
        log.check(used == 0, "the destinations are free again")?;
        log.check(rig.has_pattern(0..NR)?, "the data are right")
    })
}

/// A huge hole with small destinations for a part of it, which the core would run past.
fn hole_in_part() -> Result<Log> {
    Rig::run(|rig, log| {
        let mut batch = Batch::new()?;
        rig.collect(
            &mut batch,
            rig.range(),
            Select::System,
            |mut collected, _| {
                for page in 0..HUGE_PAGES / 2 {
                    let folio = rig.device_folio(None, Size::Page)?;
                    log.check(collected.give(page, folio).is_ok(), "the folio is taken")?;
                }
                let committed = collected.commit();
                let mut moved = 0;
                committed.outcomes(|_, nr, became| {
                    moved += if became.is_migrated() { nr } else { 0 };
                });
                log.check(moved == 0, "nothing is made")
            },
        )?;
        log.check(rig.device.memory.usage().1 == 0, "the device is empty")?;
        log.check(rig.rss() == 0, "no page is counted")
    })
}

/// What an entry must not take comes back.
fn wrong_destinations() -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        let mut batch = Batch::new()?;
        rig.collect(
            &mut batch,
            rig.range(),
            Select::System,
            |mut collected, _| {
                let wrong = Destination::System(Blank::anywhere(Size::Huge)?.clear());
                log.check(
                    collected.give(0, wrong).is_err(),
                    "system memory is refused",
                )?;
                let folio = rig.device_folio(collected.source(0), Size::Huge)?;
                log.check(
                    collected.give(1, folio).is_err(),
                    "a tail takes nothing huge",
                )?;
                let folio = rig.device_folio(collected.source(0), Size::Huge)?;
                let beyond = collected.give(HUGE_PAGES, folio);
                log.check(beyond.is_err(), "there is no entry behind the last")?;
                drop(beyond);
                let folio = rig.device_folio(collected.source(0), Size::Huge)?;
                log.check(collected.give(0, folio).is_ok(), "the right one is taken")?;
                let folio = rig.device_folio(collected.source(0), Size::Huge)?;
                log.check(collected.give(0, folio).is_err(), "a second one is not")?;
                let page = Blank::anywhere(Size::Page)?.clear();
                log.check(collected.split_mapping(page).is_err(), "no fault, no sign")
            },
        )?;
        rig.note_mapped(log, "after", 0)
    })
}

/// A huge page of two mms, in which one of them alone must not be split: no small destination is taken (K3).
fn shared_in_small_pages() -> Result<Option<Log>> {
    Rig::run_shared(
        |_| Ok(()),
        |rig, log, copy| {
            let mut batch = Batch::new()?;
            rig.collect(
                &mut batch,
                rig.range(),
                Select::System,
                |mut collected, _| {
                    let is_shared = collected.kind(0) == Kind::Huge { exclusive: false };
                    log.check(is_shared, "the source is shared")?;
                    for page in [0, HUGE_PAGES - 1] {
                        let part = collected.source(0).and_then(|source| source.page(page));
                        let folio = rig.device_folio(part, Size::Page)?;
                        let refused = collected.give(page, folio).is_err();
                        log.check(refused, "a page of it is refused")?;
                    }
                    Ok(())
                },
            )?;
            rig.note_mapped(log, "after", 0)?;
            drop(copy);
            log.check(rig.device.memory.usage().1 == 0, "the device is empty")
        },
    )
}

/// A hole, or the huge zero page if it is read before.
fn hole(zero_page: bool, huge: bool) -> Result<Log> {
    Rig::run(|rig, log| {
        if zero_page {
            log.check(!rig.read_page(0)?, "an untouched page is empty")?;
        }
        log.check(rig.rss() == 0, "nothing is counted before")?;
        if !huge {
            rig.inject(Point::HugeAlloc, 0, 1);
        }
        rig.watch(log, || rig.migrate(rig.range(), Direction::ToDevice))?;
        rig.note_mapped(log, "after", 0)?;
        rig.note_mapped(log, "after", HUGE_PAGES - 1)?;
        log.check(!rig.read_page(7)?, "it is empty still")
    })
}

/// The upper half is unmapped before.
fn half() -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        testing::unmap(rig.base + HUGE_SIZE / 2, HUGE_SIZE / 2)?;
        rig.note_mapped(log, "before", 0)?;
        let lower = rig.base..rig.base + HUGE_SIZE / 2;
        let report = rig.watch(log, || rig.migrate(lower, Direction::ToDevice))?;
        log.check(
            report.counts.migrated() == HUGE_PAGES as u64 / 2,
            "all that is mapped moved",
        )?;
        rig.note_mapped(log, "after", 0)?;
        log.check(rig.has_pattern(0..HUGE_PAGES / 2)?, "the data are right")
    })
}

/// Shared with a second mm; with a huge destination or without.
fn shared(huge: bool) -> Result<Option<Log>> {
    Rig::run_shared(
        |_| Ok(()),
        |rig, log, copy| {
            rig.note_mapped(log, "before", 0)?;
            if !huge {
                rig.inject(Point::HugeAlloc, 0, 1);
            }
            let report = rig.watch(log, || rig.migrate(rig.range(), Direction::ToDevice))?;
            let counts = report.counts;
            let moved = if huge { counts.whole } else { counts.split };
            log.check(moved == HUGE_PAGES as u64, "all pages moved")?;
            rig.note_mapped(log, "after", 0)?;
            rig.note_mapped(log, "after", HUGE_PAGES - 1)?;
            drop(copy);
            rig.note_mapped(log, "the copy is gone", 0)?;
            log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")
        },
    )
}

#[kunit_tests(rust_dmirror_refs_to_device)]
mod tests {
    use super::*;

    const fn small(stage: &'static str, page: usize) -> Line {
        line(stage, 1, 0, 0).locked().rss(512).holds(page..page + 1)
    }

    #[test]
    fn whole() -> Result {
        let log = stages(Direction::ToDevice, How::Whole)?;
        assert!(log.is(&[
            huge("before", 1, 1).lru(),
            huge("setup", 1, 0).locked(),
            huge("filled", 1, 0).locked(),
            huge("pages-src", 1, 0).locked(),
            huge("pages-dst", 1, 0).locked(),
            huge("after", 1, 1),
            huge("after", 1, 1),
        ]));
        Ok(())
    }

    #[test]
    fn split_by_missing_huge_destination() -> Result {
        let log = stages(Direction::ToDevice, How::Split)?;
        assert!(log.is(&[
            huge("before", 1, 1).lru(),
            huge("setup", 1, 0).locked(),
            small("filled", 0),
            small("filled", 511),
            small("pages-src", 0),
            small("pages-src", 511),
            small("pages-dst", 0),
            small("pages-dst", 511),
            line("after", 1, 1, 0).rss(512).holds(0..1),
            line("after", 1, 1, 0).rss(512).holds(511..512),
        ]));
        Ok(())
    }

    /// The mail's question: 512 references for 512 mappings, none left over, none missing.
    #[test]
    fn split_refused() -> Result {
        let log = stages(Direction::ToDevice, How::SplitRefused)?;
        assert!(log.is(&[
            huge("before", 1, 1).lru(),
            huge("setup", 1, 0).locked(),
            small("filled", 0),
            small("filled", 511),
            huge("pages-src", 2, 0).locked(),
            small("pages-dst", 0),
            small("pages-dst", 511),
            huge("after", 512, 512).lru(),
            huge("after", 512, 512).lru(),
        ]));
        Ok(())
    }

    #[test]
    fn destination_refused() -> Result {
        let log = stages(Direction::ToDevice, How::WholeRefused)?;
        assert!(log.is(&[
            huge("before", 1, 1).lru(),
            huge("setup", 1, 0).locked(),
            huge("filled", 1, 0).locked(),
            huge("pages-src", 2, 0).locked(),
            huge("pages-dst", 1, 0).locked(),
            huge("after", 1, 1).lru(),
            huge("after", 1, 1).lru(),
        ]));
        Ok(())
    }

    #[test]
    fn no_destination() -> Result {
        let log = stages(Direction::ToDevice, How::NotGiven)?;
        assert!(log.is(&[
            huge("before", 1, 1).lru(),
            huge("setup", 1, 0).locked(),
            huge("pages-src", 1, 0).locked(),
            huge("after", 1, 1).lru(),
            huge("after", 1, 1).lru(),
        ]));
        Ok(())
    }

    #[test]
    fn given_up_whole() -> Result {
        assert!(given_up(Size::Huge)?.is(&[huge("after", 1, 1).lru()]));
        Ok(())
    }

    #[test]
    fn given_up_in_small_pages() -> Result {
        assert!(given_up(Size::Page)?.is(&[huge("after", 1, 1).lru()]));
        Ok(())
    }

    #[test]
    fn given_up_with_small_sources() -> Result {
        assert!(given_up_small()?.is(&[]));
        Ok(())
    }

    #[test]
    fn hole_filled_in_part() -> Result {
        assert!(hole_in_part()?.is(&[]));
        Ok(())
    }

    #[test]
    fn entries_refuse_wrong_destinations() -> Result {
        assert!(wrong_destinations()?.is(&[huge("after", 1, 1).lru()]));
        Ok(())
    }

    #[test]
    fn a_shared_huge_page_takes_no_small_ones() -> Result {
        if let Some(log) = shared_in_small_pages()? {
            assert!(log.is(&[huge("after", 2, 2).lru()]));
        }
        Ok(())
    }

    #[test]
    fn hole_whole() -> Result {
        let log = hole(false, true)?;
        assert!(log.is(&[
            line("filled", 1, 0, 9).locked(),
            line("pages-dst", 2, 1, 9).locked().rss(512),
            line("after", 1, 1, 9).rss(512),
            line("after", 1, 1, 9).rss(512),
        ]));
        Ok(())
    }

    #[test]
    fn hole_in_small_pages() -> Result {
        let log = hole(false, false)?;
        assert!(log.is(&[
            line("filled", 1, 0, 0).locked().times(512),
            line("pages-dst", 2, 1, 0).locked().rss(512).times(512),
            line("after", 1, 1, 0).rss(512),
            line("after", 1, 1, 0).rss(512),
        ]));
        Ok(())
    }

    #[test]
    fn huge_zero_page() -> Result {
        let log = hole(true, true)?;
        assert!(log.is(&[
            line("filled", 1, 0, 9).locked(),
            line("pages-dst", 2, 1, 9).locked().rss(512),
            line("after", 1, 1, 9).rss(512),
            line("after", 1, 1, 9).rss(512),
        ]));
        Ok(())
    }

    #[test]
    fn partly_mapped() -> Result {
        let log = half()?;
        assert!(log.is(&[
            line("before", 256, 256, 9).lru().rss(256).holds(0..512),
            pages("setup", 256),
            pages("filled", 256),
            pages("pages-src", 256),
            pages("pages-dst", 256),
            line("after", 1, 1, 0).rss(256).holds(0..1),
        ]));
        Ok(())
    }

    #[test]
    fn shared_by_two_mms_whole() -> Result {
        if let Some(log) = shared(true)? {
            assert!(log.is(&[
                huge("before", 2, 2).lru(),
                huge("setup", 1, 0).locked(),
                huge("filled", 1, 0).locked(),
                huge("pages-src", 1, 0).locked(),
                huge("pages-dst", 1, 0).locked(),
                huge("after", 2, 2),
                huge("after", 2, 2),
                huge("the copy is gone", 1, 1),
            ]));
        }
        Ok(())
    }

    /// Collected, left, and collected again in pages: the core must not split it on the way (K3).
    #[test]
    fn shared_by_two_mms_split() -> Result {
        if let Some(log) = shared(false)? {
            assert!(log.is(&[
                huge("before", 2, 2).lru(),
                huge("setup", 1, 0).locked(),
                pages("setup", 512),
                pages("filled", 512),
                pages("pages-src", 512),
                pages("pages-dst", 512),
                line("after", 2, 2, 0).rss(512).holds(0..1),
                line("after", 2, 2, 0).rss(512).holds(511..512),
                line("the copy is gone", 1, 1, 0).rss(512).holds(0..1),
            ]));
        }
        Ok(())
    }
}
