// SPDX-License-Identifier: GPL-2.0

//! Device memory: how much there is, whose it is, and huge folios in it.

use anyhow::{ensure, Context, Result};
use nix::sys::mman::{MmapAdvise, ProtFlags};

use crate::{
    abi,
    area::{Area, HUGE},
    check_eq,
    device::{Device, COHERENT, PAGE_SIZE},
    proc::pagemap,
    test::{
        case::{Case, Ctx},
        check::{all_at, Place},
        child::{Peer, Skip},
        shown::Shown,
    },
};

pub const CASES: &[Case] = &[
    Case::defect(
        "t13.rounds",
        "150 rounds of splitting take no more device memory than one",
        Shown::fails(&["ranges of device memory: 3 before, 4 now"]),
        rounds,
    ),
    Case::defect(
        "t14.others_stay",
        "closing one file leaves the pages of another where they are",
        Shown::fails(&["page 0: a device entry: false instead of true"]),
        others_stay,
    ),
    Case::defect(
        "t17.addresses",
        "each coherent device has the memory that it was given",
        Shown::fails(&["hmm_dmirror2 uses memory of the other device"]).coherent(),
        addresses,
    ),
    Case::defect(
        "t17.second_range",
        "a huge page is sent to a coherent device: its range is mapped once",
        Shown::warns(&["WARNING: mm/memremap.c at memremap_pages"]).coherent(),
        second_range,
    ),
    Case::defect(
        "t21.release_of_many_chunks",
        "RELEASE of several chunks, large and small pages: all data home, all memory usable again",
        Shown::passes(&["only RELEASE prunes the lists, and then it empties them all"]),
        release_of_many_chunks,
    ),
    Case::defect(
        "t22.split_callback",
        "device folios are split with and without a migration: no page loses its data",
        Shown::passes(&["no split folio is without backing memory"]),
        split_callback,
    ),
    Case::defect(
        "t24.evict_after_split",
        "a file is closed after a part of a huge page has left the device",
        // folio_copy() of a backing page with a head flag and no size writes over all of memory: it ends
        // where that does, or whoever owned what was written over is first.
        Shown::breaks(&["BUG: unable to handle page fault", "Oops:", "Kernel panic"]).or_silent(),
        evict_after_split,
    ),
    Case::defect(
        "k5.huge_fault",
        "a CPU fault on a huge device mapping ends, however its process came to it",
        Shown::passes(&["asks for COMPOUND where the mapping is huge"]),
        huge_fault,
    ),
    Case::defect(
        "k10.coherent_huge",
        "huge pages go to a coherent device and come back",
        Shown::fails(&["512 pages are still on the device"]).coherent(),
        coherent_huge,
    ),
    Case::defect(
        "k11.odd_places",
        "small and huge folios between each other on the device: eviction finds all of them",
        Shown::passes(&["evicts whole chunks, which begin with a folio"]),
        odd_places,
    ),
];

fn chunks(ctx: &Ctx) -> Result<usize> {
    if ctx.rust() {
        return Ok(ctx.dev.stats()?.chunks as usize);
    }
    let text = std::fs::read_to_string("/proc/iomem")?;
    Ok(text.lines().filter(|l| l.contains("hmm_dmirror")).count())
}

fn rounds(ctx: &Ctx) -> Result<()> {
    let area = Area::huge(1)?;
    let mut before = 0;
    for round in 0..150 {
        for page in 0..HUGE {
            area.set_word(page, 0, round);
        }
        ctx.dev
            .read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE)
            .context("MIGRATE_TO_DEV")?;
        if round == 0 {
            before = chunks(ctx)?;
        }
        ctx.dev.set_flags(abi::FLAG_FAIL_ALLOC).context("FLAGS")?;
        ctx.dev
            .command(abi::MIGRATE_TO_SYS, area.addr(), 0, HUGE as u64)
            .context("MIGRATE_TO_SYS")?;
        check_eq!(area.word(HUGE - 1, 0), round, "data of round {round}");
        // Small pages cannot go as a huge one again; new memory can.
        area.advise(MmapAdvise::MADV_DONTNEED)?;
    }
    let after = chunks(ctx)?;
    ensure!(
        after <= before,
        "ranges of device memory: {before} before, {after} now"
    );
    Ok(())
}

fn others_stay(ctx: &Ctx) -> Result<()> {
    let mine = Area::filled(1, 62)?;
    let theirs = Area::filled(1, 63)?;
    ctx.to_device(&mine, 62)?;
    let other = Device::open(0)?;
    other.read_by(abi::MIGRATE_TO_DEV, theirs.addr(), HUGE)?;
    drop(other);
    all_at(&ctx.dev, ctx.driver, &theirs, Place::SystemHuge)?;
    all_at(&ctx.dev, ctx.driver, &mine, Place::DeviceHuge)?;
    mine.verify(62)?;
    theirs.verify(63)
}

fn coherent(index: u32) -> Result<Device> {
    Device::open(index).map_err(|_| Skip("no coherent devices".into()).into())
}

/// Parameters of the module, which both drivers have; the guest's init exports them.
fn address_of(index: u32) -> Result<u64> {
    let name = format!("spm_addr_dev{}=0x", index - COHERENT);
    let parameters = std::env::var("PARAMETERS").unwrap_or_default();
    let text = parameters.split(' ').find_map(|p| p.strip_prefix(&name));
    let Some(text) = text else {
        return Err(Skip("PARAMETERS does not say where coherent memory is".into()).into());
    };
    u64::from_str_radix(text, 16).context(name)
}

