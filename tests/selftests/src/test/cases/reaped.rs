// SPDX-License-Identifier: GPL-2.0

//! The OOM reaper, which calls the notifier in a context where that must not sleep.

use std::{
    hint::spin_loop,
    thread::{self, sleep},
    time::Duration,
};

use anyhow::{bail, ensure, Result};
use nix::{errno::Errno, sys::wait::waitpid};

use crate::{
    abi,
    area::{Area, HUGE},
    check_eq,
    device::Device,
    proc::{
        affinity::{First, Pinned},
        reap::Victim,
    },
    test::{
        case::{Case, Ctx, NEW_ABI},
        child::Peer,
        core_bug::CoreBug,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "reaped.idle",
        "the OOM reaper gets all of a process that was killed, on the device and mirrored",
        NEW_ABI,
        idle,
    ),
    Case::new(
        "reaped.busy",
        "and some, or is told to come again, while a device reads and migrates there",
        NEW_ABI,
        busy,
    )
    .meets(CoreBug::ZAPPED_TWICE_BY_LUCK)
    .races(),
];

const SEED: u64 = 350;

/// The process gets no time between its death and the reaper.
fn idle(ctx: &Ctx) -> Result<()> {
    let before = ctx.dev.stats()?.pages_used;
    let here = Pinned::here()?;
    let peer = Peer::start(|end| {
        let dev = Device::open(0)?;
        let areas = [Area::filled(1, SEED)?, Area::filled(1, SEED)?];
        dev.read(areas[0].addr(), HUGE)?;
        dev.migrate(abi::TO_DEVICE, areas[1].addr(), HUGE)?;
        // Nobody calls it to the next step.
        end.next()
    })?;
    let victim = Victim::new(peer.pid())?;
    let used = ctx.dev.stats()?.pages_used;
    check_eq!(used, before + HUGE as u64, "device pages in use");
    let first = First::here()?;
    victim.kill()?;
    let reaped = victim.reap();
    let used = ctx.dev.stats()?.pages_used;
    drop((first, here));
    waitpid(peer.pid(), None)?;
    if reaped == Err(Errno::ENOSYS) {
        bail!("this kernel has no process_mrelease()");
    }
    check_eq!(reaped, Ok(()), "process_mrelease()");
    check_eq!(used, before, "device pages in use, before the process ran");
    Ok(())
}

fn busy(ctx: &Ctx) -> Result<()> {
    let before = ctx.dev.stats()?.pages_used;
    let (mut done, mut again) = (0, 0);
    for round in 0..20 {
        let peer = Peer::start(|end| {
            let dev = Device::open(0)?;
            let areas = [Area::filled(1, SEED)?, Area::filled(1, SEED)?];
            thread::scope(|scope| {
                scope.spawn(|| loop {
                    let _ = dev.read(areas[0].addr(), 8);
                });
                scope.spawn(|| loop {
                    let _ = dev.migrate(abi::TO_DEVICE, areas[1].addr(), HUGE);
                    let _ = dev.migrate(abi::TO_SYSTEM, areas[1].addr(), HUGE);
                });
                end.running()?;
                loop {
                    sleep(Duration::from_secs(1));
                }
            })
        })?;
        let victim = Victim::new(peer.pid())?;
        sleep(Duration::from_micros(2000 + 300 * round));
        victim.kill()?;
        loop {
            match victim.reap() {
                Ok(()) => done += 1,
                Err(Errno::EAGAIN) => again += 1,
                Err(Errno::ESRCH) => break,
                Err(error) => bail!("process_mrelease(): {error}"),
            }
            spin_loop();
        }
        waitpid(peer.pid(), None)?;
    }
    println!("{done} times all was taken, {again} times somebody held a lock");
    ensure!(done + again > 0, "every process was gone before");
    check_eq!(ctx.dev.stats()?.pages_used, before, "device pages in use");
    Ok(())
}
