// SPDX-License-Identifier: GPL-2.0

//! Allocation failures: for each operation of the driver, the n-th allocation fails, for each n until there are no more
//! allocations. The answer must be success or `ENOMEM`, and data, counts and device memory must be right after each.

use std::cell::Cell;

use anyhow::{bail, ensure, Context, Result};
use nix::{errno::Errno, sys::mman::MapFlags};

use crate::{
    abi::{self, Point},
    area::{pattern_bytes, verify_bytes, Area, HUGE},
    check_eq,
    device::{Device, PAGE_SIZE},
    ledger::Ledger,
    proc::fail_nth::FailNth,
    ready::Ready,
    test::{
        case::{Case, Ctx, NEW_ABI},
        child::Skip,
    },
};

pub const CASES: &[Case] = &[
    Case::new("nth.to_device", "MIGRATE to the device", NEW_ABI, |ctx| {
        migrate(ctx, abi::TO_DEVICE, false)
    }),
    Case::new(
        "nth.to_device_split",
        "MIGRATE to the device without a huge destination",
        NEW_ABI,
        |ctx| migrate(ctx, abi::TO_DEVICE, true),
    ),
    Case::new(
        "nth.to_system",
        "MIGRATE to system memory",
        NEW_ABI,
        |ctx| migrate(ctx, abi::TO_SYSTEM, false),
    ),
    Case::new(
        "nth.to_system_split",
        "MIGRATE to system memory without a huge destination",
        NEW_ABI,
        |ctx| migrate(ctx, abi::TO_SYSTEM, true),
    ),
    Case::new(
        "nth.old_migrations",
        "MIGRATE_TO_DEV and MIGRATE_TO_SYS, with the data read back",
        NEW_ABI,
        old_migrations,
    ),
    Case::new("nth.fault", "a CPU fault on a huge page", NEW_ABI, |ctx| {
        fault(ctx, false)
    }),
    Case::new(
        "nth.fault_small",
        "a CPU fault on a small page",
        NEW_ABI,
        |ctx| fault(ctx, true),
    ),
    Case::new("nth.access", "READ, WRITE, SNAPSHOT", NEW_ABI, access),
    Case::new("nth.exclusive", "EXCLUSIVE", NEW_ABI, exclusive),
    Case::new(
        "nth.queries",
        "PAGE, STATS, INJECT, CHECK_EXCLUSIVE, FLAGS",
        NEW_ABI,
        queries,
    ),
    Case::new(
        "nth.copy",
        "COPY that begins with an empty TLB",
        NEW_ABI,
        copy,
    ),
    Case::new(
        "nth.ledger",
        "MIGRATE while the ledger is on",
        NEW_ABI,
        with_ledger,
    ),
    Case::new(
        "nth.locked",
        "MIGRATE of a page that somebody has locked",
        NEW_ABI,
        locked,
    ),
    Case::new(
        "nth.grow",
        "MIGRATE to a device that has to make its memory first",
        NEW_ABI,
        grow,
    ),
    Case::new("nth.mmap", "mapping the node", NEW_ABI, map),
    Case::new("nth.open", "opening the node", NEW_ABI, open),
    Case::new(
        "nth.close",
        "closing a file that has pages on the device",
        NEW_ABI,
        close,
    )
    .may_stick(),
    Case::new(
        "nth.release",
        "RELEASE with pages on the device",
        NEW_ABI,
        release,
    )
    .may_stick(),
];

/// No operation here allocates this often; one that does has a loop.
const MOST: u64 = 20_000;

/// Tries `part` with each n until its allocations run out. `check` is told whether one failed.
fn sweep<T>(part: impl FnMut() -> T, check: impl FnMut(T, bool) -> Result<()>) -> Result<()> {
    ensure!(sweep_any(part, check)? > 0, "nothing was made to fail");
    Ok(())
}

