// SPDX-License-Identifier: GPL-2.0

//! Migration: on request ([`migrate`]), by CPU faults ([`on_fault`]), by eviction ([`evict`]).
//!
//! Lock order: `mmap_lock`, then folio locks, which are only tried. Memory of the device is made
//! before any is taken. Nothing sleeps for long with a folio locked but allocations.

pub mod eviction;
pub mod fault;
pub mod fill;
pub mod logbook;
pub mod origin;
pub mod window;

pub use eviction::{
    close,
    evict,
    release,
    shut_down, //
};
pub use fault::on_fault;

use crate::{
    client::Client,
    device::Device,
    layer::mm::{
        lock::check_killed,
        migrate::Select, //
    },
    ledger::Direction,
    policy::fates::FateCounts,
    range::Pages,
    scratch::Scratch,
    uapi, //
};
use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::aref::ARef, //
};

fn select(direction: Direction, device: &Device) -> Select {
    match (direction, device.state().is_private()) {
        (Direction::ToDevice, _) => Select::System,
        (_, true) => Select::DevicePrivate,
        (_, false) => Select::DeviceCoherent,
    }
}

/// Nanoseconds in each phase.
#[derive(Clone, Copy, Default)]
pub struct Times {
    setup: u64,
    copy: u64,
    pages: u64,
    finalize: u64,
}

/// What a migration came to.
#[derive(Clone, Copy, Default)]
pub struct Report {
    /// Exact counts.
    pub counts: FateCounts,
    retries: u64,
    times: Times,
}

impl Report {
    /// Fills the answer to user space in.
    pub fn tell(&self, arg: &mut uapi::Migrate) {
        self.counts.tell(arg);
        arg.retries = self.retries;
        arg.ns_setup = self.times.setup;
        arg.ns_copy = self.times.copy;
        arg.ns_pages = self.times.pages;
        arg.ns_finalize = self.times.finalize;
    }
}

/// Moves pages of the file's process, window by window.
///
/// # Errors
///
/// `EINVAL` if a part of the range is not mapped, may not be read or is of a kind that cannot be
/// migrated, or the process is gone; `EINTR` if killed; `ENOMEM` if not even the lists can be had;
/// `EAGAIN` if the page tables changed under the collector each time that it tried. What was moved
/// before stays moved, and is in `report`. Pages that are refused are no error.
pub fn migrate(client: &Client, pages: Pages, direction: Direction, report: &mut Report) -> Result {
    let mm = client.mm()?;
    let state = client.device().state();
    let done = state
        .scratch
        .with(|scratch| windows(client, &mm, scratch, pages, direction, report));
    let stats = &state.stats;
    stats.retries.add(report.retries);
    match direction {
        Direction::ToDevice => stats.to_device.add(report.counts.migrated()),
        _ => stats.to_system.add(report.counts.migrated()),
    }
    done
}

fn windows(
    client: &Client,
    mm: &ARef<MmWithUser>,
    scratch: &mut Scratch,
    pages: Pages,
    direction: Direction,
    report: &mut Report,
) -> Result {
    let mut at = pages.start();
    loop {
        let Some(range) = pages.windows(at).next() else {
            return Ok(());
        };
        if direction == Direction::ToDevice {
            client.device().memory.make_room(client.device().state());
        }
        check_killed()?;
        at = window::run(client, mm, scratch, range, direction, report)?;
    }
}
