// SPDX-License-Identifier: GPL-2.0

//! The device's memory is taken away: close, exit, kill. Pages come home, and only one's own.

use std::{
    fs,
    thread::{self, sleep},
    time::Duration,
};

use anyhow::{ensure, Context, Result};
use nix::{
    errno::Errno,
    sys::signal::{kill, Signal},
};

use crate::{
    abi::{self, Point},
    area::{Area, HUGE},
    check_eq,
    device::Device,
    test::{
        case::{Case, Ctx, OnC, Undo, NEW_ABI},
        cases::pause,
        check::{all_at, Place, Rss},
        child::{pipe, Peer},
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "evict.close",
        "closing the file brings its pages home whole",
        OnC::Passes,
        close,
    ),
    Case::new(
        "evict.close_split",
        "closing the file brings small device pages home",
        OnC::Passes,
        close_split,
    ),
    Case::new(
        "evict.alloc_fails",
        "T4: close while no huge page can be had: nothing lost",
        NEW_ABI,
        |ctx| under_injection(ctx, &[Point::HugeAlloc]),
    ),
    Case::new(
        "evict.small_alloc_fails",
        "close while no memory can be had at all: nothing lost",
        NEW_ABI,
        |ctx| under_injection(ctx, &[Point::HugeAlloc, Point::SmallAlloc]),
    )
    .may_stick(),
    Case::new(
        "evict.reference_held",
        "close while somebody holds a reference: it ends, and nothing is lost",
        NEW_ABI,
        |ctx| under_injection(ctx, &[Point::ExtraRef]),
    )
    .may_stick(),
    Case::new(
        "evict.refused_once",
        "a reference on the only page when the file is closed: it is tried again, and nothing is stuck",
        NEW_ABI,
        refused_once,
    ),
    Case::new(
        "evict.copy_fails",
        "close while the copy fails: it ends, and nothing is lost",
        NEW_ABI,
        |ctx| under_injection(ctx, &[Point::Copy]),
    )
    .may_stick(),
    Case::new(
        "evict.shared",
        "T5: pages shared with a child survive the close of the file",
        OnC::Passes,
        shared,
    ),
    Case::new(
        "evict.opener_exited",
        "a file whose opener has exited answers with an errno",
        OnC::Passes,
        opener_exited,
    ),
    Case::new(
        "evict.release_meanwhile",
        "RELEASE takes no page that came meanwhile: those get a chunk of their own, and it says EBUSY",
        NEW_ABI,
        release_meanwhile,
    ),
    Case::new(
        "evict.killed",
        "a process killed while it migrates leaves nothing behind",
        OnC::Skip("T9, T10: races that the C driver loses"),
        killed,
    ),
];

fn close(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(2, 60)?;
    let rss = Rss::now()?;
    let other = Device::open(0)?;
    other.read_by(abi::MIGRATE_TO_DEV, area.addr(), area.npages())?;
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceHuge)?;
    let before = ctx.dev.stats().unwrap_or_default();
    drop(other);
    all_at(&ctx.dev, ctx.driver, &area, Place::SystemHuge)?;
    if ctx.rust() {
        let after = ctx.dev.stats()?;
        let npages = area.npages() as u64;
        check_eq!(after.evicted - before.evicted, npages, "pages evicted");
        check_eq!(
            before.pages_used - after.pages_used,
            npages,
            "pages given back"
        );
    }
    rss.unchanged(area.size())?;
    area.verify(60)
}

fn close_split(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 61)?;
    let other = Device::open(0)?;
    other.set_flags(abi::FLAG_FAIL_ALLOC)?;
    other.read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE)?;
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceSmall)?;
    drop(other);
    all_at(&ctx.dev, ctx.driver, &area, Place::SystemSmall)?;
    area.verify(61)
}

/// The points stay armed until the file is gone; a stuck page must still come by a CPU fault.
fn under_injection(ctx: &Ctx, points: &[Point]) -> Result<()> {
    let area = Area::filled(1, 64)?;
    let rss = Rss::now()?;
    let other = Device::open(0)?;
    other.migrate(abi::TO_DEVICE, area.addr(), HUGE)?;
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceHuge)?;
    for &point in points {
        other.inject(point, 0, 1_000_000)?;
    }
    let before = ctx.dev.stats()?;
    drop(other);
    let after = ctx.dev.stats()?;
    println!(
        "evicted {}, stuck {}",
        after.evicted - before.evicted,
        after.stuck - before.stuck
    );
    rss.unchanged(area.size())?;
    area.verify(64)?;
    check_eq!(
        ctx.dev.stats()?.pages_used,
        before.pages_used - HUGE as u64,
        "device pages in use after the CPU has touched all"
    );
    rss.unchanged(area.size())
}

fn refused_once(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 67)?;
    let other = Device::open(0)?;
    let result = other.migrate(abi::TO_DEVICE, area.addr(), 1)?;
    check_eq!(result.small, 1, "pages on the device");
    other.inject(Point::ExtraRef, 0, 1)?;
    let before = ctx.dev.stats()?;
    drop(other);
    let after = ctx.dev.stats()?;
    check_eq!(after.retries - before.retries, 1, "retries");
    check_eq!(after.stuck - before.stuck, 0, "pages stuck");
    check_eq!(after.evicted - before.evicted, 1, "pages evicted");
    area.verify(67)
}

