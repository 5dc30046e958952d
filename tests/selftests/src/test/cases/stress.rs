// SPDX-License-Identifier: GPL-2.0

//! Faults, migrations, closes and releases race with each other, while the data are checked all the time.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail, ensure, Context, Result};
use nix::{
    errno::Errno,
    sys::mman::{MmapAdvise, ProtFlags},
};

use crate::{
    abi::{self, Point},
    area::{pattern_bytes, verify_bytes, Area, HUGE},
    check_eq,
    device::{Device, PAGE_SIZE},
    test::{
        case::{Case, Ctx, OnC, NEW_ABI},
        core_bug::CoreBug,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "stress.faults",
        "two threads write all the time while a third migrates, for two seconds",
        NEW_ABI,
        |ctx| faults(ctx, &[]),
    )
    .races(),
    Case::new(
        "stress.faults_split",
        "the same while huge allocations fail and splits are refused now and then",
        NEW_ABI,
        |ctx| faults(ctx, &[Point::HugeAlloc, Point::ExtraRef, Point::FolioLock]),
    )
    .races(),
    Case::new(
        "stress.device_write",
        "T9: a device write that returned 0 is never lost to a migration",
        OnC::Skip("T9, T10: races that the C driver loses"),
        device_write,
    )
    .races(),
    Case::new(
        "stress.read_unlocked",
        "READ_UNLOCKED wants to read, also if it has to begin anew where it could write before",
        NEW_ABI,
        read_unlocked,
    )
    .races(),
    Case::new(
        "stress.exclusive",
        "pages become exclusive while somebody tries again and again to make a huge page of them",
        NEW_ABI,
        exclusive,
    )
    .races(),
    Case::new(
        "stress.locked_page",
        "a migration that finds its page locked, beside faults on it and changes of the mapping",
        NEW_ABI,
        locked_page,
    )
    .races(),
    Case::new(
        "stress.close",
        "files are closed while another thread migrates through them",
        OnC::Skip("T6, T7: oopses the kernel"),
        close,
    )
    .races(),
    Case::new(
        "stress.release",
        "T6, T8: RELEASE while another thread migrates",
        OnC::Skip("T6, T7: oopses the kernel"),
        release,
    )
    .races(),
    Case::new(
        "stress.fork",
        "forks while another thread migrates: every child sees the data",
        OnC::Skip("T1, K3: oopses the kernel"),
        fork,
    )
    .races(),
    Case::new(
        "stress.zap",
        "K12: huge device pages are zapped while they migrate",
        OnC::Skip("K12: the kernel does not survive; T9, T10: C loses races"),
        zap,
    )
    .meets(CoreBug::ZAPPED_TWICE)
    .races(),
    Case::new(
        "stress.unmap_while_evicted",
        "K13: memory is unmapped while its pages are evicted, for two seconds",
        OnC::Skip("K13: the kernel may not survive"),
        |_| unmap_while_evicted(),
    )
    .races(),
];

const DURATION: Duration = Duration::from_secs(2);

/// Runs `work` in a thread for each index until `main` has ended. Returns the first error.
fn race(
    threads: usize,
    work: impl Fn(usize, &dyn Fn() -> bool) -> Result<()> + Sync,
    main: impl FnOnce(&dyn Fn() -> bool) -> Result<()>,
) -> Result<()> {
    let stop = AtomicBool::new(false);
    let limit = Instant::now() + DURATION;
    let running = || !stop.load(Ordering::Relaxed) && Instant::now() < limit;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|index| {
                let (work, running, stop) = (&work, &running, &stop);
                scope.spawn(move || {
                    let result = work(index, running);
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    result
                })
            })
            .collect();
        let mut result = main(&running);
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        for worker in workers {
            let end = worker
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread panicked")));
            result = result.and(end);
        }
        result
    })
}

/// The time within which an access must make progress. It is long, because the collector flushes the TLBs of all
/// CPUs that run in the address space for each small page: under emulation on a busy machine, a thousand of these
/// were seen to take four seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often an extra reference is held. A CPU fault is repeated at least ten times before it fails.
const HELD_EVERY: Duration = Duration::from_millis(DURATION.as_millis() as u64 / 9);

