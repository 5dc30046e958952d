// SPDX-License-Identifier: GPL-2.0

//! What the layer refuses at run time although the driver never asks for it.

use super::{
    log::{
        huge,
        Log, //
    },
    rig::Rig, //
};
use crate::{
    device::{
        chunk::{
            Chunk,
            ChunkPagemap, //
        },
        owner::Owner,
        state::{
            MemoryType,
            Settings, //
        },
        Device, //
    },
    layer::mm::{
        backing::Backing,
        hmm::Want,
        migrate::{
            Batch,
            Kind,
            Select, //
        },
        mirror::Room,
        pagemap::{
            self,
            SpecialPurpose, //
        },
        system::Blank,
        testing,
        user::UserPages,
        Size,
        HUGE_PAGES,
        HUGE_SIZE, //
    },
    ledger::{
        Direction,
        Ledger, //
    },
    migrate,
    nodes, //
};
use core::ops::Range;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// Ranges and pages that cannot be collected.
fn setups() -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        let (base, mut batch) = (rig.base, Batch::new()?);
        for range in [
            base..base,
            base + 1..base + PAGE_SIZE,
            base..base + 1,
            base..base + PAGE_SIZE + 1,
            base..base + HUGE_SIZE + PAGE_SIZE,
            base..base + 2 * HUGE_SIZE,
            base + PAGE_SIZE..base + HUGE_SIZE + PAGE_SIZE,
            base + HUGE_SIZE - PAGE_SIZE..base + HUGE_SIZE + PAGE_SIZE,
        ] {
            let refused = rig.collect(&mut batch, range, Select::System, |_, _| Ok(()));
            log.check(refused == Err(EINVAL), "the range is refused")?;
        }
        let memory = rig.memory()?;
        let first = memory.pfns().start;
        let end = memory.pfns().end;
        for pfns in [
            &[][..],
            &[0],
            &[first - 1],
            &[first, first - 1],
            &[end],
            &[first, end],
        ] {
            let refused = batch.setup_device(&memory, pfns).err();
            log.check(refused == Some(EINVAL), "the pages are refused")?;
        }
        let many = KVec::from_elem(first, HUGE_PAGES + 1, GFP_KERNEL)?;
        let refused = batch.setup_device(&memory, &many).err();
        log.check(refused == Some(EINVAL), "they are more than the batch")?;
        let mut small = Batch::for_pages(1)?;
        let two = base..base + 2 * PAGE_SIZE;
        let refused = rig.collect(&mut small, two, Select::System, |_, _| Ok(()));
        log.check(refused == Err(EINVAL), "the range is more than the batch")?;
        let refused = small.setup_device(&memory, &[first]).err();
        log.check(refused == Some(EINVAL), "the batch is too small")
    })
}

/// Entries that are none, and what sources and destinations are not for.
fn entries() -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        let memory = rig.memory()?;
        let mut private = memory
            .alloc(Size::Page, rig.client().owner())
            .ok_or(ENOMEM)?;
        log.check(memory.usage().0 == 1, "a page is one page")?;
        log.check(private.counts().order == 0, "and a folio of its own")?;
        let mut batch = Batch::new()?;
        rig.collect(
            &mut batch,
            rig.range(),
            Select::System,
            |mut collected, _| {
                log.check(!collected.is_empty(), "there are entries")?;
                let behind = collected.kind(HUGE_PAGES);
                log.check(behind == Kind::Skipped, "there is none behind")?;
                let page = Blank::anywhere(Size::Page)?;
                let source = collected.source(0).ok_or(ENOENT)?;
                log.check(source.pages() == HUGE_PAGES, "the source is huge")?;
                let first = source.page(0).ok_or(ENOENT)?;
                log.check(first.pages() == 1, "a page of it is one page")?;
                let behind = source.page(HUGE_PAGES).is_none();
                log.check(behind, "there is none behind the last")?;
                let refused = private.fill_from(&first);
                log.check(refused == Err(EINVAL), "private memory is not filled")?;
                let is_other = memory.inspect(source.pfn()).is_none();
                log.check(is_other, "it is no page of the device")?;
                let refused = page.fill_from(&source).err();
                log.check(refused == Some(EINVAL), "it is not of the same size")?;
                let page = Blank::anywhere(Size::Page)?.clear();
                let refused = collected.split_mapping(page).is_err();
                log.check(refused, "no fault, no mapping to be split")?;
                let committed = collected.commit();
                log.check(!committed.is_empty(), "there are entries still")?;
                log.check(committed.len() == HUGE_PAGES, "one for each page")
            },
        )?;
        drop((private, memory));
        rig.note_mapped(log, "after", 0)?;
        rig.migrate(rig.range(), Direction::ToDevice)?;
        rig.collect(
            &mut batch,
            rig.range(),
            Select::DevicePrivate,
            |collected, _| {
                let source = collected.source(0).ok_or(ENOENT)?;
                let refused = source.copy_to(&Backing::new()?, 0);
                log.check(refused == Err(EINVAL), "the CPU cannot read it")?;
                let refused = Blank::anywhere(Size::Huge)?.fill_from(&source).err();
                log.check(refused == Some(EINVAL), "nor to fill a folio")
            },
        )?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")
    })
}

