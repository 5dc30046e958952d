// SPDX-License-Identifier: GPL-2.0

//! Back from the device by eviction.

use super::{
    log::{
        huge,
        line,
        pages,
        Line,
        Log, //
    },
    rig::Rig, //
};
use crate::{
    inject::Point,
    layer::mm::{
        migrate::Batch,
        Size,
        HUGE_PAGES, //
    },
    ledger::Direction,
    migrate,
    policy::plan, //
};
use kernel::prelude::*;

/// A huge page on the device, or one that was split on the way; then eviction of the file's pages.
fn evict(arm: &[(Point, u64)], split: bool, is_done: bool) -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        if split {
            rig.inject(Point::HugeAlloc, 0, 1);
        }
        rig.migrate(rig.range(), Direction::ToDevice)?;
        rig.note_mapped(log, "before", 0)?;
        for (point, times) in arm {
            rig.inject(*point, 0, *times);
        }
        let done = rig.watch(log, || {
            Ok(migrate::evict(&rig.device, Some(rig.client().owner())))
        })?;
        log.check(done.is_ok() == is_done, "eviction says whether it is done")?;
        let used = rig.device.memory.usage().1;
        log.check(
            (used == 0) == is_done,
            "the device holds what did not leave",
        )?;
        let stuck = rig.device.state().stats.stuck.get();
        log.check(stuck == used as u64, "what is stuck is counted")?;
        let listed = rig
            .device
            .state()
            .stuck
            .lock()
            .iter()
            .map(|c| 1 << c.order)
            .sum();
        log.check(used == listed, "what is stuck is listed")?;
        rig.client().owner().inject.clear();
        rig.drain_lru(log);
        rig.note_mapped(log, "after", 0)?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")
    })
}

/// The pages of another owner stay.
fn other_owner() -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        rig.migrate(rig.range(), Direction::ToDevice)?;
        let other = crate::device::owner::Owner::new()?;
        log.check(
            migrate::evict(&rig.device, Some(&other)).is_ok(),
            "who has no pages has nothing to evict",
        )?;
        rig.note_mapped(log, "after", 0)
    })
}

/// Pages in use are listed as far as there is room, and all of them in the end; a small one at the begin of a
/// huge page's place is one page.
fn listed() -> Result<Log> {
    Rig::run(|rig, log| {
        let memory = rig.memory()?;
        let owner = rig.client().owner();
        let mut list = KVec::with_capacity(2, GFP_KERNEL)?;
        let mut folios = KVec::new();
        for _ in 0..=list.capacity() {
            let folio = memory.alloc(Size::Page, owner).ok_or(ENOMEM)?;
            folios.push(folio, GFP_KERNEL)?;
        }
        let (mut cursor, mut seen) = (0, 0);
        loop {
            list.clear();
            match memory.in_use(None, &mut cursor, &mut list) {
                0 => break,
                more => seen += more,
            }
        }
        log.check(seen == folios.len(), "each is listed once")?;
        let first = memory.pfns().start;
        let is_there = folios.iter().any(|folio| folio.counts().pfn == first);
        log.check(is_there, "one is at the begin")?;
        let mut batch = Batch::new()?;
        let pages = batch.setup_device(&memory, &[first])?.commit().len();
        log.check(pages == 1, "it is one page")
    })
}

#[kunit_tests(rust_dmirror_refs_eviction)]
mod tests {
    use super::*;

    const TRIES: usize = plan::PATIENT_RETRIES as usize + 1;

    /// All stages of one attempt.
    fn stages(at: impl Fn(&'static str) -> Line) -> [Line; 4] {
        ["setup", "filled", "pages-src", "pages-dst"].map(at)
    }

    #[test]
    fn whole() -> Result {
        let [setup, filled, src, dst] = stages(|stage| huge(stage, 1, 0).locked());
        assert!(evict(&[], false, true)?.is(&[
            huge("before", 1, 1),
            setup,
            filled,
            src,
            dst,
            huge("after", 1, 1).lru(),
        ]));
        Ok(())
    }

    #[test]
    fn split_folios() -> Result {
        let [setup, filled, src, dst] = stages(|stage| pages(stage, 512));
        assert!(evict(&[], true, true)?.is(&[
            line("before", 1, 1, 0).rss(512).holds(0..1),
            setup,
            filled,
            src,
            dst,
            line("after", 1, 1, 0).lru().rss(512).holds(0..1),
        ]));
        Ok(())
    }

    /// The reserve stands in.
    #[test]
    fn allocation_fails_once() -> Result {
        let log = evict(&[(Point::HugeAlloc, 1)], false, true)?;
        let [setup, filled, src, dst] = stages(|stage| huge(stage, 1, 0).locked());
        assert!(log.is(&[
            huge("before", 1, 1),
            setup,
            filled,
            src,
            dst,
            huge("after", 1, 1).lru(),
        ]));
        Ok(())
    }

    #[test]
    fn copy_fails() -> Result {
        let log = evict(&[(Point::Copy, u64::MAX)], false, false)?;
        assert!(log.is(&[
            huge("before", 1, 1),
            huge("setup", 1, 0).locked().times(TRIES),
            huge("pages-src", 1, 0).locked().times(TRIES),
            huge("after", 1, 1),
        ]));
        Ok(())
    }

    #[test]
    fn reference_is_held() -> Result {
        let log = evict(&[(Point::ExtraRef, u64::MAX)], false, false)?;
        assert!(log.is(&[
            huge("before", 1, 1),
            huge("setup", 2, 0).locked().times(TRIES),
            huge("filled", 1, 0).locked().times(TRIES),
            huge("pages-src", 2, 0).locked().times(TRIES),
            huge("pages-dst", 1, 0).locked().times(TRIES),
            huge("after", 1, 1),
        ]));
        Ok(())
    }

    #[test]
    fn pages_in_use_are_listed() -> Result {
        assert!(listed()?.is(&[]));
        Ok(())
    }

    #[test]
    fn others_stay() -> Result {
        assert!(other_owner()?.is(&[huge("after", 1, 1)]));
        Ok(())
    }
}
