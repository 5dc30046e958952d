// SPDX-License-Identifier: GPL-2.0

//! The commands of `include/uapi/rust_dmirror.h`, beyond those of test_hmm.

use super::argument::Argument;
use crate::{
    access,
    client::Client,
    clock,
    copies,
    inject::Point,
    layer::mm::user::UserPages,
    ledger::Direction,
    migrate::{
        self,
        Report, //
    },
    pause::{
        Armed,
        Directions,
        PausePoint,
        Timeout, //
    },
    uapi, //
};
use kernel::prelude::*;

/// Fails with `EINVAL` if an argument has another version, or a reserved word that is not 0.
fn check(version: u32, reserved: &[u64]) -> Result {
    if version != uapi::ABI_VERSION || reserved.iter().any(|word| *word != 0) {
        return Err(EINVAL);
    }
    Ok(())
}

impl Argument for uapi::Migrate {
    fn asked(self) -> Self {
        uapi::Migrate {
            version: self.version,
            direction: self.direction,
            addr: self.addr,
            npages: self.npages,
            ptr: self.ptr,
            reserved: self.reserved,
            ..uapi::Migrate::default()
        }
    }
}

/// Migrates a range, and reports how many pages had which outcome.
pub(super) fn migrate(client: &Client, arg: &mut uapi::Migrate) -> Result {
    check(arg.version, &arg.reserved)?;
    let direction = match arg.direction {
        uapi::TO_DEVICE => Direction::ToDevice,
        uapi::TO_SYSTEM => Direction::ToSystem,
        _ => return Err(EINVAL),
    };
    let pages = client.range(arg.addr, arg.npages)?;
    let user = match arg.ptr {
        0 => None,
        ptr => Some(UserPages::new(ptr, pages.count())?),
    };
    let mut report = Report::default();
    let done = migrate::migrate(client, pages, direction, &mut report);
    report.tell(arg);
    done?;
    if let Some(user) = user {
        let begin = clock::now();
        arg.read_back = access::read_back(client, pages, &user)? as u64;
        arg.ns_readback = clock::nanos_since(begin);
    }
    Ok(())
}

impl Argument for uapi::Inject {
    fn asked(self) -> Self {
        uapi::Inject { hits: 0, ..self }
    }
}

/// Arms or clears an injection point of the open file.
pub(super) fn inject(client: &Client, arg: &mut uapi::Inject) -> Result {
    check(arg.version, &arg.reserved)?;
    if arg.point == uapi::INJECT_ALL {
        if arg.times != 0 || arg.skip != 0 {
            return Err(EINVAL);
        }
        client.owner().inject.clear();
        return Ok(());
    }
    let point = Point::from_number(arg.point)?;
    arg.hits = client.owner().inject.arm(point, arg.skip, arg.times);
    Ok(())
}

impl Argument for uapi::Pause {
    fn asked(self) -> Self {
        uapi::Pause {
            waiting: 0,
            reached: 0,
            ..self
        }
    }
}

/// Arms, waits for, ends or reads the pause of the open file.
pub(super) fn pause(client: &Client, arg: &mut uapi::Pause) -> Result {
    check(arg.version, &arg.reserved)?;
    let pause = &client.owner().inject.pause;
    let names_one = arg.stage != 0 || arg.direction != 0 || arg.skip != 0;
    if arg.op != uapi::PAUSE_ARM && names_one {
        return Err(EINVAL);
    }
    let timeout = Timeout::new(arg.ms.into())?;
    let done = match (arg.op, arg.ms) {
        (uapi::PAUSE_ARM, _) => {
            pause.arm(Armed {
                point: PausePoint::from_number(arg.stage)?,
                directions: Directions::from_number(arg.direction)?,
                skip: arg.skip,
                timeout,
            });
            Ok(())
        }
        (uapi::PAUSE_WAIT, _) => pause.wait(timeout),
        (uapi::PAUSE_RESUME, 0) => {
            pause.resume();
            Ok(())
        }
        (uapi::PAUSE_CLEAR, 0) => {
            pause.clear();
            Ok(())
        }
        (uapi::PAUSE_STATUS, 0) => Ok(()),
        _ => return Err(EINVAL),
    };
    let status = pause.status();
    arg.reached = status.reached;
    arg.waiting = status.waiting;
    done
}

impl Argument for uapi::Page {
    fn asked(self) -> Self {
        uapi::Page {
            version: self.version,
            addr: self.addr,
            reserved: self.reserved,
            ..uapi::Page::default()
        }
    }
}

/// Reports what is mapped at an address.
pub(super) fn page(client: &Client, arg: &mut uapi::Page) -> Result {
    check(arg.version, &arg.reserved)?;
    access::page(client, client.range(arg.addr, 1)?, arg)
}

impl Argument for uapi::Stats {
    fn asked(self) -> Self {
        uapi::Stats {
            version: self.version,
            reserved: self.reserved,
            ..uapi::Stats::default()
        }
    }
}

/// Reads the counters of the device.
pub(super) fn stats(client: &Client, arg: &mut uapi::Stats) -> Result {
    check(arg.version, &arg.reserved)?;
    let (chunks, used, total) = client.device().memory.usage();
    let stats = &client.device().state().stats;
    let (checks, mismatches) = client.device().state().ledger.totals();
    *arg = uapi::Stats {
        version: uapi::ABI_VERSION,
        chunks: chunks as u32,
        pages_total: total as u64,
        pages_used: used as u64,
        pages_mine: client.device().memory.owned_by(client.owner())? as u64,
        to_device: stats.to_device.get(),
        to_system: stats.to_system.get(),
        faulted: stats.faulted.get(),
        evicted: stats.evicted.get(),
        split_refused: stats.split_refused.get(),
        retries: stats.retries.get(),
        stuck: stats.stuck.get(),
        ledger_checks: checks,
        ledger_mismatches: mismatches,
        reserved: [0; 4],
    };
    Ok(())
}

impl Argument for uapi::CopyTime {
    fn asked(self) -> Self {
        uapi::CopyTime { ns: 0, ..self }
    }
}

/// Measures one of the kernel's copy routines. Does not use the open file.
pub(super) fn copy(arg: &mut uapi::CopyTime) -> Result {
    check(arg.version, &arg.reserved)?;
    arg.ns = copies::time(arg)?;
    Ok(())
}
