// SPDX-License-Identifier: GPL-2.0

//! The pause: invalid arguments, which migrations it stops, and how the stop ends.

use std::{
    fs,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use nix::{
    errno::Errno,
    sys::{
        signal::{kill, Signal},
        wait::{waitpid, WaitStatus},
    },
};

use crate::{
    abi::{self, Pause, Stage},
    area::{Area, HUGE},
    check_eq,
    device::Device,
    ledger,
    proc::heap,
    test::{
        case::{Case, Ctx, Undo, NEW_ABI},
        child::{pipe, Peer},
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "new.pause_arguments",
        "PAUSE: unknown operations, stages, directions, times, and members that are not asked for: EINVAL",
        NEW_ABI,
        arguments,
    ),
    Case::new(
        "new.pause_file",
        "PAUSE: stops one migration of its file, after those that it skips, and of no other file",
        NEW_ABI,
        file,
    ),
    Case::new(
        "new.pause_bounded",
        "PAUSE: a migration that nobody resumes goes on at its time limit",
        NEW_ABI,
        bounded,
    ),
    Case::new(
        "new.pause_killed",
        "PAUSE: a process that is killed while it is stopped is gone within a second, at each stage",
        NEW_ABI,
        killed,
    ),
    Case::new(
        "new.pause_wait_killed",
        "PAUSE: a process that is killed while it waits for a stop is gone within a second",
        NEW_ABI,
        wait_killed,
    ),
    Case::new(
        "new.pause_close",
        "PAUSE: closing the file lets a CPU fault go on that it stopped",
        NEW_ABI,
        close,
    )
    .races(),
    Case::new(
        "new.pause_device",
        "PAUSE: by debugfs, for all files of the device, and for eviction",
        NEW_ABI,
        device,
    ),
    Case::new(
        "new.pause_debugfs_arguments",
        "PAUSE: debugfs refuses the same",
        NEW_ABI,
        debugfs_arguments,
    ),
];

/// What is armed for all files of the first device.
pub const DEBUGFS: &str = "/sys/kernel/debug/rust_dmirror/hmm_dmirror0/pause";
const SEED: u64 = 700;
/// Longer than anything here takes that is not stopped.
const LONG: u32 = abi::PAUSE_MOST;
const SECOND: Duration = Duration::from_secs(1);

fn arguments(ctx: &Ctx) -> Result<()> {
    let good = Pause {
        version: abi::ABI_VERSION,
        op: abi::PAUSE_ARM,
        stage: Stage::Filled as u32,
        ..Pause::default()
    };
    let asks_nothing = |op| Pause {
        op,
        stage: 0,
        ..good
    };
    let arm = |change: fn(&mut Pause)| {
        let mut bad = good;
        change(&mut bad);
        bad
    };
    let mut all = vec![
        arm(|bad| bad.version = 0),
        arm(|bad| bad.version = 2),
        arm(|bad| bad.op = 0),
        arm(|bad| bad.op = 6),
        arm(|bad| bad.op = u32::MAX),
        arm(|bad| bad.stage = 0),
        arm(|bad| bad.stage = 5),
        arm(|bad| bad.stage = u32::MAX),
        arm(|bad| bad.direction = 5),
        arm(|bad| bad.direction = u32::MAX),
        arm(|bad| bad.ms = abi::PAUSE_MOST + 1),
        arm(|bad| bad.ms = u32::MAX),
    ];
    for index in 0..3 {
        let mut bad = good;
        bad.reserved[index] = 1;
        all.push(bad);
    }
    for op in abi::PAUSE_WAIT..=abi::PAUSE_STATUS {
        let nothing = asks_nothing(op);
        all.push(Pause {
            stage: 1,
            ..nothing
        });
        all.push(Pause { skip: 1, ..nothing });
        all.push(Pause {
            direction: 1,
            ..nothing
        });
        let ms = match op {
            abi::PAUSE_WAIT => abi::PAUSE_MOST + 1,
            _ => 1,
        };
        all.push(Pause { ms, ..nothing });
    }
    for bad in all {
        let mut argument = Pause {
            waiting: 7,
            reached: 7,
            ..bad
        };
        let done = ctx.dev.call(abi::PAUSE, &mut argument);
        check_eq!(done, Err(Errno::EINVAL), "{bad:?}");
        check_eq!(
            (argument.waiting, argument.reached),
            (0, 0),
            "what comes back"
        );
    }
    // None of them has armed anything.
    check_eq!(
        ctx.dev.wait_pause(1).err(),
        Some(Errno::ENOENT),
        "WAIT, nothing armed"
    );
    let area = Area::filled_small(1, SEED)?;
    ctx.dev.arm_pause(Stage::Filled, 0, 0)?;
    check_eq!(
        ctx.dev.wait_pause(20).err(),
        Some(Errno::ETIMEDOUT),
        "WAIT, nobody migrates"
    );
    ctx.dev.pause_op(abi::PAUSE_CLEAR)?;
    // This file does not evict.
    ctx.dev.arm_pause(Stage::Filled, abi::BY_EVICTION, 0)?;
    check_eq!(moved(&ctx.dev, &area)?, 1, "pages moved");
    ctx.dev.pause_op(abi::PAUSE_CLEAR)?;
    let status = ctx.dev.pause_op(abi::PAUSE_STATUS)?;
    check_eq!((status.reached, status.waiting), (0, 0), "STATUS");
    area.verify(SEED)
}

fn moved(dev: &Device, area: &Area) -> Result<u64> {
    let result = dev.migrate(abi::TO_DEVICE, area.addr(), area.npages())?;
    crate::test::case::accounted(&result)?;
    Ok(result.moved())
}

fn file(ctx: &Ctx) -> Result<()> {
    let areas = [Area::filled_small(4, SEED)?, Area::filled_small(4, SEED)?];
    let [first, second] = &areas;
    let dev = &ctx.dev;
    let other = Device::open(0)?;
    dev.pause(Pause {
        op: abi::PAUSE_ARM,
        stage: Stage::Committed as u32,
        direction: abi::TO_DEVICE,
        skip: 1,
        ..Pause::default()
    })?;
    // The one that is skipped, and another file's.
    check_eq!(moved(dev, first)?, 4, "pages moved");
    check_eq!(moved(&other, second)?, 4, "pages moved by the other file");
    other.migrate(abi::TO_SYSTEM, second.addr(), 4)?;
    thread::scope(|scope| -> Result<()> {
        let stopped = scope.spawn(|| moved(dev, second));
        let status = dev.wait_pause(LONG)?;
        check_eq!((status.reached, status.waiting), (1, 1), "WAIT");
        sleep(Duration::from_millis(30));
        ensure!(!stopped.is_finished(), "it was not stopped");
        let status = other.pause_op(abi::PAUSE_STATUS)?;
        check_eq!((status.reached, status.waiting), (0, 0), "the other file");
        // It stops one only.
        dev.migrate(abi::TO_SYSTEM, first.addr(), 4)?;
        check_eq!(moved(dev, first)?, 4, "pages moved meanwhile");
        dev.pause_op(abi::PAUSE_RESUME)?;
        check_eq!(
            stopped.join().ok().context("a thread panicked")??,
            4,
            "pages moved"
        );
        Ok(())
    })?;
    let status = dev.pause_op(abi::PAUSE_STATUS)?;
    check_eq!((status.reached, status.waiting), (1, 0), "STATUS");
    areas.iter().try_for_each(|area| area.verify(SEED))
}

fn bounded(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, SEED)?;
    for stage in Stage::ALL {
        ctx.dev.arm_pause(stage, abi::TO_DEVICE, 150)?;
        let start = Instant::now();
        check_eq!(moved(&ctx.dev, &area)?, HUGE as u64, "pages moved");
        let took = start.elapsed();
        ensure!(
            took >= Duration::from_millis(150) && took < 10 * SECOND,
            "{stage:?}: stopped for {took:.1?}"
        );
        ctx.dev.migrate(abi::TO_SYSTEM, area.addr(), HUGE)?;
    }
    check_eq!(ctx.dev.pause_op(abi::PAUSE_STATUS)?.reached, 4, "stops");
    area.verify(SEED)
}

