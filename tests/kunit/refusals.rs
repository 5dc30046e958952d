// SPDX-License-Identifier: GPL-2.0

//! What the layer must refuse, or can do, and this driver never asks for.

use super::{
    log::Log,
    rig::Rig, //
};
use crate::{
    devmem::{
        Chunk,
        Memory, //
    },
    layer::mm::{
        backing::Backing,
        folio::Counts,
        hmm::Want,
        migrate::{
            Batch,
            Select, //
        },
        mirror::Room,
        pagemap::{
            self,
            OwnerId,
            SpecialPurpose, //
        },
        system::Blank,
        testing,
        user::UserPages,
        Size,
        HUGE_PAGES,
        HUGE_SIZE, //
    },
    migrate::Direction, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};

/// Sources and folios that a copy cannot read, or that are of another size.
fn copies() -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        let chunks = rig.device.memory.chunks()?;
        let memory = chunks.first().ok_or(ENODEV)?;
        let owner = rig.file().owner();
        let mut page = memory.alloc(Size::Page, owner).ok_or(ENOMEM)?;
        log.check(memory.usage().0 == 1, "a page is one page")?;
        log.check(page.counts().order == 0, "and a folio of its own")?;
        log.check(page.clear() == Err(EINVAL), "private memory is not cleared")?;
        let backing = Backing::new()?;
        let mut batch = Batch::new()?;
        rig.collect(&mut batch, rig.range(), Select::System, |collected, _| {
            let source = collected.source(0).ok_or(ENOENT)?;
            log.check(!collected.is_empty(), "there are entries")?;
            log.check(source.pages() == HUGE_PAGES, "the source is huge")?;
            let first = source.page(0).ok_or(ENOENT)?;
            log.check(first.pages() == 1, "a page of it is one page")?;
            let filled = page.fill_from(&first);
            log.check(filled == Err(EINVAL), "private memory is not filled")?;
            let small = Blank::anywhere(Size::Page)?.fill_from(&source);
            log.check(small.err() == Some(EINVAL), "nor what is too small")?;
            log.check(
                memory.inspect(source.pfn()).is_none(),
                "it is no page of the device",
            )?;
            let committed = collected.commit();
            log.check(!committed.is_empty(), "there are entries still")?;
            log.check(committed.len() == HUGE_PAGES, "one for each page")
        })?;
        drop(page);
        rig.migrate(rig.range(), Direction::ToDevice)?;
        rig.collect(
            &mut batch,
            rig.range(),
            Select::DevicePrivate,
            |collected, _| {
                let source = collected.source(0).ok_or(ENOENT)?;
                let copied = source.copy_to(&backing, 0);
                log.check(copied == Err(EINVAL), "private memory is not read")?;
                let filled = Blank::anywhere(Size::Huge)?.fill_from(&source);
                log.check(filled.err() == Some(EINVAL), "nor to fill a folio")
            },
        )?;
        let user = UserPages::new(rig.base as u64, 1)?;
        let mut room = Room::new()?;
        rig.file().mirror().fill(
            &mut room,
            rig.base..rig.base + PAGE_SIZE,
            Want::Write,
            |_, _, seen| {
                let page = seen.page();
                let to = page.as_ref().map(|page| page.copy_to_user(&user, 0));
                let from = page.as_ref().map(|page| page.copy_from_user(&user, 0));
                let is_refused = (to, from) == (Some(Err(EINVAL)), Some(Err(EINVAL)));
                // What `log` cannot note is no memory for a note.
                let _ = log.check(is_refused, "private memory is not copied by address");
            },
        )
    })
}

