// SPDX-License-Identifier: GPL-2.0

//! Two things at once: what one walks or waits for, the other one frees or holds.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{anyhow, ensure, Context, Result};
use nix::{
    errno::Errno,
    sys::{
        mman::MmapAdvise,
        signal::{kill, Signal},
        wait::{waitpid, WaitStatus},
    },
};

use crate::{
    abi,
    area::{Area, HUGE},
    check_eq,
    device::{Device, PAGE_SIZE},
    test::{
        case::{Case, Ctx},
        child::Peer,
        shown::Shown,
    },
};

pub const CASES: &[Case] = &[
    Case::defect(
        "t5.close_during_fault",
        "a file is closed while a CPU fault brings one of its pages home",
        Shown::breaks(&["BUG: spinlock bad magic in dmirror_devmem_fault_alloc_and_copy"])
            .on_own()
            .append("slab_debug=P"),
        close_during_fault,
    )
    .races(),
    Case::defect(
        "t6.close_beside_release",
        "files are closed while another thread does RELEASE",
        Shown::breaks(&["BUG: unable to handle page fault"]).or_silent(),
        close_beside_release,
    )
    .races(),
    Case::defect(
        "t7.growth_beside_release",
        "device memory grows while another thread does RELEASE",
        Shown::breaks(&["BUG: unable to handle page fault"]).or_silent(),
        |ctx| growth_beside_release(ctx, Area::huge(1)?),
    )
    .races(),
    Case::defect(
        "t8.allocation_beside_release",
        "many small pages are allocated while another thread does RELEASE",
        Shown::hangs(),
        |ctx| growth_beside_release(ctx, Area::small(HUGE)?),
    )
    .races(),
    Case::defect(
        "t11.killable",
        "a process that migrates 256 MiB can be killed at once",
        Shown::fails(&["the killed process went on"]),
        killable,
    )
    .races(),
    Case::defect(
        "k2.fault_during_eviction",
        "a CPU fault need not wait until 64 MiB have been evicted",
        Shown::fails(&["the fault took as long as the eviction"]),
        fault_during_eviction,
    )
    .races(),
    Case::defect(
        "k9.page_table_freed",
        "page tables are freed while their pages are collected",
        Shown::breaks(&["BUG kmalloc-4k"])
            .on_own()
            .append("slab_debug=FZPU"),
        page_table_freed,
    )
    .races(),
];

const DURATION: Duration = Duration::from_secs(2);

/// Does both things again and again, for a while.
fn beside(
    one: impl Fn() -> Result<()> + Send + Sync,
    other: impl Fn() -> Result<()>,
) -> Result<()> {
    let end = Instant::now() + DURATION;
    let stop = AtomicBool::new(false);
    let go_on = || Instant::now() < end && !stop.load(Ordering::Relaxed);
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut result = Ok(());
            while go_on() && result.is_ok() {
                result = one();
            }
            stop.store(true, Ordering::Relaxed);
            result
        });
        let mut result = Ok(());
        while go_on() && result.is_ok() {
            result = other();
        }
        stop.store(true, Ordering::Relaxed);
        match thread.join() {
            Ok(end) => result.and(end),
            Err(_) => anyhow::bail!("a thread panicked"),
        }
    })
}

/// Gives all device memory up; may find pages that are just being moved.
fn release(dev: &Device) -> Result<()> {
    match dev.command(abi::RELEASE, 0, 0, 1) {
        Ok(_) | Err(Errno::EBUSY) => Ok(()),
        Err(errno) => anyhow::bail!("RELEASE: {errno}"),
    }
}

/// Moves what can be moved. All pages, or some, or none: they are being taken away meanwhile.
fn to_device(dev: &Device, area: &Area, buffer: &[u8]) -> Result<()> {
    move_to_device(dev, area.addr(), buffer.as_ptr() as usize, area.npages())
}

fn move_to_device(dev: &Device, addr: usize, ptr: usize, npages: usize) -> Result<()> {
    match dev.command(abi::MIGRATE_TO_DEV, addr, ptr, npages as u64) {
        Ok(_) | Err(Errno::ENOENT | Errno::ENOMEM | Errno::EBUSY) => Ok(()),
        Err(errno) => anyhow::bail!("MIGRATE_TO_DEV: {errno}"),
    }
}

/// The fault must last until the file is gone. It does while it waits for a mirror of the second
/// process, which shares the page: a large read of another device holds that mirror's lock.
fn close_during_fault(_: &Ctx) -> Result<()> {
    const READ: usize = 16384;
    const FOR: Duration = Duration::from_secs(6);
    let area = Area::filled(1, 180)?;
    let reader = Peer::start(|end| {
        let busy = Device::open(1)?;
        let memory = Area::small(READ)?;
        let mut data = vec![0u8; READ * PAGE_SIZE];
        let ptr = data.as_mut_ptr() as usize;
        let read = || busy.command(abi::READ, memory.addr(), ptr, READ as u64);
        read().context("READ")?;
        end.running()?;
        loop {
            read().context("READ")?;
        }
    })?;
    let until = Instant::now() + FOR;
    // How soon the fault begins is the machine's affair.
    for sleep in [10, 30, 90].into_iter().cycle() {
        if Instant::now() >= until {
            break;
        }
        let dev = Device::open(0)?;
        let moved = dev.read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE);
        println!("MIGRATE_TO_DEV: {:?}", moved.err());
        thread::scope(|scope| {
            scope.spawn(|| area.word(99, 0));
            thread::sleep(Duration::from_millis(sleep));
            drop(dev);
        });
        area.verify(180)?;
    }
    // The reader maps the area as well. If it ended during a migration, a kernel with K12 would count wrong.
    kill(reader.pid(), Signal::SIGKILL)?;
    let end = waitpid(reader.pid(), None)?;
    check_eq!(
        end,
        WaitStatus::Signaled(reader.pid(), Signal::SIGKILL, false),
        "the end of the reader"
    );
    area.verify(180)
}