/// Writes to its share of the pages, and checks that the last written data are still there.
fn count_up(area: &Area, index: usize, of: usize, running: &dyn Fn() -> bool) -> Result<()> {
    let mut rounds = vec![0; area.npages()];
    let mut longest = Duration::ZERO;
    let mut accesses = 0;
    for page in (index..area.npages()).step_by(of).cycle() {
        let start = Instant::now();
        check_eq!(area.word(page, 8), rounds[page], "page {page}");
        rounds[page] += 1;
        area.set_word(page, 8, rounds[page]);
        longest = longest.max(start.elapsed());
        accesses += 1;
        if !running() {
            break;
        }
        // The migrating thread must find something to migrate, also on one CPU.
        if accesses % 512 == 0 {
            thread::yield_now();
        }
    }
    println!("thread {index}: {accesses} accesses, the longest {longest:.1?}");
    ensure!(longest < PATIENCE, "thread {index} starves");
    Ok(())
}

fn faults(ctx: &Ctx, points: &[Point]) -> Result<()> {
    let area = Area::huge(2)?;
    for page in 0..area.npages() {
        area.set_word(page, 8, 0);
    }
    let mut moved = 0;
    let mut longest = Duration::ZERO;
    race(
        2,
        |index, running| count_up(&area, index, 2, running),
        |running| {
            let mut held = Instant::now();
            for round in 0.. {
                if !running() {
                    break;
                }
                for (index, &point) in points.iter().enumerate() {
                    match point {
                        // So rarely that no CPU fault is refused each time that it is repeated.
                        Point::ExtraRef if held.elapsed() < HELD_EVERY => {}
                        Point::ExtraRef => {
                            ctx.dev.inject(point, 0, 1)?;
                            held = Instant::now();
                        }
                        _ => drop(ctx.dev.inject(point, 0, (round >> index) % 3)?),
                    }
                }
                let direction = match round % 4 {
                    3 => abi::TO_SYSTEM,
                    _ => abi::TO_DEVICE,
                };
                let start = Instant::now();
                let result = ctx.dev.migrate(direction, area.addr(), area.npages())?;
                longest = longest.max(start.elapsed());
                check_eq!(result.accounted(), result.npages, "pages accounted for");
                moved += result.moved();
            }
            ctx.dev.inject(Point::All, 0, 0)?;
            Ok(())
        },
    )?;
    println!("{moved} pages migrated, the longest call {longest:.1?}");
    ensure!(moved > 0 && longest < PATIENCE, "migration starves");
    Ok(())
}

/// One thread writes through the device and reads by the CPU, another one migrates.
fn device_write(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 100)?;
    race(
        1,
        |_, running| {
            while running() {
                ctx.dev.migrate(abi::TO_DEVICE, area.addr(), HUGE)?;
                area.word(200, 0);
            }
            Ok(())
        },
        |running| {
            let mut round = 0;
            while running() {
                round += 1;
                let page = round as usize % 8;
                let seed = 1000 + round;
                match ctx
                    .dev
                    .write(area.page(page), &pattern_bytes(seed, page, 1))
                {
                    Ok(_) => area
                        .verify_pages(seed, page, 1)
                        .with_context(|| format!("round {round}: a lost device write"))?,
                    Err(Errno::EBUSY) => continue,
                    Err(errno) => bail!("WRITE: {errno}"),
                }
            }
            println!("{round} device writes");
            Ok(())
        },
    )?;
    area.verify_pages(100, 8, HUGE - 8)
}

fn close(_: &Ctx) -> Result<()> {
    let area = Area::filled(2, 101)?;
    race(
        1,
        |_, running| {
            while running() {
                area.verify_pages(101, 17, 1)?;
                area.verify_pages(101, HUGE + 99, 1)?;
            }
            Ok(())
        },
        |running| {
            while running() {
                let dev = Device::open(0)?;
                let fd = dev.fd();
                thread::scope(|scope| -> Result<()> {
                    let migration = scope.spawn(|| {
                        // SAFETY: a valid argument; the descriptor may be closed by now, or be
                        // closed while the ioctl runs: that is the test.
                        let mut argument = crate::device::migrate_argument(
                            abi::TO_DEVICE,
                            area.addr(),
                            area.npages(),
                        );
                        Errno::result(unsafe {
                            nix::libc::ioctl(fd, abi::MIGRATE.into(), &raw mut argument)
                        })
                    });
                    thread::sleep(Duration::from_micros(300));
                    drop(dev);
                    let end = migration.join().map_err(|_| anyhow!("panicked"))?;
                    ensure!(matches!(end, Ok(_) | Err(Errno::EBADF)), "MIGRATE: {end:?}");
                    Ok(())
                })?;
            }
            Ok(())
        },
    )?;
    area.verify(101)
}

