// SPDX-License-Identifier: GPL-2.0

//! Back from the device on request, stage by stage.

use super::{
    log::{
        line,
        Log, //
    },
    rig::Rig, //
};
use crate::{
    inject::Point,
    layer::mm::{
        migrate::{
            Batch,
            Kind,
            Outcome,
            Select, //
        },
        testing,
        HUGE_PAGES,
        HUGE_SIZE, //
    },
    migrate::Direction, //
};
use kernel::prelude::*;

/// How the destination is made, or not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Whole,
    Split,
    SplitRefused,
    WholeRefused,
    NotGiven,
}

/// A huge page on the device, through all stages.
fn stages(how: How, outcome: Outcome) -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        let report = rig.migrate(rig.range(), Direction::ToDevice)?;
        log.check(
            report.counts.whole == HUGE_PAGES as u64,
            "it went there whole",
        )?;
        rig.note_mapped(log, "before", 0)?;
        let mut batch = Batch::new()?;
        let select = Select::DevicePrivate;
        rig.collect(&mut batch, rig.range(), select, |mut collected, _| {
            let source = collected.source(0).ok_or(ENOENT)?;
            log.check(
                collected.kind(0) == Kind::Huge { exclusive: true },
                "the source is huge and exclusive",
            )?;
            log.note_rss("setup", source.counts(), rig.rss())?;
            if matches!(how, How::Whole | How::WholeRefused) {
                let folio = rig.system_folio(&source, true)?;
                log.check(collected.give(0, folio).is_ok(), "a huge folio is taken")?;
            }
            if matches!(how, How::Split | How::SplitRefused) {
                for page in 0..HUGE_PAGES {
                    let part = collected.source(0).and_then(|source| source.page(page));
                    let folio = rig.system_folio(&part.ok_or(ENOENT)?, false)?;
                    log.check(
                        collected.give(page, folio).is_ok(),
                        "a small folio is taken",
                    )?;
                }
            }
            if let Some(counts) = collected.destination_counts(0) {
                log.note_rss("filled", counts, rig.rss())?;
            }
            let extra = match how {
                How::SplitRefused | How::WholeRefused => collected.source(0).and_then(|s| s.hold()),
                _ => None,
            };
            let committed = collected.commit();
            let mut first = None;
            committed.outcomes(|index, _, became| {
                if index == 0 {
                    first = Some(became);
                }
            });
            log.check(
                first == Some(outcome),
                "the first entry came to what it should",
            )?;
            if let Some(counts) = committed.source_counts(0) {
                log.note_rss("pages, source", counts, rig.rss())?;
            }
            if let Some(counts) = committed.destination_counts(0) {
                log.note_rss("pages, destination", counts, rig.rss())?;
            }
            drop(extra);
            Ok(())
        })?;
        rig.drain_lru(log);
        rig.note_mapped(log, "finalize", 0)?;
        rig.note_mapped(log, "finalize, last page", HUGE_PAGES - 1)?;
        let back = matches!(how, How::Whole | How::Split);
        let used = rig.device.memory.usage().1;
        log.check(back == (used == 0), "the device holds what did not leave")?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")
    })
}

/// The upper half is unmapped while the page is on the device.
fn half() -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        rig.migrate(rig.range(), Direction::ToDevice)?;
        testing::unmap(rig.base + HUGE_SIZE / 2, HUGE_SIZE / 2)?;
        rig.note_mapped(log, "before", 0)?;
        let lower = rig.base..rig.base + HUGE_SIZE / 2;
        let report = rig.migrate(lower, Direction::ToSystem)?;
        let moved = report.counts.migrated();
        log.check(moved == HUGE_PAGES as u64 / 2, "all that is mapped moved")?;
        rig.drain_lru(log);
        rig.note_mapped(log, "after", 0)?;
        log.check(rig.device.memory.usage().1 == 0, "the device is empty")?;
        log.check(rig.has_pattern(0..HUGE_PAGES / 2)?, "the data are right")
    })
}

/// There is nothing, or the huge zero page; nothing is made of it.
fn hole(zero_page: bool) -> Result<Log> {
    Rig::run(|rig, log| {
        if zero_page {
            log.check(!rig.read_page(0)?, "an untouched page is empty")?;
        }
        let report = rig.migrate(rig.range(), Direction::ToSystem)?;
        log.check(report.counts.migrated() == 0, "nothing moved")?;
        log.check(rig.rss() == 0, "no page is counted")?;
        log.check(rig.device.memory.usage().1 == 0, "the device is empty")
    })
}