/// Memory that reclaim may drop must not leave (see `leave.rs`). The driver does not collect it at all.
fn droppable() -> Result<Log> {
    Rig::run(|rig, log| {
        let area = testing::map_droppable(PAGE_SIZE)?;
        let word = || UserSlice::new(UserPtr::from_addr(area), 8);
        word().writer().write(&7u64)?;
        let mut batch = Batch::new()?;
        let mut kind = None;
        rig.collect(
            &mut batch,
            area..area + PAGE_SIZE,
            Select::System,
            |mut collected, _| {
                kind = Some(collected.kind(0));
                let folio = rig.device_folio(None, Size::Page)?;
                log.check(collected.give(0, folio).is_err(), "it takes nothing")
            },
        )?;
        log.check(kind == Some(Kind::Skipped), "it is not for a device")?;
        log.check(word().reader().read::<u64>()? == 7, "the data are right")?;
        testing::unmap(area, PAGE_SIZE)
    })
}

/// Looks, locks and exclusive pages.
fn looks() -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        let (mirror, mm) = (rig.client().mirror(), rig.client().mm()?);
        let mut room = Room::new()?;
        let (base, end) = (rig.base, rig.base + HUGE_SIZE);
        for range in [
            base..base,
            base..base + 1,
            base + 1..base + PAGE_SIZE,
            base..base + PAGE_SIZE + 1,
            base..end + PAGE_SIZE,
            base + PAGE_SIZE..end + PAGE_SIZE,
        ] {
            let refused = mirror.fill(&mut room, range, Want::Look, |_, _, _| {});
            log.check(refused == Err(EINVAL), "the range is refused")?;
        }
        let refused = mirror.make_exclusive(&mut room, &mm, rig.base + 1);
        log.check(refused == Err(EINVAL), "the address is refused")?;
        if let Some(other) = testing::duplicate_mm() {
            let refused = mirror.make_exclusive(&mut room, &other, rig.base);
            log.check(refused == Err(EINVAL), "another process is refused")?;
        }
        let held = rig.lock(0)?;
        let again = rig.lock(0).err();
        drop(held);
        log.check(again == Some(EBUSY), "a lock is not taken twice")
    })
}

/// Pages that the CPU cannot reach, or must not write, and user memory that is not as long.
fn copies() -> Result<Log> {
    Rig::run(|rig, log| {
        // The zero page.
        rig.read_page(0)?;
        let user = UserPages::new(rig.base as u64, 1)?;
        let part = [user.fault_in_readable(1, 1), user.fault_in_writeable(0, 2)];
        log.check(part == [Err(EINVAL); 2], "it is one page")?;
        let mirror = rig.client().mirror();
        let mut room = Room::new()?;
        let mut both = |range: Range<usize>| -> Result<_> {
            mirror.fill(&mut room, range.clone(), Want::Look, |_, _, _| {})?;
            let locked = mirror.lock();
            let page = locked.page(range.start).ok_or(ENOENT)?;
            Ok((page.copy_to_user(&user, 0), page.copy_from_user(&user, 0)))
        };
        let page = rig.base..rig.base + PAGE_SIZE;
        let from = both(page.clone())?.1;
        log.check(from == Err(EPERM), "the zero page is not written")?;
        rig.write_pattern()?;
        rig.migrate(rig.range(), Direction::ToDevice)?;
        let (to, from) = both(page)?;
        log.check(to == Err(EINVAL), "the CPU cannot read it")?;
        log.check(from == Err(EINVAL), "the CPU cannot write it")?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")
    })
}

/// Pages and faults of another device, and memory that the CPU cannot clear.
fn pagemaps() -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        rig.migrate(rig.range(), Direction::ToDevice)?;
        let memory = rig.memory()?;
        log.check(memory.inspect(0).is_none(), "that page is another's")?;
        let folio = memory.alloc(Size::Page, rig.client().owner());
        let refused = folio.ok_or(ENOMEM)?.clear();
        log.check(refused == Err(EINVAL), "the CPU cannot clear it")?;
        let other = Device::new(1, MemoryType::Private, Settings::DEFAULT, Ledger::new()?)?;
        other.memory.make_room(other.state());
        let other_memory = other.memory.chunks()?.first().cloned().ok_or(ENODEV)?;
        let (mut batch, owner) = (Batch::new()?, rig.device.state().pgmap_owner());
        let held = rig.lock(0)?;
        let seen = rig.in_fault(0, &held, |fault| {
            let behind = fault.range().start + PAGE_SIZE;
            (
                memory.owner_of(fault).is_some(),
                other_memory.owner_of(fault).is_some(),
                batch
                    .setup_fault(fault, behind..behind + PAGE_SIZE, owner)
                    .err(),
            )
        });
        drop(held);
        drop(other_memory);
        migrate::release(&other)?;
        log.check(
            seen? == (true, false, Some(EINVAL)),
            "the fault is of one device, and of one page",
        )
    })
}