fn release(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(2, 102)?;
    race(
        1,
        |_, running| {
            while running() {
                match ctx.dev.migrate(abi::TO_DEVICE, area.addr(), area.npages()) {
                    Ok(_) | Err(Errno::EBUSY | Errno::ENOMEM) => {}
                    Err(errno) => bail!("MIGRATE: {errno}"),
                }
                area.verify_pages(102, 5, 1)?;
            }
            Ok(())
        },
        |running| {
            while running() {
                match ctx.dev.command(abi::RELEASE, area.addr(), 0, 1) {
                    Ok(_) | Err(Errno::EBUSY) => {}
                    Err(errno) => bail!("RELEASE: {errno}"),
                }
                thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        },
    )?;
    area.verify(102)
}

fn fork(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 103)?;
    let stack = vec![0u8; PAGE_SIZE];
    race(
        1,
        |_, running| {
            while running() {
                ctx.dev.migrate(abi::TO_DEVICE, area.addr(), HUGE)?;
            }
            Ok(())
        },
        |running| {
            let mut children = 0;
            while running() {
                // SAFETY: the child only reads memory and ends, it takes no lock.
                match unsafe { nix::unistd::fork() }.context("fork")? {
                    nix::unistd::ForkResult::Child => {
                        let good = area.verify_pages(103, 0, 32).is_ok() && stack[0] == 0;
                        // SAFETY: ends the child at once.
                        unsafe { nix::libc::_exit(i32::from(!good)) }
                    }
                    nix::unistd::ForkResult::Parent { child } => {
                        let status = nix::sys::wait::waitpid(child, None)?;
                        ensure!(
                            matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)),
                            "a child saw other data: {status:?}"
                        );
                        children += 1;
                    }
                }
            }
            println!("{children} children");
            Ok(())
        },
    )?;
    area.verify(103)
}

/// When the core zaps a migration entry of a huge device folio, it takes it for a device-private entry, and the kernel
/// crashes, whichever driver migrates (K12). Patch 0012 fixes it.
fn zap(ctx: &Ctx) -> Result<()> {
    let area = Area::huge(1)?;
    race(
        1,
        |_, running| {
            while running() {
                area.advise(MmapAdvise::MADV_DONTNEED)?;
                thread::sleep(Duration::from_micros(900));
            }
            Ok(())
        },
        |running| {
            let mut moved = 0;
            while running() {
                for page in (0..HUGE).step_by(64) {
                    area.set_word(page, 0, 1);
                }
                for direction in [abi::TO_DEVICE, abi::TO_SYSTEM] {
                    moved += ctx.dev.migrate(direction, area.addr(), HUGE)?.moved();
                }
            }
            println!("{moved} pages migrated");
            ensure!(moved > 0, "nothing migrated");
            Ok(())
        },
    )
}

/// Eviction unmaps pages without a reference on their anon_vma (K13): the core may free it, and uses it when the
/// pages are mapped again. Only KASAN sees that each time; without it, the memory is rarely reused by then.
/// `pause.evict.small` shows the same without a race.
fn unmap_while_evicted() -> Result<()> {
    let on_device = || -> Result<(Device, Area)> {
        // All single pages of a range are unmapped together, and mapped again: that takes longest.
        let area = Area::filled_small(HUGE, 184)?;
        let dev = Device::open(0)?;
        let moved = dev.migrate(abi::TO_DEVICE, area.addr(), HUGE)?.moved();
        check_eq!(moved, HUGE as u64, "pages moved");
        Ok((dev, area))
    };
    let (dev, area) = on_device()?;
    let start = Instant::now();
    drop(dev);
    let eviction = start.elapsed();
    area.verify(184)?;
    let end = Instant::now() + Duration::from_secs(2);
    let mut rounds = 0;
    for eighth in (0..8).cycle().take_while(|_| Instant::now() < end) {
        let (dev, area) = on_device()?;
        thread::scope(|scope| {
            scope.spawn(|| drop(dev));
            thread::sleep(eviction * eighth / 8);
            drop(area);
        });
        rounds += 1;
    }
    println!("{rounds} times; an eviction takes {eviction:.2?}");
    ensure!(rounds > 0, "there was no time for it");
    Ok(())
}