fn killed(_: &Ctx) -> Result<()> {
    for stage in Stage::ALL {
        let (mut from, mut to) = pipe()?;
        let peer = Peer::start(|end| {
            let dev = Device::open(0)?;
            let area = Area::filled(1, SEED)?;
            dev.arm_pause(stage, 0, LONG)?;
            end.running()?;
            thread::scope(|scope| {
                scope.spawn(|| dev.migrate(abi::TO_DEVICE, area.addr(), HUGE));
                dev.wait_pause(LONG)?;
                std::io::Write::write_all(&mut to, b".")?;
                Ok(())
            })
        })?;
        std::io::Read::read_exact(&mut from, &mut [0])?;
        kill_at_once(&peer).with_context(|| format!("{stage:?}"))?;
    }
    Ok(())
}

/// Kills a process, which must be gone within a second.
fn kill_at_once(peer: &Peer) -> Result<()> {
    let start = Instant::now();
    kill(peer.pid(), Signal::SIGKILL)?;
    let status = waitpid(peer.pid(), None)?;
    let took = start.elapsed();
    check_eq!(
        status,
        WaitStatus::Signaled(peer.pid(), Signal::SIGKILL, false),
        "its end"
    );
    println!("gone after {took:.1?}");
    ensure!(took < SECOND, "gone after {took:.1?}");
    Ok(())
}

