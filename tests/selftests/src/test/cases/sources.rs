// SPDX-License-Identifier: GPL-2.0

//! Memory that must not be migrated to a device, because it is not anonymous or because a rule forbids it. It is not
//! collected, not read, and nothing is allocated for it.

use std::{
    fs::File,
    os::fd::{FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use nix::{
    errno::Errno,
    libc,
    sys::{
        memfd::{memfd_create, MFdFlags},
        mman::MapFlags,
    },
    unistd::ftruncate,
};

use crate::{
    abi,
    area::{pattern_bytes, verify_bytes, Area},
    check_eq,
    device::{Device, PAGE_SIZE},
    test::{
        case::{Case, Ctx, NEW_ABI},
        check::{all_at, pages_at, Place},
        child::Skip,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "sources.file",
        "pages of a file in tmpfs, shared: not offered",
        NEW_ABI,
        |ctx| stays(ctx, Area::file(PAGES, tmpfs()?, MapFlags::MAP_SHARED)?),
    ),
    Case::new(
        "sources.memfd",
        "pages of a memfd: not offered",
        NEW_ABI,
        |ctx| stays(ctx, Area::file(PAGES, memfd()?, MapFlags::MAP_SHARED)?),
    ),
    Case::new(
        "sources.zero_shared",
        "/dev/zero, shared, which is shmem: not offered",
        NEW_ABI,
        |ctx| stays(ctx, Area::file(PAGES, zero()?, MapFlags::MAP_SHARED)?),
    ),
    Case::new(
        "sources.zero_private",
        "/dev/zero, private, which is anonymous memory: moves",
        NEW_ABI,
        zero_private,
    ),
    Case::new(
        "sources.secret",
        "memfd_secret, which no kernel address reaches: not offered",
        NEW_ABI,
        |ctx| stays(ctx, secret(PAGES)?),
    ),
    Case::new(
        "sources.droppable",
        "MAP_DROPPABLE, touched and untouched: not offered",
        NEW_ABI,
        droppable,
    ),
    Case::new(
        "sources.private_file",
        "a private file mapping: what was written is anonymous and moves, what was read is not offered",
        NEW_ABI,
        private_file,
    ),
    Case::new(
        "sources.other_device",
        "pages on another device: not offered, and not taken away",
        NEW_ABI,
        other_device,
    ),
    Case::new(
        "sources.secret_access",
        "every way that the device reads or writes system memory, with secret memory: EFAULT at once",
        NEW_ABI,
        secret_access,
    ),
    Case::new(
        "sources.secret_behind",
        "ordinary memory before secret memory in one access: what comes before is counted",
        NEW_ABI,
        secret_behind,
    ),
    Case::new(
        "sources.secret_buffer",
        "secret memory as the buffer of an access, which the caller reaches: works",
        NEW_ABI,
        secret_buffer,
    ),
];

const PAGES: usize = 16;

fn sized(file: OwnedFd) -> Result<OwnedFd> {
    ftruncate(&file, (PAGES * PAGE_SIZE) as i64).context("ftruncate")?;
    Ok(file)
}

fn tmpfs() -> Result<OwnedFd> {
    let path = format!("/dev/shm/dmirror-{}", std::process::id());
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .context("/dev/shm")?;
    std::fs::remove_file(&path)?;
    sized(file.into())
}

fn memfd() -> Result<OwnedFd> {
    sized(memfd_create("dmirror", MFdFlags::MFD_CLOEXEC).context("memfd_create")?)
}

fn zero() -> Result<OwnedFd> {
    let file = File::options().read(true).write(true).open("/dev/zero");
    Ok(file.context("/dev/zero")?.into())
}

fn secretmem() -> Result<OwnedFd> {
    // SAFETY: no memory is passed.
    match Errno::result(unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) }) {
        // SAFETY: it was just opened, and is nobody else's.
        Ok(fd) => sized(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        Err(_) => Err(Skip("this kernel has no secret memory".into()).into()),
    }
}

pub fn secret(npages: usize) -> Result<Area> {
    Area::file(npages, secretmem()?, MapFlags::MAP_SHARED)
}

/// None of it is collected, in both directions, and by the ioctl of test_hmm.
fn stays(ctx: &Ctx, area: Area) -> Result<()> {
    area.fill(400);
    not_offered(ctx, &area)?;
    area.verify(400)?;
    // And nothing stands in anybody's way.
    ctx.to_device(&Area::filled_small(PAGES, 401)?, 401)?;
    Ok(())
}

fn not_offered(ctx: &Ctx, area: &Area) -> Result<()> {
    let all = area.npages() as u64;
    let before = ctx.dev.stats()?;
    let result = ctx.migrate_all(abi::TO_DEVICE, area)?;
    check_eq!(result.refused[abi::REFUSED_COLLECT], all, "not offered");
    check_eq!(result.collected, 0, "offered");
    check_eq!(result.retries, 0, "retries");
    let result = ctx.migrate_all(abi::TO_SYSTEM, area)?;
    check_eq!(result.moved(), 0, "pages moved");
    check_eq!(result.retries, 0, "retries");
    let moved = ctx
        .dev
        .read_by(abi::MIGRATE_TO_DEV, area.addr(), area.npages());
    check_eq!(moved.err(), Some(Errno::ENOENT), "MIGRATE_TO_DEV");
    let after = ctx.dev.stats()?;
    check_eq!(after.pages_used, before.pages_used, "device pages in use");
    Ok(())
}

fn zero_private(ctx: &Ctx) -> Result<()> {
    let area = Area::file(PAGES, zero()?, MapFlags::MAP_PRIVATE)?;
    area.fill(402);
    ctx.to_device(&area, 402)?;
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceSmall)?;
    area.verify(402)
}