/// If the mapping changes, `hmm_range_fault_unlocked_timeout()` retries with its earlier answers in place of the
/// requests. Here it finds writable pages, then at a missing page that the mapping has changed, and when it retries
/// no page may be written.
fn read_unlocked(ctx: &Ctx) -> Result<()> {
    const NPAGES: usize = 64;
    const LAST: usize = NPAGES - 1;
    let area = Area::filled_small(NPAGES, 190)?;
    race(
        2,
        |index, running| {
            while running() {
                if index == 0 {
                    area.discard(LAST, 1)?;
                    continue;
                }
                area.protect(ProtFlags::PROT_READ)?;
                area.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
                for page in 0..LAST {
                    area.set_word(page, 0, area.word(page, 0));
                }
            }
            Ok(())
        },
        |running| {
            let mut done = 0;
            while running() {
                match ctx.dev.read_by(abi::READ_UNLOCKED, area.addr(), NPAGES) {
                    Ok(data) => verify_bytes(190, 0, &data[..LAST * PAGE_SIZE])?,
                    // It did not hold still for long enough.
                    Err(Errno::EBUSY) => continue,
                    Err(errno) => bail!("after {done} reads: {errno}"),
                }
                done += 1;
            }
            println!("{done} reads");
            ensure!(done > 0, "nothing was read");
            Ok(())
        },
    )
}

/// The call invalidates the device's mapping before it finds that it cannot go on: the device must fault again.
fn exclusive(ctx: &Ctx) -> Result<()> {
    const NPAGES: usize = 16;
    let area = Area::huge(1)?;
    area.advise(MmapAdvise::MADV_NOHUGEPAGE)?;
    area.fill(191);
    area.advise(MmapAdvise::MADV_HUGEPAGE)?;
    race(
        1,
        |_, running| {
            while running() {
                // It may succeed as well.
                let _ = area.collapse();
            }
            Ok(())
        },
        |running| {
            let mut buffer = vec![0; NPAGES * PAGE_SIZE];
            let mut done = 0;
            while running() {
                let ptr = buffer.as_mut_ptr() as usize;
                let (addr, npages) = (area.addr(), NPAGES as u64);
                match ctx.dev.command(abi::EXCLUSIVE, addr, ptr, npages) {
                    Ok(_) => verify_bytes(191, 0, &buffer)?,
                    // It did not hold still for long enough.
                    Err(Errno::EBUSY) => continue,
                    Err(errno) => bail!("after {done} times: {errno}"),
                }
                done += 1;
            }
            println!("{done} times");
            ensure!(done > 0, "no page became exclusive");
            Ok(())
        },
    )?;
    area.verify(191)
}

/// A fault waits for the folio lock with mmap_lock held, and a task that changes the mapping waits behind it. The
/// holder of the folio lock must therefore not wait for mmap_lock.
fn locked_page(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(1, 192)?;
    race(
        2,
        |index, running| {
            while running() {
                if index == 0 {
                    area.word(0, 0);
                    continue;
                }
                area.protect(ProtFlags::PROT_READ)?;
                area.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
            }
            Ok(())
        },
        |running| {
            let mut found = 0;
            while running() {
                ctx.dev.migrate(abi::TO_DEVICE, area.addr(), 1)?;
                ctx.dev.inject(Point::FolioLock, 0, 1)?;
                ctx.dev.migrate(abi::TO_SYSTEM, area.addr(), 1)?;
                found += 1;
            }
            println!("{found} times");
            ensure!(found > 0, "nothing was tried");
            Ok(())
        },
    )?;
    ctx.dev.inject(Point::FolioLock, 0, 0)?;
    area.verify(192)
}