/// On the device, and shared with a second mm; with a huge destination or without.
fn shared(huge: bool) -> Result<Option<Log>> {
    let mut is_supported = true;
    let log = Rig::run(|rig, log| {
        rig.write_pattern()?;
        rig.migrate(rig.range(), Direction::ToDevice)?;
        let Some(copy) = testing::duplicate_mm() else {
            is_supported = false;
            pr_info!("# SKIP: this kernel cannot duplicate an mm for tests\n");
            return Ok(());
        };
        rig.note_mapped(log, "before", 0)?;
        if !huge {
            rig.inject(Point::HugeAlloc, 0, 1);
        }
        let report = rig.migrate(rig.range(), Direction::ToSystem)?;
        log.check(
            report.counts.migrated() == HUGE_PAGES as u64,
            "all pages moved",
        )?;
        rig.drain_lru(log);
        rig.note_mapped(log, "after", 0)?;
        drop(copy);
        rig.note_mapped(log, "the copy is gone", 0)?;
        log.check(rig.device.memory.usage().1 == 0, "the device is empty")?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")
    })?;
    Ok(is_supported.then_some(log))
}

#[kunit_tests(rust_dmirror_refs_to_system)]
mod tests {
    use super::*;

    #[test]
    fn whole() -> Result {
        let log = stages(How::Whole, Outcome::Whole)?;
        assert!(log.is(&[
            line("before", 1, 1, 9).rss(512),
            line("setup", 1, 0, 9).locked().rss(512),
            line("filled", 1, 0, 9).locked().rss(512),
            line("pages, source", 1, 0, 9).locked().rss(512),
            line("pages, destination", 1, 0, 9).locked().rss(512),
            line("finalize", 1, 1, 9).lru().rss(512),
            line("finalize, last page", 1, 1, 9).lru().rss(512),
        ]));
        Ok(())
    }

    #[test]
    fn split_by_missing_huge_destination() -> Result {
        let log = stages(How::Split, Outcome::Split)?;
        assert!(log.is(&[
            line("before", 1, 1, 9).rss(512),
            line("setup", 1, 0, 9).locked().rss(512),
            line("filled", 1, 0, 0).locked().rss(512),
            line("pages, source", 1, 0, 0).locked().rss(512),
            line("pages, destination", 1, 0, 0).locked().rss(512),
            line("finalize", 1, 1, 0).lru().rss(512),
            line("finalize, last page", 1, 1, 0).lru().rss(512),
        ]));
        Ok(())
    }

    #[test]
    fn split_refused() -> Result {
        let log = stages(How::SplitRefused, Outcome::SplitRefused)?;
        assert!(log.is(&[
            line("before", 1, 1, 9).rss(512),
            line("setup", 1, 0, 9).locked().rss(512),
            line("filled", 1, 0, 0).locked().rss(512),
            line("pages, source", 2, 0, 9).locked().rss(512),
            line("pages, destination", 1, 0, 0).locked().rss(512),
            line("finalize", 512, 512, 9).rss(512),
            line("finalize, last page", 512, 512, 9).rss(512),
        ]));
        Ok(())
    }

    #[test]
    fn destination_refused() -> Result {
        let log = stages(How::WholeRefused, Outcome::Refused)?;
        assert!(log.is(&[
            line("before", 1, 1, 9).rss(512),
            line("setup", 1, 0, 9).locked().rss(512),
            line("filled", 1, 0, 9).locked().rss(512),
            line("pages, source", 2, 0, 9).locked().rss(512),
            line("pages, destination", 1, 0, 9).locked().rss(512),
            line("finalize", 1, 1, 9).rss(512),
            line("finalize, last page", 1, 1, 9).rss(512),
        ]));
        Ok(())
    }

    #[test]
    fn no_destination() -> Result {
        let log = stages(How::NotGiven, Outcome::NotGiven)?;
        assert!(log.is(&[
            line("before", 1, 1, 9).rss(512),
            line("setup", 1, 0, 9).locked().rss(512),
            line("pages, source", 1, 0, 9).locked().rss(512),
            line("finalize", 1, 1, 9).rss(512),
            line("finalize, last page", 1, 1, 9).rss(512),
        ]));
        Ok(())
    }

    #[test]
    fn partly_mapped() -> Result {
        assert!(half()?.is(&[
            line("before", 256, 256, 9).rss(256),
            line("after", 1, 1, 0).lru().rss(256),
        ]));
        Ok(())
    }

    #[test]
    fn hole_and_zero_page_stay_so() -> Result {
        let (hole, zero) = (hole(false)?, hole(true)?);
        assert!(hole.is(&[]));
        assert!(zero.is(&[]));
        Ok(())
    }

    #[test]
    fn shared_by_two_mms_whole() -> Result {
        if let Some(log) = shared(true)? {
            assert!(log.is(&[
                line("before", 2, 2, 9).rss(512),
                line("after", 2, 2, 9).lru().rss(512),
                line("the copy is gone", 1, 1, 9).lru().rss(512),
            ]));
        }
        Ok(())
    }

    #[test]
    fn shared_by_two_mms_split() -> Result {
        if let Some(log) = shared(false)? {
            assert!(log.is(&[
                line("before", 2, 2, 9).rss(512),
                line("after", 2, 2, 0).lru().rss(512),
                line("the copy is gone", 1, 1, 0).lru().rss(512),
            ]));
        }
        Ok(())
    }
}