const MAP_DROPPABLE: i32 = 8;

fn droppable(ctx: &Ctx) -> Result<()> {
    let area = Area::of_kind(PAGES, MAP_DROPPABLE).context("MAP_DROPPABLE")?;
    not_offered(ctx, &area)?;
    area.fill_pages(403, 0, PAGES / 2);
    not_offered(ctx, &area)?;
    area.verify_pages(403, 0, PAGES / 2)?;
    check_eq!(area.word(PAGES - 1, 0), 0, "a word of an untouched page");
    Ok(())
}

/// Pages of each kind in one window: an odd page is written, an even one only read.
fn private_file(ctx: &Ctx) -> Result<()> {
    let file = memfd()?;
    Area::file(PAGES, &file, MapFlags::MAP_SHARED)?.fill(404);
    let area = Area::file(PAGES, &file, MapFlags::MAP_PRIVATE)?;
    area.verify(404)?;
    for page in (1..PAGES).step_by(2) {
        area.fill_pages(405, page, 1);
    }
    let half = PAGES as u64 / 2;
    let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
    check_eq!(result.small, half, "pages moved");
    check_eq!(result.refused[abi::REFUSED_COLLECT], half, "not offered");
    check_eq!(result.retries, 0, "retries");
    for page in (1..PAGES).step_by(2) {
        pages_at(&ctx.dev, ctx.driver, &area, page, 1, Place::DeviceSmall)?;
    }
    for page in 0..PAGES {
        area.verify_pages(404 + page as u64 % 2, page, 1)?;
    }
    Ok(())
}

fn other_device(ctx: &Ctx) -> Result<()> {
    let other = Device::open(1)?;
    let area = Area::filled_small(PAGES, 406)?;
    let moved = other.migrate(abi::TO_DEVICE, area.addr(), PAGES)?.moved();
    check_eq!(moved, PAGES as u64, "pages moved to the other device");
    for direction in [abi::TO_DEVICE, abi::TO_SYSTEM] {
        let result = ctx.migrate_all(direction, &area)?;
        check_eq!(
            result.refused[abi::REFUSED_COLLECT],
            PAGES as u64,
            "not offered"
        );
        check_eq!(result.retries, 0, "retries");
    }
    all_at(&other, ctx.driver, &area, Place::DeviceSmall)?;
    area.verify(406)
}

