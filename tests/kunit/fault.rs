// SPDX-License-Identifier: GPL-2.0

//! Back from the device by CPU faults: the test touches memory as a process would.

use super::{
    log::{
        line,
        Log, //
    },
    rig::Rig, //
};
use crate::{
    inject::Point,
    layer::mm::HUGE_PAGES,
    migrate::Direction, //
};
use kernel::prelude::*;

/// A huge page on the device; then `case`.
fn on_device(case: impl FnOnce(&Rig, &mut Log) -> Result) -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        let report = rig.migrate(rig.range(), Direction::ToDevice)?;
        log.check(
            report.counts.whole == HUGE_PAGES as u64,
            "it went there whole",
        )?;
        case(rig, log)
    })
}

fn whole() -> Result<Log> {
    on_device(|rig, log| {
        log.check(rig.read_page(3)?, "the touched page is right")?;
        rig.note_mapped(log, "after", 0)?;
        log.check(rig.device.memory.usage().1 == 0, "the device is empty")?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")
    })
}

fn allocation_fails() -> Result<Log> {
    on_device(|rig, log| {
        rig.inject(Point::HugeAlloc, 0, 1);
        log.check(rig.read_page(3)?, "the touched page is right")?;
        rig.drain_lru(log);
        rig.note_mapped(log, "touched", 3)?;
        rig.note_mapped(log, "not touched", 4)?;
        let used = rig.device.memory.usage().1;
        log.check(used == HUGE_PAGES - 1, "the device holds all others")?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")?;
        log.check(rig.device.memory.usage().1 == 0, "the device is empty")
    })
}

fn refused() -> Result<Log> {
    on_device(|rig, log| {
        rig.inject(Point::ExtraRef, 0, u64::MAX);
        log.check(rig.read_page(3) == Err(EFAULT), "the touch gets a signal")?;
        rig.note_mapped(log, "refused", 3)?;
        rig.inject(Point::ExtraRef, 0, 1);
        log.check(rig.read_page(3)?, "a refusal that passes is waited for")?;
        rig.note_mapped(log, "let go", 3)?;
        let retries = rig.device.core().stats.retries.get();
        log.check(retries == 1, "one retry is counted")?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")
    })
}

#[kunit_tests(rust_dmirror_refs_fault)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_whole() -> Result {
        assert!(whole()?.is(&[line("after", 1, 1, 9).lru().rss(512)]));
        Ok(())
    }

    #[test]
    fn without_a_huge_folio_page_by_page() -> Result {
        assert!(allocation_fails()?.is(&[
            line("touched", 1, 1, 0).lru().rss(512),
            line("not touched", 1, 1, 0).rss(512),
        ]));
        Ok(())
    }

    #[test]
    fn refused_ends_and_loses_nothing() -> Result {
        assert!(refused()?.is(&[
            line("refused", 1, 1, 9).rss(512),
            line("let go", 1, 1, 9).lru().rss(512),
        ]));
        Ok(())
    }
}