/// Ranges and lists that are none.
fn ranges() -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        let (base, end) = (rig.base, rig.base + HUGE_SIZE);
        let bad = [
            base..base,
            base + 1..base + PAGE_SIZE,
            base..base + PAGE_SIZE + 1,
            base + PAGE_SIZE..end + PAGE_SIZE,
            base..end + PAGE_SIZE,
        ];
        let mut room = Room::new()?;
        for range in bad {
            let mut batch = Batch::new()?;
            let collected = rig.collect(&mut batch, range.clone(), Select::System, |_, _| Ok(()));
            log.check(collected == Err(EINVAL), "no such range is collected")?;
            let mirror = rig.file().mirror();
            let filled = mirror.fill(&mut room, range, Want::Look, |_, _, _| {});
            log.check(filled == Err(EINVAL), "nor looked at")?;
        }
        let exclusive = rig
            .file()
            .mirror()
            .make_exclusive(&mut room, rig.mm(), base + 1);
        log.check(exclusive == Err(EINVAL), "half of a page is not exclusive")?;
        if let Some(other) = testing::duplicate_mm() {
            let exclusive = rig.file().mirror().make_exclusive(&mut room, &other, base);
            log.check(exclusive == Err(EINVAL), "nor is another process's")?;
        }
        let short = base..base + 2 * PAGE_SIZE;
        let mut batch = Batch::for_pages(1)?;
        let collected = rig.collect(&mut batch, short, Select::System, |_, _| Ok(()));
        log.check(collected == Err(EINVAL), "nor what is more than the batch")?;
        let chunks = rig.device.memory.chunks()?;
        let memory: &Memory = chunks.first().ok_or(ENODEV)?;
        let pfns = memory.pfns();
        let mut batch = Batch::new()?;
        for list in [&[][..], &[pfns.start, pfns.end], &[pfns.start - 1]] {
            let collected = batch.setup_device(memory, list).map(drop);
            log.check(collected == Err(EINVAL), "no such list is collected")?;
        }
        let mut batch = Batch::for_pages(1)?;
        let collected = batch.setup_device(memory, &[pfns.start]).map(drop);
        log.check(collected == Err(EINVAL), "nor with too small a batch")
    })
}

/// Memory that is none of a device.
fn memory() -> Result<Log> {
    Rig::run(|rig, log| {
        let core = rig.device.core();
        let new = |memory, size| {
            let chunk = Chunk::new(core.clone())?;
            let new = Memory::new(memory, size, OwnerId::of(&**core), chunk);
            Arc::pin_init(new, GFP_KERNEL).map(drop)
        };
        let refused = |memory, size, why| new(memory, size) == Err(why);
        // Where the kernel has memory of its own.
        let (start, size) = (64 << 20, HUGE_SIZE);
        let at =
            |start, size| pagemap::Memory::Coherent(SpecialPurpose::soft_reserved(start, size));
        let range = SpecialPurpose::soft_reserved(start, size);
        let is_told = (range.start(), range.size()) == (start, size);
        log.check(is_told, "a range is what it was made of")?;
        log.check(refused(at(start, size), size, ENXIO), "it is not reserved")?;
        let is_refused = refused(at(start + 4096, size), size, EINVAL);
        log.check(is_refused, "it is not aligned")?;
        log.check(refused(at(0, size), size, EINVAL), "0 is no address")?;
        let is_refused = refused(at(1 << 63, size), size, EINVAL);
        log.check(is_refused, "no memory is there")?;
        let is_refused = refused(at(u64::MAX - 4095, size), size, EINVAL);
        log.check(is_refused, "it wraps")?;
        let is_refused = refused(at(start, 2 * size), size, EINVAL);
        log.check(is_refused, "it is of another size")?;
        for size in [0, HUGE_SIZE + PAGE_SIZE] {
            let is_refused = refused(pagemap::Memory::Private, size, EINVAL);
            log.check(is_refused, "it is no number of huge pages")?;
        }
        Ok(())
    })
}

#[kunit_tests(rust_dmirror_refusals)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_copied_is_not() -> Result {
        assert!(copies()?.is(&[]));
        Ok(())
    }

    #[test]
    fn bad_ranges_are_refused() -> Result {
        assert!(ranges()?.is(&[]));
        Ok(())
    }

    #[test]
    fn only_special_memory_becomes_a_devices() -> Result {
        assert!(memory()?.is(&[]));
        Ok(())
    }

    #[test]
    fn what_is_held_is_what_nobody_expects() -> Result {
        let counts = Counts {
            pfn: 0,
            order: 0,
            refs: 5,
            mapcount: 2,
            expected: 2,
            locked: false,
            lru: false,
            anon: true,
            device_private: false,
            device_coherent: false,
        };
        assert_eq!(counts.held(), 3);
        Ok(())
    }
}