/// As [`sweep`], for what may have all its memory already. Gives how many allocations failed.
fn sweep_any<T>(
    mut part: impl FnMut() -> T,
    mut check: impl FnMut(T, bool) -> Result<()>,
) -> Result<u64> {
    let fail = FailNth::new()?.ok_or_else(|| Skip("this kernel has no fail-nth".into()))?;
    let mut n = 1;
    let mut failures = 0;
    loop {
        let (done, failed) = fail.run(n, &mut part)?;
        check(done, failed).with_context(|| format!("allocation {n} fails: {failed}"))?;
        if !failed {
            break;
        }
        failures += 1;
        ensure!(n < MOST, "allocation {n} and no end");
        // All of the first eight; then, where pages are allocated one by one, some.
        n += 1 + n / 8;
    }
    println!("{failures} failures, none from the {n}th allocation on");
    Ok(failures)
}

/// Success; or no memory, if something `failed` for want of it.
fn answered<T>(result: Result<T, Errno>, failed: bool) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::ENOMEM) if failed => Ok(None),
        Err(errno) => bail!("{errno}"),
    }
}

/// A huge page where `direction` begins. Each attempt wants a new one: what was split stays so.
fn source(ctx: &Ctx, direction: u32, seed: u64) -> Result<Area> {
    let area = Area::filled(1, seed)?;
    Device::trim(0)?;
    if direction == abi::TO_SYSTEM {
        ctx.to_device(&area, seed)?;
    }
    Ok(area)
}

fn migrate(ctx: &Ctx, direction: u32, split: bool) -> Result<()> {
    // What is there already cannot fail.
    let _none = Ready::keep(0)?;
    let next = || source(ctx, direction, 310).map(Some);
    let area = Cell::new(next()?);
    sweep(
        || {
            let taken = area.take();
            let result = taken.as_ref().map(|area| {
                if split {
                    ctx.dev.inject(Point::HugeAlloc, 0, 1)?;
                }
                ctx.dev.migrate(direction, area.addr(), HUGE)
            });
            (taken, result)
        },
        |(taken, result), failed| {
            let (taken, result) = (taken.context("no area")?, result.context("no result")?);
            ctx.dev.inject(Point::HugeAlloc, 0, 0)?;
            if let Some(counts) = answered(result, failed)? {
                check_eq!(counts.accounted(), counts.npages, "pages accounted for");
                ensure!(
                    failed || counts.moved() == counts.npages,
                    "pages stay although nothing failed: {}",
                    counts.summary()
                );
            }
            taken.verify(310)?;
            area.set(next()?);
            Ok(())
        },
    )
}

/// They say `ENOENT` where not all pages moved.
fn old_migrations(ctx: &Ctx) -> Result<()> {
    let _none = Ready::keep(0)?;
    for (code, direction) in [
        (abi::MIGRATE_TO_DEV, abi::TO_DEVICE),
        (abi::MIGRATE_TO_SYS, abi::TO_SYSTEM),
    ] {
        let next = || source(ctx, direction, 318).map(Some);
        let area = Cell::new(next()?);
        let mut data = vec![0; HUGE * PAGE_SIZE];
        sweep(
            || {
                let ptr = data.as_mut_ptr() as usize;
                let taken = area.take();
                let result = taken
                    .as_ref()
                    .map(|area| ctx.dev.command(code, area.addr(), ptr, HUGE as u64));
                (taken, result)
            },
            |(taken, result), failed| {
                match result.context("no result")? {
                    Ok(_) => {}
                    Err(Errno::ENOMEM | Errno::ENOENT) if failed => {}
                    Err(errno) => bail!("{errno}"),
                }
                taken.context("no area")?.verify(318)?;
                area.set(next()?);
                Ok(())
            },
        )
        .with_context(|| format!("ioctl {code:#x}"))?;
    }
    Ok(())
}

fn fault(ctx: &Ctx, small: bool) -> Result<()> {
    // What is there already cannot fail.
    let _none = Ready::keep(0)?;
    let next = || -> Result<Option<Area>> {
        let area = match small {
            true => Area::filled_small(HUGE, 311)?,
            false => Area::filled(1, 311)?,
        };
        ctx.to_device(&area, 311)?;
        Ok(Some(area))
    };
    let area = Cell::new(next()?);
    sweep(
        || {
            let taken = area.take();
            let word = taken.as_ref().map(|area| area.word(77, 3));
            (taken, word)
        },
        |(taken, word), _| {
            let taken = taken.context("no area")?;
            taken.verify(311)?;
            check_eq!(word, Some(taken.word(77, 3)), "the word that was touched");
            area.set(next()?);
            Ok(())
        },
    )
}