/// A second sign that a mapping is to be split.
fn signs() -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        rig.migrate(rig.range(), Direction::ToDevice)?;
        let (mut batch, owner) = (Batch::new()?, rig.device.state().pgmap_owner());
        let held = rig.lock(0)?;
        let taken = rig.in_fault(0, &held, |fault| -> Result<_> {
            let mut collected = batch.setup_fault(fault, fault.range(), owner)?;
            let mut takes = || -> Result<_> {
                let page = Blank::anywhere(Size::Page)?.clear();
                Ok(collected.split_mapping(page).is_ok())
            };
            Ok((takes()?, takes()?))
        });
        drop(held);
        log.check(taken?? == (true, false), "one is taken")?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")
    })
}

/// Device memory that cannot be made.
fn memories() -> Result<Log> {
    Rig::run(|rig, log| {
        let state = rig.device.state();
        let make = |memory, size| -> Result {
            let chunk = Chunk::new(state.clone())?;
            let made = ChunkPagemap::new(memory, size, state.pgmap_owner(), chunk);
            Arc::pin_init(made, GFP_KERNEL).map(drop)
        };
        let at =
            |start, size| pagemap::Memory::Coherent(SpecialPurpose::soft_reserved(start, size));
        // Where the kernel has memory of its own.
        let (start, size) = (64 << 20, HUGE_SIZE);
        let range = SpecialPurpose::soft_reserved(start, size);
        let is_told = (range.start(), range.size()) == (start, size);
        log.check(is_told, "a range is what it was made of")?;
        let refused = make(at(start, size), size);
        log.check(refused == Err(ENXIO), "it is not reserved")?;
        for (memory, size) in [
            (pagemap::Memory::Private, 0),
            (pagemap::Memory::Private, HUGE_SIZE + PAGE_SIZE),
            (at(0, size), size),
            (at(PAGE_SIZE as u64, size), size),
            (at(start + PAGE_SIZE as u64, size), size),
            (at(1 << 63, size), size),
            (at((1 << 63) - HUGE_SIZE as u64, 2 * size), 2 * size),
            (at(u64::MAX - 4095, size), size),
            (at(start, 2 * size), size),
            (at(HUGE_SIZE as u64, size), 2 * size),
        ] {
            log.check(make(memory, size) == Err(EINVAL), "it is refused")?;
        }
        Ok(())
    })
}

/// The memory of a coherent device, if there is one.
fn coherent() -> Result<Log> {
    Rig::run(|_, log| {
        let Some(device) = nodes::find(c"hmm_dmirror2") else {
            pr_info!("# SKIP: no coherent device\n");
            return Ok(());
        };
        let MemoryType::Coherent(range) = device.state().memory_type() else {
            return Err(EINVAL);
        };
        let memory = device.memory.chunks()?.first().cloned().ok_or(ENODEV)?;
        let owner = Owner::new()?;
        let folio = memory.alloc(Size::Huge, &owner);
        log.check(folio.is_none(), "there are no huge folios")?;
        let state = device.state();
        let again = ChunkPagemap::new(
            pagemap::Memory::Coherent(range),
            range.size(),
            state.pgmap_owner(),
            Chunk::new(state.clone())?,
        );
        let again = Arc::pin_init(again, GFP_KERNEL).err();
        log.check(again == Some(EBUSY), "a range is had once")
    })
}

#[kunit_tests(rust_dmirror_refusals)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_collected() -> Result {
        assert!(setups()?.is(&[]));
        Ok(())
    }

    #[test]
    fn what_entries_are_not_for() -> Result {
        assert!(entries()?.is(&[huge("after", 1, 1).lru()]));
        Ok(())
    }

    #[test]
    fn what_must_not_leave() -> Result {
        assert!(droppable()?.is(&[]));
        Ok(())
    }

    #[test]
    fn what_cannot_be_looked_at() -> Result {
        assert!(looks()?.is(&[]));
        Ok(())
    }

    #[test]
    fn what_cannot_be_copied() -> Result {
        assert!(copies()?.is(&[]));
        Ok(())
    }

    #[test]
    fn what_is_of_another_device() -> Result {
        assert!(pagemaps()?.is(&[]));
        Ok(())
    }

    #[test]
    fn what_is_asked_for_already() -> Result {
        assert!(signs()?.is(&[]));
        Ok(())
    }

    #[test]
    fn what_cannot_be_made() -> Result {
        assert!(memories()?.is(&[]));
        Ok(())
    }

    #[test]
    fn what_coherent_memory_is_not_for() -> Result {
        assert!(coherent()?.is(&[]));
        Ok(())
    }
}