fn close_beside_release(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(16, 181)?;
    let buffer = vec![0u8; area.size()];
    beside(
        || release(&ctx.dev),
        || {
            let dev = Device::open(0)?;
            to_device(&dev, &area, &buffer)?;
            drop(dev);
            area.verify(181)
        },
    )
}

fn growth_beside_release(ctx: &Ctx, area: Area) -> Result<()> {
    area.fill(182);
    let buffer = vec![0u8; area.size()];
    let dev = Device::open(0)?;
    beside(
        || release(&dev),
        || {
            to_device(&ctx.dev, &area, &buffer)?;
            area.verify_pages(182, 3, 1)
        },
    )?;
    area.verify(182)
}

/// How long a process takes to migrate 256 MiB, or to be killed while it does.
fn migrate_much(kill_after: Option<Duration>) -> Result<Duration> {
    const HUGE_PAGES: usize = 128;
    let peer = Peer::start(|end| {
        let dev = Device::open(0)?;
        let area = Area::huge(HUGE_PAGES)?;
        end.running()?;
        // There is no room for the data, which comes to light when all is done.
        let moved = dev.command(abi::MIGRATE_TO_DEV, area.addr(), 0, area.npages() as u64);
        ensure!(
            moved.err() == Some(Errno::EFAULT),
            "MIGRATE_TO_DEV: {moved:?}"
        );
        Ok(())
    })?;
    let start = Instant::now();
    if let Some(after) = kill_after {
        thread::sleep(after);
        kill(peer.pid(), Signal::SIGKILL)?;
    }
    // A signal that comes late finds it finished, which is no better than going on.
    let end = peer.finish();
    ensure!(end.is_ok() || kill_after.is_some(), "it ended with {end:?}");
    Ok(start.elapsed())
}

/// The median of five: what slows a busy machine down for a while slows both of a pair.
fn killable(_: &Ctx) -> Result<()> {
    let part = || -> Result<f32> {
        let whole = migrate_much(None)?;
        let killed = migrate_much(Some(whole / 5))?;
        println!("{whole:.2?} in all, killed after a fifth of it: {killed:.2?}");
        Ok(killed.as_secs_f32() / whole.as_secs_f32())
    };
    let mut parts = (0..5).map(|_| part()).collect::<Result<Vec<_>>>()?;
    parts.sort_by(f32::total_cmp);
    ensure!(parts[2] < 0.6, "the killed process went on");
    Ok(())
}

/// The longest touch of a page while 64 MiB are being evicted, as a part of the time that takes.
fn longest_touch() -> Result<f32> {
    let area = Area::filled(32, 183)?;
    let dev = Device::open(0)?;
    dev.read_by(abi::MIGRATE_TO_DEV, area.addr(), area.npages())?;
    let start = Instant::now();
    let (eviction, touch) = thread::scope(|scope| -> Result<_> {
        let eviction = scope.spawn(|| {
            drop(dev);
            start.elapsed()
        });
        let mut longest = Duration::ZERO;
        // Those that are touched before the eviction has them come home by themselves.
        for page in (0..area.npages()).step_by(HUGE).rev() {
            let start = Instant::now();
            area.word(page, 0);
            longest = longest.max(start.elapsed());
        }
        let eviction = eviction.join();
        Ok((eviction.map_err(|_| anyhow!("panicked"))?, longest))
    })?;
    println!("eviction {eviction:.2?}, the longest touch {touch:.2?}");
    area.verify_pages(183, area.npages() - 1, 1)?;
    Ok(touch.as_secs_f32() / eviction.as_secs_f32())
}

/// The median of five.
fn fault_during_eviction(_: &Ctx) -> Result<()> {
    let mut parts = (0..5)
        .map(|_| longest_touch())
        .collect::<Result<Vec<_>>>()?;
    parts.sort_by(f32::total_cmp);
    ensure!(parts[2] < 0.4, "the fault took as long as the eviction");
    Ok(())
}

/// Pages of 64 KiB: each one is split by the collector with the page table unlocked, after it has
/// collected those before. The first page stays, so that the range is never taken for a huge hole.
fn page_table_freed(ctx: &Ctx) -> Result<()> {
    let _orders = MidSize::only()?;
    let area = Area::huge(1)?;
    let buffer = vec![0u8; area.size()];
    let ptr = buffer.as_ptr() as usize;
    beside(
        || {
            thread::sleep(Duration::from_micros(300));
            area.advise(MmapAdvise::MADV_DONTNEED)
        },
        || {
            for page in (0..HUGE).step_by(8) {
                area.set_word(page, 0, 1);
            }
            move_to_device(&ctx.dev, area.page(1), ptr, HUGE - 1)
        },
    )
}

/// While this lives, memory comes in pages of 64 KiB and not of 2 MiB.
struct MidSize;

impl MidSize {
    const KNOBS: [(&'static str, &'static str, &'static str); 2] = [
        ("hugepages-2048kB", "never", "inherit"),
        ("hugepages-64kB", "always", "never"),
    ];

    fn set(on: bool) -> Result<()> {
        for (size, during, otherwise) in Self::KNOBS {
            let knob = format!("/sys/kernel/mm/transparent_hugepage/{size}/enabled");
            std::fs::write(&knob, if on { during } else { otherwise }).context(knob)?;
        }
        Ok(())
    }

    fn only() -> Result<MidSize> {
        Self::set(true)?;
        Ok(MidSize)
    }
}

impl Drop for MidSize {
    fn drop(&mut self) {
        let _ = Self::set(false);
    }
}
