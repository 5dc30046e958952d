// SPDX-License-Identifier: GPL-2.0

//! What others see and do: debugfs, `fail_function`, the tracepoint.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{anyhow, ensure, Context, Result};

use crate::{
    abi,
    area::{Area, HUGE},
    check_eq,
    device::{self, Device},
    ledger, stat,
    test::{
        case::{Case, Ctx, Undo, NEW_ABI},
        child::Skip,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "outside.debugfs_inject",
        "a failure armed for the whole device in debugfs, counted and cleared there",
        NEW_ABI,
        debugfs_inject,
    ),
    Case::new(
        "outside.debugfs_counters",
        "debugfs shows the counters of every device and the ledger's as STATS does",
        NEW_ABI,
        debugfs_counters,
    ),
    Case::new(
        "outside.debugfs_stuck",
        "debugfs lists what an eviction had to leave, and who holds it",
        NEW_ABI,
        debugfs_stuck,
    )
    .may_stick(),
    Case::new(
        "outside.debugfs_arguments",
        "debugfs refuses what is no setting, and keeps the one that there is",
        NEW_ABI,
        debugfs_arguments,
    ),
    Case::new(
        "outside.ledger_switched",
        "the ledger is switched on and off by several at once, and then is what it was set to last",
        NEW_ABI,
        ledger_switched,
    ),
    Case::new(
        "outside.fail_function",
        "fail_function makes every gate fail",
        NEW_ABI,
        fail_function,
    ),
    Case::new(
        "outside.tracepoint",
        "the tracepoint tells each stage of a migration",
        NEW_ABI,
        tracepoint,
    ),
];

const ROOT: &str = "/sys/kernel/debug/rust_dmirror";
const DEVICE: &str = "/sys/kernel/debug/rust_dmirror/hmm_dmirror0";
const FAIL_FUNCTION: &str = "/sys/kernel/debug/fail_function";
const TRACING: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const EVENT: &str = "events/rust_dmirror/rust_dmirror_folio/enable";

const ALL: u64 = HUGE as u64;

fn needed(path: impl AsRef<Path>) -> Result<PathBuf> {
    let path = path.as_ref();
    match path.exists() {
        true => Ok(path.to_path_buf()),
        false => Err(Skip(format!("this kernel has no {}", path.display())).into()),
    }
}

fn write(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let path = path.as_ref();
    fs::write(path, text).with_context(|| format!("writing `{text}` to {}", path.display()))
}

fn debugfs_inject(ctx: &Ctx) -> Result<()> {
    let inject = needed(DEVICE)?.join("inject");
    let _undo = Undo(|| drop(fs::write(&inject, "clear")));
    let hits = || -> Result<u64> {
        let text = fs::read_to_string(&inject)?;
        let line = text.lines().find(|line| line.starts_with("huge_alloc "));
        let number = line.and_then(|line| line.split_whitespace().last());
        Ok(number.context("no line for huge_alloc")?.parse()?)
    };
    let before = hits()?;
    for bad in [
        "nonsense 0 1",
        "huge_alloc",
        "huge_alloc 0",
        "huge_alloc 0 1 2",
        "clear 1",
        "huge_alloc x 1",
    ] {
        ensure!(write(&inject, bad).is_err(), "`{bad}` is taken");
    }
    write(&inject, "huge_alloc 0 1")?;
    let area = Area::filled(1, 200)?;
    check_eq!(ctx.migrate_all(abi::TO_DEVICE, &area)?.split, ALL, "split");
    check_eq!(hits()?, before + 1, "hits");
    area.verify(200)?;
    write(&inject, "huge_alloc 0 1")?;
    write(&inject, "clear")?;
    let area = Area::filled(1, 201)?;
    check_eq!(ctx.migrate_all(abi::TO_DEVICE, &area)?.whole, ALL, "whole");
    area.verify(201)
}