fn access(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 312)?;
    let addr = area.addr();
    let right = |seed: u64, result: Result<Vec<u8>, Errno>, failed: bool| -> Result<()> {
        match answered(result, failed)? {
            Some(data) => verify_bytes(seed, 0, &data),
            None => Ok(()),
        }
    };
    // The table of a mirror that is new is empty: it is filled on the way.
    let anew = || Device::open(0);
    let dev = Cell::new(Some(anew()?));
    let on_new = |part: &dyn Fn(&Device) -> Result<Vec<u8>, Errno>,
                  check: &dyn Fn(Result<Vec<u8>, Errno>, bool) -> Result<()>| {
        sweep(
            || {
                let taken = dev.take();
                taken.as_ref().map(part)
            },
            |result, failed| {
                dev.set(Some(anew()?));
                check(result.context("no device")?, failed)
            },
        )
    };
    on_new(&|dev| dev.read(addr, 80), &|data, failed| {
        right(312, data, failed)
    })
    .context("READ")?;
    on_new(
        &|dev| dev.read_by(abi::READ_UNLOCKED, addr, 80),
        &|data, failed| right(312, data, failed),
    )
    .context("READ_UNLOCKED")?;
    // Works with arrays that the device has already, if it was ever used.
    sweep_any(
        || ctx.dev.snapshot(addr, HUGE),
        |data, failed| answered(data, failed).map(drop),
    )
    .context("SNAPSHOT")?;
    let data = pattern_bytes(313, 0, HUGE);
    on_new(
        &|dev| dev.write(addr, &data).map(|_| Vec::new()),
        &|result, failed| {
            let is_done = answered(result, failed)?.is_some();
            // Page by page old or new; all new if it said so.
            for page in 0..HUGE {
                let is_new = area.verify_pages(313, page, 1).is_ok();
                ensure!(is_new || !is_done, "page {page} was not written");
                ensure!(
                    is_new || area.verify_pages(312, page, 1).is_ok(),
                    "page {page} is neither old nor new"
                );
            }
            area.fill(312);
            Ok(())
        },
    )
    .context("WRITE")?;
    area.verify(312)?;
    ctx.to_device(&area, 312)?;
    on_new(&|dev| dev.read(addr, 80), &|data, failed| {
        right(312, data, failed)
    })
    .context("READ on the device")?;
    area.verify(312)
}

fn exclusive(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(16, 314)?;
    let mut data = vec![0; 16 * PAGE_SIZE];
    sweep(
        || {
            let ptr = data.as_mut_ptr() as usize;
            ctx.dev.command(abi::EXCLUSIVE, area.addr(), ptr, 16)
        },
        |result, failed| {
            answered(result, failed)?;
            area.verify(314)
        },
    )
}

fn queries(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 315)?;
    sweep(
        || ctx.dev.page(area.addr()),
        |result, failed| answered(result, failed).map(drop),
    )
    .context("PAGE")?;
    sweep(
        || ctx.dev.stats(),
        |result, failed| answered(result, failed).map(drop),
    )
    .context("STATS")?;
    // These need no memory at all.
    let fail = FailNth::new()?.context("fail-nth")?;
    let (inject, _) = fail.run(1, || ctx.dev.inject(Point::Copy, 0, 0))?;
    inject.context("INJECT")?;
    let check = || {
        ctx.dev
            .command(abi::CHECK_EXCLUSIVE, area.addr(), 0, HUGE as u64)
    };
    fail.run(1, check)?.0.context("CHECK_EXCLUSIVE")?;
    fail.run(1, || ctx.dev.set_flags(0))?.0.context("FLAGS")?;
    area.verify(315)
}

fn copy(ctx: &Ctx) -> Result<()> {
    let kind = abi::COPY_COLD | abi::COPY_PAGES;
    sweep(
        || ctx.dev.copy(kind, 0, 1),
        |ns, failed| match answered(ns, failed)? {
            Some(ns) => {
                ensure!(ns > 0, "no time at all");
                Ok(())
            }
            None => Ok(()),
        },
    )
}