fn shared(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 65)?;
    let other = Device::open(0)?;
    other.read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE)?;
    let mut peer = Peer::start(|end| {
        end.next()?;
        area.verify(65)?;
        end.next()
    })?;
    // The child has the file, too: it is closed here, and again when the child ends.
    drop(other);
    area.verify(65)?;
    peer.step();
    peer.finish()?;
    ensure!(ctx.dev.snapshot(area.addr(), HUGE).is_ok(), "SNAPSHOT");
    area.verify(65)
}

/// The mirrored process exits; its child still has the file.
fn opener_exited(_: &Ctx) -> Result<()> {
    let (mut verdict, mut report) = pipe()?;
    let opener = Peer::start(|_| {
        let area = Area::filled(1, 66)?;
        let dev = Device::open(0)?;
        dev.read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE)?;
        let opener = nix::unistd::getpid();
        let _survivor = Peer::start(|end| {
            end.running()?;
            while nix::unistd::getppid() == opener {
                sleep(Duration::from_millis(5));
            }
            let text = match after_exit(&dev, area.addr()) {
                Ok(()) => "fine".to_string(),
                Err(error) => format!("{error:#}"),
            };
            std::io::Write::write_all(&mut report, text.as_bytes())?;
            Ok(())
        })?;
        Ok(())
    })?;
    opener.finish()?;
    drop(report);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut verdict, &mut text)?;
    check_eq!(text, "fine", "what the survivor found");
    Ok(())
}

fn after_exit(dev: &Device, addr: usize) -> Result<()> {
    // The mm goes with its last thread, a moment after the child was given a new parent.
    sleep(Duration::from_millis(200));
    let gone =
        |errno: Option<Errno>| matches!(errno, Some(Errno::EFAULT | Errno::EINVAL | Errno::ESRCH));
    for code in [
        abi::READ,
        abi::MIGRATE_TO_DEV,
        abi::MIGRATE_TO_SYS,
        abi::SNAPSHOT,
        abi::EXCLUSIVE,
    ] {
        let errno = dev.read_by(code, addr, 1).err();
        ensure!(gone(errno), "ioctl {code:#x}: {errno:?}");
    }
    if dev.driver() == crate::device::Driver::Rust {
        let errno = dev.migrate(abi::TO_DEVICE, addr, HUGE).err();
        ensure!(gone(errno), "RUST_DMIRROR_MIGRATE: {errno:?}");
        dev.stats().context("RUST_DMIRROR_STATS")?;
    }
    Ok(())
}

fn killed(_: &Ctx) -> Result<()> {
    for round in 0..15 {
        let peer = Peer::start(|end| {
            let dev = Device::open(0)?;
            let area = Area::filled(2, 67)?;
            end.next()?;
            loop {
                dev.migrate(abi::TO_DEVICE, area.addr(), area.npages())?;
                area.touch();
            }
        })?;
        let pid = peer.pid();
        let go = std::thread::spawn(move || {
            sleep(Duration::from_millis(3 + 7 * round));
            kill(pid, Signal::SIGKILL)
        });
        let end = peer.finish();
        ensure!(end.is_err(), "the process ended before it was killed");
        go.join().ok().context("thread")??;
    }
    Ok(())
}

fn release_meanwhile(ctx: &Ctx) -> Result<()> {
    let (before, after) = (Area::filled_small(4, 68)?, Area::filled_small(2, 69)?);
    let _undo = Undo(|| drop(fs::write(pause::DEBUGFS, "clear")));
    let chunks = || Ok::<_, Errno>(ctx.dev.stats()?.chunks);
    ctx.dev.command(abi::RELEASE, 0, 0, 1).context("RELEASE")?;
    check_eq!(chunks()?, 0, "chunks");
    ctx.dev.migrate(abi::TO_DEVICE, before.addr(), 4)?;
    check_eq!(chunks()?, 1, "chunks with pages on the device");
    let stops = pause::state()?.reached;
    fs::write(pause::DEBUGFS, "committed evict 0 10000").context(pause::DEBUGFS)?;
    let released = thread::scope(|scope| -> Result<_> {
        let release = scope.spawn(|| ctx.dev.command(abi::RELEASE, 0, 0, 1));
        pause::wait_device(stops)?;
        let moved = ctx.dev.migrate(abi::TO_DEVICE, after.addr(), 2)?.moved();
        check_eq!(moved, 2, "pages moved meanwhile");
        check_eq!(chunks()?, 2, "chunks meanwhile");
        fs::write(pause::DEBUGFS, "resume").context(pause::DEBUGFS)?;
        release.join().ok().context("a thread panicked")
    })?;
    check_eq!(released.err(), Some(Errno::EBUSY), "RELEASE");
    all_at(&ctx.dev, ctx.driver, &before, Place::SystemSmall)?;
    all_at(&ctx.dev, ctx.driver, &after, Place::DeviceSmall)?;
    check_eq!(chunks()?, 1, "chunks that are left");
    ctx.dev.command(abi::RELEASE, 0, 0, 1).context("RELEASE")?;
    check_eq!(chunks()?, 0, "chunks in the end");
    before.verify(68)?;
    after.verify(69)
}
