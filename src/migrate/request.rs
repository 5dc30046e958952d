// SPDX-License-Identifier: GPL-2.0

//! A migration on request: a range of addresses, one huge page at a time.

use super::{
    report::Report,
    window, //
};
use crate::{
    client::Client,
    layer::mm::lock::check_killed,
    ledger::Direction,
    range::Pages,
    scratch::Scratch, //
};
use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::aref::ARef, //
};

/// Migrates pages of the client's process, window by window.
///
/// # Errors
///
/// `EINVAL` if a part of the range is not mapped, may not be read or is of a kind that cannot be migrated, or if
/// the process has exited; `EINTR` if killed; `ENOMEM` if the lists for the migration cannot be allocated;
/// `EAGAIN` if the page tables changed each time that the collector tried. Pages that moved before the error stay
/// moved, and are counted in `report`. Refused pages are no error.
pub(crate) fn migrate(
    client: &Client,
    pages: Pages,
    direction: Direction,
    report: &mut Report,
) -> Result {
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
