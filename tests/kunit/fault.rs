// SPDX-License-Identifier: GPL-2.0

//! Back from the device by CPU faults: the test touches memory as a process would.

use super::{
    log::{
        huge,
        line,
        Log, //
    },
    rig::Rig, //
};
use crate::{
    inject::Point,
    layer::mm::HUGE_PAGES,
    ledger::Direction,
    policy::plan::CoreSplits, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

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
        let is_right = rig.watch(log, || rig.read_page(3))?;
        log.check(is_right, "the touched page is right")?;
        rig.note_mapped(log, "after", 0)?;
        log.check(rig.device.memory.usage().1 == 0, "the device is empty")?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")
    })
}

fn allocation_fails(splits: CoreSplits) -> Result<Log> {
    on_device(|rig, log| {
        let state = rig.device.state();
        state.set_core_splits(splits);
        rig.inject(Point::HugeAlloc, 0, 1);
        // What the worker holds for a moment is in the counts: then only the end is looked at.
        let is_right = match splits {
            CoreSplits::Allowed => rig.watch(log, || rig.read_page(3))?,
            CoreSplits::Avoided => rig.read_page(3)?,
        };
        log.check(is_right, "the touched page is right")?;
        state.splitter.flush();
        let by_worker = state.splitter.done() > 0;
        log.check(
            by_worker == (splits == CoreSplits::Avoided),
            "the worker splits what the core may not",
        )?;
        rig.drain_lru(log);
        rig.note_mapped(log, "touched", 3)?;
        rig.note_mapped(log, "not touched", 4)?;
        let used = rig.device.memory.usage().1;
        log.check(used == HUGE_PAGES - 1, "the device holds all others")?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")?;
        log.check(rig.device.memory.usage().1 == 0, "the device is empty")
    })
}

/// Also gives the number of attempts before the signal, as the driver counts them: it depends on time.
fn refused() -> Result<(Log, usize)> {
    let mut attempts = 0;
    let log = on_device(|rig, log| {
        rig.inject(Point::ExtraRef, 0, u64::MAX);
        let touched = rig.watch(log, || Ok(rig.read_page(3)))?;
        log.check(touched == Err(EFAULT), "the touch gets a signal")?;
        let stats = &rig.device.state().stats;
        let signals = stats.split_refused.get();
        let before = stats.retries.get();
        attempts = (before + signals) as usize;
        log.check(signals > 0, "that it was refused is counted")?;
        rig.note_mapped(log, "refused", 3)?;
        rig.inject(Point::ExtraRef, 0, 1);
        let is_right = rig.watch(log, || rig.read_page(3))?;
        log.check(is_right, "a refusal that passes is waited for")?;
        rig.note_mapped(log, "let go", 3)?;
        let retries = stats.retries.get() - before;
        log.check(retries == 1, "one retry is counted")?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")
    })?;
    Ok((log, attempts))
}

/// Between the look at an entry and the fault's handling, somebody puts another page there.
fn replaced() -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        let two = rig.base + 3 * PAGE_SIZE..rig.base + 5 * PAGE_SIZE;
        rig.migrate(two, Direction::ToDevice)?;
        let before = rig.lock(3)?;
        rig.watch(log, || rig.fault(4, &before))?;
        drop(before);
        let used = rig.device.memory.usage().1;
        log.check(used == 1, "the page that is there now has come back")?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")
    })
}

#[kunit_tests(rust_dmirror_refs_fault)]
mod tests {
    use super::*;

    /// The fault's reference is on another page.
    #[test]
    fn what_was_put_in_its_place_comes_back() -> Result {
        let small = |stage| line(stage, 1, 0, 0).locked().rss(512).holds(4..5);
        assert!(replaced()?.is(&[
            small("setup"),
            small("filled"),
            small("pages-src"),
            small("pages-dst"),
        ]));
        Ok(())
    }

    /// The fault holds a reference on the source.
    #[test]
    fn comes_back_whole() -> Result {
        assert!(whole()?.is(&[
            huge("setup", 2, 0).locked(),
            huge("filled", 1, 0).locked(),
            huge("pages-src", 2, 0).locked(),
            huge("pages-dst", 1, 0).locked(),
            huge("after", 1, 1).lru(),
        ]));
        Ok(())
    }

    /// The page that is given at first is only a sign to split the mapping; no page moves by it.
    #[test]
    fn without_a_huge_folio_page_by_page() -> Result {
        let small = |stage, refs| line(stage, refs, 0, 0).locked().rss(512).holds(3..4);
        assert!(allocation_fails(CoreSplits::Allowed)?.is(&[
            huge("setup", 2, 0).locked(),
            line("filled", 1, 0, 0).locked().rss(512).holds(0..1),
            huge("pages-src", 2, 0).locked(),
            line("pages-dst", 1, 0, 0).locked().rss(512).holds(0..1),
            small("setup", 2),
            small("filled", 1),
            small("pages-src", 2),
            small("pages-dst", 1),
            line("touched", 1, 1, 0).lru().rss(512).holds(3..4),
            line("not touched", 1, 1, 0).rss(512).holds(4..5),
        ]));
        Ok(())
    }

    #[test]
    fn without_a_huge_folio_split_by_a_worker() -> Result {
        assert!(allocation_fails(CoreSplits::Avoided)?.is(&[
            line("touched", 1, 1, 0).lru().rss(512).holds(3..4),
            line("not touched", 1, 1, 0).rss(512).holds(4..5),
        ]));
        Ok(())
    }

    /// One reference more while somebody holds it; then one attempt of two is refused.
    #[test]
    fn refused_ends_and_loses_nothing() -> Result {
        let (log, tries) = refused()?;
        assert!(log.is(&[
            huge("setup", 3, 0).locked().times(tries),
            huge("filled", 1, 0).locked().times(tries),
            huge("pages-src", 3, 0).locked().times(tries),
            huge("pages-dst", 1, 0).locked().times(tries),
            huge("refused", 1, 1),
            huge("setup", 3, 0).locked(),
            huge("filled", 1, 0).locked().times(2),
            huge("pages-src", 3, 0).locked(),
            huge("pages-dst", 1, 0).locked().times(2),
            huge("setup", 2, 0).locked(),
            huge("pages-src", 2, 0).locked(),
            huge("let go", 1, 1).lru(),
        ]));
        Ok(())
    }
}