/// More time than an immediate refusal takes, on a slow machine.
const AT_ONCE: Duration = Duration::from_secs(5);

fn refused<T: std::fmt::Debug>(
    what: &str,
    access: impl FnOnce() -> Result<T, Errno>,
) -> Result<()> {
    let begin = Instant::now();
    let answer = access();
    check_eq!(answer.err(), Some(Errno::EFAULT), "{what}");
    ensure!(begin.elapsed() < AT_ONCE, "{what}: it took too long");
    Ok(())
}

fn secret_access(ctx: &Ctx) -> Result<()> {
    let area = secret(PAGES)?;
    let data = pattern_bytes(408, 0, PAGES);
    let read = |code: u32| ctx.dev.read_by(code, area.addr(), PAGES);
    // Nothing is there yet, then everything is.
    for round in 0..2 {
        println!("round {round}:");
        refused("READ", || read(abi::READ))?;
        refused("READ_UNLOCKED", || read(abi::READ_UNLOCKED))?;
        refused("EXCLUSIVE", || read(abi::EXCLUSIVE))?;
        refused("WRITE", || ctx.dev.write(area.addr(), &data))?;
        area.fill(407);
    }
    for byte in ctx.dev.snapshot(area.addr(), PAGES)? {
        check_eq!(byte & abi::PROT_KIND, 0, "kind of memory");
        ensure!(byte != abi::PROT_ERROR, "an error entry");
    }
    let page = ctx.dev.page(area.addr())?;
    check_eq!(page.where_, abi::SYSTEM, "where");
    check_eq!(page.flags & abi::PAGE_ANON, 0, "anonymous");
    let (result, _) = ctx
        .dev
        .migrate_and_read(abi::TO_DEVICE, area.addr(), PAGES)
        .context("MIGRATE")?;
    check_eq!(result.read_back, 0, "pages read back");
    area.verify(407)
}

fn secret_behind(ctx: &Ctx) -> Result<()> {
    const BEFORE: usize = 5;
    let area = Area::small(PAGES)?;
    let file = secretmem()?;
    area.map_file(BEFORE, PAGES - BEFORE, file, MapFlags::MAP_SHARED)?;
    area.fill(409);
    let mut data = pattern_bytes(410, 0, PAGES);
    for code in [abi::WRITE, abi::READ, abi::READ_UNLOCKED] {
        let mut cmd = abi::Cmd {
            addr: area.addr() as u64,
            ptr: data.as_mut_ptr() as u64,
            npages: PAGES as u64,
            ..abi::Cmd::default()
        };
        let answer = ctx.dev.call(code, &mut cmd);
        check_eq!(answer.err(), Some(Errno::EFAULT), "ioctl {code:#x}");
        check_eq!(cmd.cpages, BEFORE as u64, "pages before, ioctl {code:#x}");
    }
    verify_bytes(410, 0, &data)?;
    area.verify_pages(410, 0, BEFORE)?;
    area.verify_pages(409, BEFORE, PAGES - BEFORE)
}

fn secret_buffer(ctx: &Ctx) -> Result<()> {
    let buffer = secret(PAGES)?;
    let area = Area::filled_small(PAGES, 411)?;
    for direction in [None, Some(abi::TO_DEVICE)] {
        if let Some(direction) = direction {
            ctx.go(direction, area.addr(), PAGES)?;
        }
        buffer.fill(0);
        let (addr, ptr) = (area.addr(), buffer.addr());
        ctx.dev.command(abi::READ, addr, ptr, PAGES as u64)?;
        buffer.verify(411)?;
        ctx.dev.command(abi::WRITE, addr, ptr, PAGES as u64)?;
    }
    area.verify(411)
}
