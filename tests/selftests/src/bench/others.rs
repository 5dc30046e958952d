// SPDX-License-Identifier: GPL-2.0

//! Measurements while other processes hold memory on the device, or migrate at the same time.
//!
//! In the C driver, close evicts the pages of all processes (T14 in docs/defects.md). The unpatched kernel may crash
//! if a huge device page is unmapped while it migrates (K12). Therefore no process closes its file while another one
//! migrates, and no process exits with memory on the device.

use std::{path::Path, time::Instant};

use anyhow::{bail, ensure, Result};
use nix::time::{clock_gettime, ClockId};

use super::{
    child::Helper,
    record::Pages,
    rows::MIB,
    work::{nanos, Effort, Work},
};
use crate::device::Device;

/// The size in which a holder migrates its memory, in bytes. The buffer to read back to need not be larger.
const PIECE: u64 = 32 * MIB;

const HOLD: u8 = b'h';
const BACK: u8 = b'b';
const ROUND_TRIP: u8 = b'r';

/// Times opening and closing the node, while another process has `held` bytes on the device.
pub fn open_close(node: &Path, held: u64, effort: Effort, samples: &mut Vec<u64>) -> Result<()> {
    let mut holder = (held > 0).then(|| holder(node, held)).transpose()?;
    // Warms up.
    drop(Device::open_node(node)?);
    let measured = effort.repeat(|| {
        if let Some(holder) = &mut holder {
            holder.call(HOLD)?;
        }
        let begin = Instant::now();
        drop(Device::open_node(node)?);
        samples.push(nanos(begin));
        Ok(())
    });
    if let Some(holder) = &mut holder {
        holder.call(BACK)?;
    }
    measured
}

/// Starts a process that holds `held` bytes on the device.
fn holder(node: &Path, held: u64) -> Result<Helper> {
    Helper::start(
        || {
            (0..held.div_ceil(PIECE))
                .map(|_| Work::new(node, Pages::Huge, PIECE.min(held)))
                .collect::<Result<Vec<_>>>()
        },
        |pieces, request| {
            for piece in pieces {
                match request {
                    HOLD if piece.is_on_device()? => {}
                    HOLD => {
                        piece.to_device()?;
                        ensure!(piece.is_on_device()?, "pages did not get to the device");
                    }
                    BACK => {
                        piece.to_system()?;
                    }
                    _ => bail!("request {request}"),
                }
            }
            Ok([0, 0])
        },
    )
}

fn now() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// Times processes that migrate `bytes` each to the device and back at the same time, from the first begin to the last
/// end.
pub fn side_by_side(
    node: &Path,
    (pages, bytes): (Pages, u64),
    processes: u32,
    effort: Effort,
    samples: &mut Vec<u64>,
) -> Result<()> {
    let mut helpers = Vec::new();
    for _ in 0..processes {
        let mut helper = Helper::start(
            || Work::new(node, pages, bytes),
            |work, _| {
                let begin = now()?;
                work.to_device()?;
                work.to_system()?;
                Ok([begin, now()?])
            },
        )?;
        // Each helper has warmed up, and has its memory back, before the next one starts.
        helper.call(ROUND_TRIP)?;
        helpers.push(helper);
    }
    effort.repeat(|| {
        for helper in &mut helpers {
            helper.ask(ROUND_TRIP)?;
        }
        let (mut first, mut last) = (u64::MAX, 0);
        for helper in &mut helpers {
            let [begin, end] = helper.answer()?;
            (first, last) = (first.min(begin), last.max(end));
        }
        samples.push(last - first);
        Ok(())
    })
}