fn addresses(_: &Ctx) -> Result<()> {
    for index in [COHERENT, COHERENT + 1] {
        let dev = coherent(index)?;
        let first = address_of(index)? / PAGE_SIZE as u64;
        let area = Area::filled_small(4, 120)?;
        dev.read_by(abi::MIGRATE_TO_DEV, area.addr(), 4)
            .context("MIGRATE_TO_DEV")?;
        for entry in pagemap::of(area.addr(), 4)? {
            let pfn = entry.pfn().context("pagemap shows no page frame numbers")?;
            println!("page frame {pfn:#x}, the device begins at {first:#x}");
            ensure!(
                (first..first + (256 << 8)).contains(&pfn),
                "hmm_dmirror{index} uses memory of the other device, or none of a device's"
            );
        }
        area.verify(120)?;
    }
    Ok(())
}

fn second_range(_: &Ctx) -> Result<()> {
    let dev = coherent(COHERENT)?;
    let area = Area::filled(1, 121)?;
    let data = dev
        .read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE)
        .context("MIGRATE_TO_DEV")?;
    crate::area::verify_bytes(121, 0, &data)?;
    area.verify(121)
}

fn coherent_huge(_: &Ctx) -> Result<()> {
    let dev = coherent(COHERENT)?;
    let area = Area::filled(1, 122)?;
    // A chunk that is made for a huge page has huge pages.
    dev.command(abi::RELEASE, area.addr(), 0, 1)
        .context("RELEASE")?;
    dev.read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE)
        .context("MIGRATE_TO_DEV")?;
    dev.command(abi::MIGRATE_TO_SYS, area.addr(), 0, HUGE as u64)
        .context("MIGRATE_TO_SYS")?;
    let bytes = dev.snapshot(area.addr(), HUGE).context("SNAPSHOT")?;
    let left = bytes.iter().filter(|b| *b & abi::PROT_KIND != 0).count();
    ensure!(left == 0, "{left} pages are still on the device");
    area.verify(122)
}

/// A huge page on the device, and as many small ones.
fn mixed(dev: &Device, seed: u64) -> Result<(Area, Area)> {
    let huge = Area::filled(3, seed)?;
    let small = Area::filled_small(3 * HUGE, seed + 1)?;
    for block in 0..3 {
        dev.read_by(abi::MIGRATE_TO_DEV, huge.page(block * HUGE), HUGE)?;
        dev.read_by(abi::MIGRATE_TO_DEV, small.page(block * HUGE), HUGE)?;
        // Some leave again, so that what follows lies in odd places.
        small.word(block * HUGE + 7, 0);
        small.word(block * HUGE + 300, 0);
    }
    Ok((huge, small))
}

fn release_of_many_chunks(ctx: &Ctx) -> Result<()> {
    for round in 0..3 {
        let (huge, small) = mixed(&ctx.dev, 130 + 2 * round)?;
        ctx.dev
            .command(abi::RELEASE, huge.addr(), 0, 1)
            .context("RELEASE")?;
        all_at(&ctx.dev, ctx.driver, &small, Place::SystemSmall)?;
        huge.verify(130 + 2 * round)?;
        small.verify(131 + 2 * round)?;
    }
    Ok(())
}

fn split_callback(ctx: &Ctx) -> Result<()> {
    for seed in [140, 141, 142] {
        let area = Area::filled(1, seed)?;
        ctx.to_device(&area, seed)?;
        match seed {
            // By the collector, whose range ends inside.
            140 => {
                ctx.go(abi::TO_SYSTEM, area.page(100), 50)?;
            }
            // By a CPU fault on a mapping of small entries.
            141 => {
                area.unmap(HUGE - 1, 1)?;
                area.word(9, 0);
                return_home(&area, seed, HUGE - 1)?;
                continue;
            }
            // In the middle of the migration.
            _ => {
                ctx.dev.set_flags(abi::FLAG_FAIL_ALLOC).context("FLAGS")?;
                ctx.to_system(&area)?;
            }
        }
        return_home(&area, seed, HUGE)?;
    }
    Ok(())
}

fn return_home(area: &Area, seed: u64, npages: usize) -> Result<()> {
    area.verify_pages(seed, 0, npages)?;
    for (page, entry) in pagemap::of(area.addr(), npages)?.iter().enumerate() {
        check_eq!(entry.present(), true, "page {page} present");
    }
    Ok(())
}

fn huge_fault(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 150)?;
    for page in [0, 1, HUGE - 1] {
        ctx.to_device(&area, 150)?;
        area.word(page, 0);
        all_at(&ctx.dev, ctx.driver, &area, Place::SystemHuge)?;
    }
    // Read-only, and in a second process.
    ctx.to_device(&area, 150)?;
    area.protect(ProtFlags::PROT_READ)?;
    let peer = Peer::start(|_| area.verify(150))?;
    peer.finish()?;
    area.verify(150)
}

fn odd_places(ctx: &Ctx) -> Result<()> {
    for round in 0..2 {
        let seed = 160 + 2 * round;
        let other = Device::open(0)?;
        let (huge, small) = mixed(&other, seed)?;
        drop(other);
        all_at(&ctx.dev, ctx.driver, &huge, Place::SystemHuge)?;
        all_at(&ctx.dev, ctx.driver, &small, Place::SystemSmall)?;
        huge.verify(seed)?;
        small.verify(seed + 1)?;
    }
    Ok(())
}

fn evict_after_split(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 170)?;
    let other = Device::open(0)?;
    other.read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE)?;
    other.command(abi::MIGRATE_TO_SYS, area.page(5), 0, 9)?;
    drop(other);
    all_at(&ctx.dev, ctx.driver, &area, Place::SystemSmall)?;
    area.verify(170)
}