fn debugfs_counters(ctx: &Ctx) -> Result<()> {
    let root = needed(ROOT)?;
    // Something of each: there, on the way, back.
    let area = Area::filled(2, 204)?;
    ctx.to_device(&area, 204)?;
    ctx.migrate(abi::TO_SYSTEM, area.addr(), HUGE)?;
    for index in 0..device::count() {
        let stats = Device::open(index)?.stats()?;
        let text = fs::read_to_string(root.join(format!("hmm_dmirror{index}/stats")))?;
        let totals = ledger::totals()?;
        for (name, value, _) in stat::counters(&stats) {
            let shown = match name {
                "ledger_checks" => totals.checks,
                "ledger_mismatches" => totals.mismatches,
                _ => ledger::number(&text, name)?,
            };
            check_eq!(shown, value, "device {index}: {name}");
        }
        ensure!(
            index > 0 || stats.pages_used > 0 && stats.to_system > 0,
            "nothing was counted"
        );
    }
    area.verify(204)
}

fn debugfs_stuck(ctx: &Ctx) -> Result<()> {
    let directory = needed(DEVICE)?;
    let inject = directory.join("inject");
    let area = Area::filled(1, 202)?;
    let there = || -> Result<Device> {
        let device = Device::open(0)?;
        device.migrate(abi::TO_DEVICE, area.addr(), area.npages())?;
        Ok(device)
    };
    let listed = || -> Result<Vec<String>> {
        let text = fs::read_to_string(directory.join("stuck"))?;
        Ok(text.lines().skip(1).map(str::to_string).collect())
    };
    let _undo = Undo(|| drop(fs::write(&inject, "clear")));
    // What an eviction leaves is forgotten by the next one: of another file, or of all where nothing
    // is left to do.
    for by_file in [true, false] {
        let device = there()?;
        let page = device.page(area.addr())?;
        write(&inject, "extra_ref 0 1000")?;
        drop(device);
        write(&inject, "clear")?;
        check_eq!(
            listed()?,
            [format!("{} 9 1 1 1", page.pfn)],
            "what is listed"
        );
        area.verify(202)?;
        match by_file {
            true => drop(there()?),
            false => drop(ctx.dev.command(abi::RELEASE, 0, 0, 1).context("RELEASE")?),
        }
        let none: [String; 0] = [];
        check_eq!(listed()?, none, "what is listed after the next eviction");
    }
    area.verify(202)
}

/// The ledger is switched by a static key. The kernel warns if that is decremented before it is incremented.
fn ledger_switched(ctx: &Ctx) -> Result<()> {
    const SWITCHING: Duration = Duration::from_secs(2);
    let file = needed(ROOT)?.join("ledger_enabled");
    let before = fs::read_to_string(&file)?;
    let _undo = Undo(|| drop(fs::write(&file, before.trim())));
    let end = Instant::now() + SWITCHING;
    let switch = || -> Result<u64> {
        let mut times = 0;
        while Instant::now() < end {
            write(&file, if times % 2 == 0 { "1" } else { "0" })?;
            times += 1;
        }
        Ok(times)
    };
    let times = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(switch)).collect();
        let times = threads.into_iter().map(|thread| thread.join());
        times
            .map(|times| times.map_err(|_| anyhow!("a thread panicked"))?)
            .sum::<Result<u64>>()
    })?;
    println!("switched {times} times");
    let area = Area::filled(1, 205)?;
    for on in [true, false] {
        write(&file, if on { "1" } else { "0" })?;
        let checks = ledger::totals()?.checks;
        ctx.migrate_all(abi::TO_DEVICE, &area)?;
        ctx.migrate_all(abi::TO_SYSTEM, &area)?;
        let more = ledger::totals()?.checks - checks;
        check_eq!(more > 0, on, "whether {more} counts more were checked");
    }
    area.verify(205)
}