/// Moves a single page to the device, which may stay, and home again.
fn single(ctx: &Ctx, area: &Area, seed: u64) -> Result<()> {
    sweep(
        || ctx.dev.migrate(abi::TO_DEVICE, area.addr(), 1),
        |result, failed| {
            if let Some(counts) = answered(result, failed)? {
                check_eq!(counts.accounted(), 1, "pages accounted for");
            }
            area.verify(seed)
        },
    )
}

fn with_ledger(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(1, 319)?;
    let ledger = Ledger::enable()?;
    single(ctx, &area, 319)?;
    check_eq!(ledger.too_low()?, 0, "counts that were too low");
    Ok(())
}

fn locked(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(1, 320)?;
    ctx.dev.inject(Point::FolioLock, 0, u64::MAX)?;
    single(ctx, &area, 320)?;
    ctx.dev.inject(Point::FolioLock, 0, 0)?;
    single(ctx, &area, 320)
}

/// The first allocations only: each attempt that gets further makes 256 MiB of memory, and the core warns where
/// it cannot (`add_pages()`).
fn grow(ctx: &Ctx) -> Result<()> {
    const ATTEMPTS: u64 = 5;
    let fail = FailNth::new()?.ok_or_else(|| Skip("this kernel has no fail-nth".into()))?;
    let area = Area::filled_small(1, 321)?;
    let mut without = 0;
    for n in 1..=ATTEMPTS {
        ctx.dev.command(abi::RELEASE, 0, 0, 1).context("RELEASE")?;
        check_eq!(ctx.dev.stats()?.chunks, 0, "chunks after RELEASE");
        let (result, failed) = fail.run(n, || ctx.dev.migrate(abi::TO_DEVICE, area.addr(), 1))?;
        if let Some(counts) = answered(result, failed)? {
            check_eq!(counts.accounted(), 1, "pages accounted for");
            let refused = counts.refused[abi::REFUSED_NO_MEMORY];
            println!("allocation {n} fails: {refused} page refused");
            without += refused;
        }
        area.verify(321)?;
    }
    ensure!(without > 0, "the device had memory each time");
    ctx.to_device(&area, 321)?;
    area.verify(321)
}

fn open(_: &Ctx) -> Result<()> {
    sweep(
        || Device::open(0),
        |result, failed| match result {
            Err(error) if !failed => Err(error),
            _ => Ok(()),
        },
    )
}

fn map(ctx: &Ctx) -> Result<()> {
    sweep(
        || Area::file(16, ctx.dev.file(), MapFlags::MAP_PRIVATE),
        |mapped, failed| match mapped {
            Ok(area) => {
                area.touch();
                Ok(())
            }
            Err(error) if failed => {
                println!("{error:#}");
                Ok(())
            }
            Err(error) => Err(error),
        },
    )
}

/// What stays on the device when nothing can be allocated comes home at the next touch.
fn close(_: &Ctx) -> Result<()> {
    let next = || -> Result<_> {
        let area = Area::filled(1, 316)?;
        let dev = Device::open(0)?;
        dev.migrate(abi::TO_DEVICE, area.addr(), HUGE)?;
        Ok(Some((area, dev)))
    };
    let both = Cell::new(next()?);
    sweep(
        || both.take().map(|(area, dev)| (area, drop(dev)).0),
        |area, _| {
            area.context("no area")?.verify(316)?;
            both.set(next()?);
            Ok(())
        },
    )
}

fn release(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 317)?;
    ctx.to_device(&area, 317)?;
    sweep(
        || ctx.dev.command(abi::RELEASE, 0, 0, 1),
        |result, failed| {
            match result {
                Ok(_) => {}
                Err(Errno::ENOMEM | Errno::EBUSY) if failed => {}
                Err(errno) => bail!("RELEASE: {errno}"),
            }
            area.verify(317)?;
            ctx.go(abi::TO_DEVICE, area.addr(), HUGE).map(drop)
        },
    )?;
    area.verify(317)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_memory_is_an_answer_to_a_failure_only() {
        assert_eq!(answered(Ok(1), false).unwrap(), Some(1));
        assert_eq!(answered::<()>(Err(Errno::ENOMEM), true).unwrap(), None);
        assert!(answered::<()>(Err(Errno::ENOMEM), false).is_err());
        assert!(answered::<()>(Err(Errno::EBUSY), true).is_err());
    }
}
