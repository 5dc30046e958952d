// SPDX-License-Identifier: GPL-2.0

//! Back from the device on request, stage by stage.

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
        testing,
        HUGE_PAGES,
        HUGE_SIZE, //
    },
    ledger::Direction, //
};
use kernel::prelude::*;

/// The upper half is unmapped while the page is on the device.
fn half() -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        rig.migrate(rig.range(), Direction::ToDevice)?;
        testing::unmap(rig.base + HUGE_SIZE / 2, HUGE_SIZE / 2)?;
        rig.note_mapped(log, "before", 0)?;
        let lower = rig.base..rig.base + HUGE_SIZE / 2;
        let report = rig.watch(log, || rig.migrate(lower, Direction::ToSystem))?;
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
        let report = rig.watch(log, || rig.migrate(rig.range(), Direction::ToSystem))?;
        log.check(report.counts.migrated() == 0, "nothing moved")?;
        log.check(rig.rss() == 0, "no page is counted")?;
        log.check(rig.device.memory.usage().1 == 0, "the device is empty")
    })
}

/// On the device, and shared with a second mm; with a huge destination or without.
fn shared(huge: bool) -> Result<Option<Log>> {
    Rig::run_shared(
        |rig| rig.migrate(rig.range(), Direction::ToDevice).map(drop),
        |rig, log, copy| {
            rig.note_mapped(log, "before", 0)?;
            if !huge {
                rig.inject(Point::HugeAlloc, 0, 1);
            }
            let report = rig.watch(log, || rig.migrate(rig.range(), Direction::ToSystem))?;
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
        },
    )
}

#[kunit_tests(rust_dmirror_refs_to_system)]
mod tests {
    use super::*;

    const fn small(stage: &'static str, page: usize) -> Line {
        line(stage, 1, 0, 0).locked().rss(512).holds(page..page + 1)
    }

    #[test]
    fn whole() -> Result {
        let log = stages(Direction::ToSystem, How::Whole)?;
        assert!(log.is(&[
            huge("before", 1, 1),
            huge("setup", 1, 0).locked(),
            huge("filled", 1, 0).locked(),
            huge("pages-src", 1, 0).locked(),
            huge("pages-dst", 1, 0).locked(),
            huge("after", 1, 1).lru(),
            huge("after", 1, 1).lru(),
        ]));
        Ok(())
    }

    #[test]
    fn split_by_missing_huge_destination() -> Result {
        let log = stages(Direction::ToSystem, How::Split)?;
        assert!(log.is(&[
            huge("before", 1, 1),
            huge("setup", 1, 0).locked(),
            small("filled", 0),
            small("filled", 511),
            small("pages-src", 0),
            small("pages-src", 511),
            small("pages-dst", 0),
            small("pages-dst", 511),
            line("after", 1, 1, 0).lru().rss(512).holds(0..1),
            line("after", 1, 1, 0).lru().rss(512).holds(511..512),
        ]));
        Ok(())
    }

    #[test]
    fn split_refused() -> Result {
        let log = stages(Direction::ToSystem, How::SplitRefused)?;
        assert!(log.is(&[
            huge("before", 1, 1),
            huge("setup", 1, 0).locked(),
            small("filled", 0),
            small("filled", 511),
            huge("pages-src", 2, 0).locked(),
            small("pages-dst", 0),
            small("pages-dst", 511),
            huge("after", 512, 512),
            huge("after", 512, 512),
        ]));
        Ok(())
    }

    #[test]
    fn destination_refused() -> Result {
        let log = stages(Direction::ToSystem, How::WholeRefused)?;
        assert!(log.is(&[
            huge("before", 1, 1),
            huge("setup", 1, 0).locked(),
            huge("filled", 1, 0).locked(),
            huge("pages-src", 2, 0).locked(),
            huge("pages-dst", 1, 0).locked(),
            huge("after", 1, 1),
            huge("after", 1, 1),
        ]));
        Ok(())
    }

    #[test]
    fn no_destination() -> Result {
        let log = stages(Direction::ToSystem, How::NotGiven)?;
        assert!(log.is(&[
            huge("before", 1, 1),
            huge("setup", 1, 0).locked(),
            huge("pages-src", 1, 0).locked(),
            huge("after", 1, 1),
            huge("after", 1, 1),
        ]));
        Ok(())
    }

    #[test]
    fn partly_mapped() -> Result {
        assert!(half()?.is(&[
            line("before", 256, 256, 9).rss(256).holds(0..512),
            pages("setup", 256),
            pages("filled", 256),
            pages("pages-src", 256),
            pages("pages-dst", 256),
            line("after", 1, 1, 0).lru().rss(256).holds(0..1),
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
                huge("before", 2, 2),
                huge("setup", 1, 0).locked(),
                huge("filled", 1, 0).locked(),
                huge("pages-src", 1, 0).locked(),
                huge("pages-dst", 1, 0).locked(),
                huge("after", 2, 2).lru(),
                huge("the copy is gone", 1, 1).lru(),
            ]));
        }
        Ok(())
    }

    /// Collected, left, and collected again in pages: the core must not split it on the way (K3).
    #[test]
    fn shared_by_two_mms_split() -> Result {
        if let Some(log) = shared(false)? {
            assert!(log.is(&[
                huge("before", 2, 2),
                huge("setup", 1, 0).locked(),
                pages("setup", 512),
                pages("filled", 512),
                pages("pages-src", 512),
                pages("pages-dst", 512),
                line("after", 2, 2, 0).lru().rss(512).holds(0..1),
                line("the copy is gone", 1, 1, 0).lru().rss(512).holds(0..1),
            ]));
        }
        Ok(())
    }
}