fn debugfs_arguments(_: &Ctx) -> Result<()> {
    let (root, device) = (needed(ROOT)?, needed(DEVICE)?);
    let coherent = root.join("hmm_dmirror2");
    let long = "1".repeat(65);
    for file in [
        root.join("ledger_enabled"),
        device.join("core_splits"),
        device.join("huge_ready"),
        device.join("limit"),
    ] {
        let before = fs::read_to_string(&file)?;
        for bad in ["5000", "-1", "x", "1 1", " ", &long] {
            ensure!(
                write(&file, bad).is_err(),
                "{}: `{bad}` is taken",
                file.display()
            );
        }
        check_eq!(fs::read_to_string(&file)?, before, "{}", file.display());
        write(&file, before.trim())?;
    }
    if coherent.exists() {
        // What comes back from there is single pages.
        let ready = coherent.join("huge_ready");
        ensure!(
            write(&ready, "1").is_err(),
            "a coherent device takes huge pages"
        );
        write(&ready, "0")?;
        let most = fs::read_to_string(&ready)?;
        check_eq!(most.trim(), "0", "what it keeps");
    }
    Ok(())
}

fn fail_function(ctx: &Ctx) -> Result<()> {
    let root = needed(FAIL_FUNCTION)?;
    let _undo = Undo(|| drop(fs::write(Path::new(FAIL_FUNCTION).join("inject"), "\n")));
    write(root.join("verbose"), "0")?;
    write(root.join("probability"), "100")?;
    write(root.join("interval"), "1")?;
    let failing = |gate: &str, seed: u64, small: bool| -> Result<abi::Migrate> {
        let function = format!("rust_dmirror_gate_{gate}");
        write(root.join("inject"), &function)?;
        write(root.join(&function).join("retval"), "0xfffffffffffffff4")?;
        write(root.join("times"), "1")?;
        let area = match small {
            true => Area::filled_small(8, seed)?,
            false => Area::filled(1, seed)?,
        };
        let result = ctx.migrate_all(abi::TO_DEVICE, &area);
        write(root.join("inject"), &format!("!{function}"))?;
        area.verify(seed)?;
        result
    };
    check_eq!(failing("huge_alloc", 210, false)?.split, ALL, "huge_alloc");
    let refused = |result: abi::Migrate, why: usize| result.refused[why];
    check_eq!(
        refused(failing("copy", 211, false)?, abi::REFUSED_COPY),
        ALL,
        "copy"
    );
    // Locked once: not offered, tried again, and then it goes.
    let result = failing("folio_lock", 212, false)?;
    check_eq!((result.whole, result.retries), (ALL, 1), "folio_lock");
    check_eq!(
        refused(failing("small_alloc", 213, true)?, abi::REFUSED_NO_MEMORY),
        8,
        "small_alloc"
    );
    // Held once: refused, tried again, and then it goes.
    let result = failing("extra_ref", 214, false)?;
    check_eq!((result.whole, result.retries), (ALL, 1), "extra_ref");
    Ok(())
}

fn tracepoint(ctx: &Ctx) -> Result<()> {
    let root = TRACING
        .iter()
        .map(Path::new)
        .find(|root| root.join(EVENT).exists())
        .ok_or_else(|| Skip("no tracefs, or no event tracing in this kernel".into()))?;
    let _undo = Undo(|| drop(fs::write(root.join(EVENT), "0")));
    write(root.join("trace"), "")?;
    write(root.join(EVENT), "1")?;
    let area = Area::filled(1, 203)?;
    check_eq!(ctx.migrate_all(abi::TO_DEVICE, &area)?.whole, ALL, "whole");
    write(root.join(EVENT), "0")?;
    let trace = fs::read_to_string(root.join("trace"))?;
    for stage in ["setup", "pages-src", "pages-dst"] {
        let start = format!("rust_dmirror_folio: stage={stage} ");
        let line = trace
            .lines()
            .find(|line| line.contains(&start))
            .with_context(|| format!("no `{start}` in the trace:\n{trace}"))?;
        for part in [
            "order=9",
            "refs=1",
            "mapcount=0",
            "expected=0",
            "held=1",
            "direction=to-device",
        ] {
            ensure!(line.contains(part), "no `{part}` in `{line}`");
        }
    }
    area.verify(203)
}