fn wait_killed(_: &Ctx) -> Result<()> {
    let peer = Peer::start(|end| {
        let dev = Device::open(0)?;
        dev.arm_pause(Stage::Filled, 0, LONG)?;
        end.running()?;
        // Nothing migrates.
        dev.wait_pause(LONG)?;
        Ok(())
    })?;
    sleep(Duration::from_millis(100));
    kill_at_once(&peer)
}

fn close(_: &Ctx) -> Result<()> {
    let area = Area::filled(1, SEED)?;
    let dev = Device::open(0)?;
    check_eq!(moved(&dev, &area)?, HUGE as u64, "pages moved");
    dev.arm_pause(Stage::Filled, abi::BY_FAULT, LONG)?;
    thread::scope(|scope| -> Result<()> {
        let fault = scope.spawn(|| area.verify_pages(SEED, 3, 1));
        dev.wait_pause(LONG)?;
        let start = Instant::now();
        drop(dev);
        fault.join().ok().context("a thread panicked")??;
        ensure!(start.elapsed() < 5 * SECOND, "{:.1?}", start.elapsed());
        Ok(())
    })?;
    area.verify(SEED)
}

/// What debugfs says.
#[derive(Debug, PartialEq, Eq)]
pub struct State {
    armed: String,
    /// How often migrations were stopped.
    pub reached: u64,
    /// How many are, now.
    pub waiting: u64,
}

pub fn state() -> Result<State> {
    let text = fs::read_to_string(DEBUGFS).context(DEBUGFS)?;
    let armed = text.lines().next().and_then(|l| l.strip_prefix("armed "));
    Ok(State {
        armed: armed.context("no `armed`")?.to_string(),
        reached: ledger::number(&text, "reached")?,
        waiting: ledger::number(&text, "waiting")?,
    })
}

/// Waits until a migration has stopped since so many had.
pub fn wait_device(before: u64) -> Result<()> {
    let limit = Instant::now() + 10 * SECOND;
    while state()?.reached == before {
        ensure!(Instant::now() < limit, "no migration has stopped");
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn device(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, SEED)?;
    let _undo = Undo(|| drop(fs::write(DEBUGFS, "clear")));
    for stage in Stage::ALL.map(Stage::name) {
        fs::write(DEBUGFS, format!("{stage} to-device 0 10000")).context(DEBUGFS)?;
        let armed = format!("{stage} to-device skip 0 ms 10000");
        check_eq!(state()?.armed, armed, "what is armed");
    }
    let stopped = |work: &(dyn Fn() -> Result<()> + Sync), word: &str| -> Result<()> {
        let before = state()?.reached;
        heap::reserve();
        thread::scope(|scope| {
            let worker = scope.spawn(work);
            wait_device(before)?;
            sleep(Duration::from_millis(30));
            ensure!(!worker.is_finished(), "it was not stopped");
            let now = state()?;
            check_eq!(
                (now.armed.as_str(), now.waiting),
                ("none", 1),
                "while it waits"
            );
            fs::write(DEBUGFS, word).context(DEBUGFS)?;
            worker.join().ok().context("a thread panicked")?
        })
    };
    let to_device = || {
        let other = Device::open(0)?;
        check_eq!(moved(&other, &area)?, HUGE as u64, "pages moved");
        Ok(())
    };
    stopped(&to_device, "resume")?;
    // That file is closed again: the pages are home.
    check_eq!(moved(&ctx.dev, &area)?, HUGE as u64, "pages moved");
    fs::write(DEBUGFS, "filled evict 0 10000").context(DEBUGFS)?;
    let release = || {
        ctx.dev.command(abi::RELEASE, 0, 0, 1).context("RELEASE")?;
        Ok(())
    };
    stopped(&release, "clear")?;
    check_eq!(state()?.waiting, 0, "who waits in the end");
    area.verify(SEED)
}

fn debugfs_arguments(_: &Ctx) -> Result<()> {
    let before = state()?;
    for bad in [
        "",
        "filled",
        "filled any 0",
        "filled any 0 10001",
        "filled any 0 -1",
        "filled any -1 0",
        "filled sideways 0 0",
        "setup any 0 0",
        "filled any 0 0 0",
        "resume 1",
        "clear all",
        "continue",
        "filled any 0 99999999999999999999999999999999999999999999999999999999999",
    ] {
        let error = fs::write(DEBUGFS, bad).err();
        // Nothing is written by writing nothing.
        let wanted = (!bad.is_empty()).then_some(Errno::EINVAL as i32);
        check_eq!(
            error.and_then(|error| error.raw_os_error()),
            wanted,
            "{bad:?}"
        );
    }
    // The longest line, and one that is too long.
    fs::write(DEBUGFS, format!("{:<64}", "clear")).context("a line of 64 bytes")?;
    let long = fs::write(DEBUGFS, format!("{:<65}", "clear"));
    ensure!(long.is_err(), "a line of 65 bytes is taken");
    check_eq!(state()?, before, "what is armed");
    Ok(())
}
