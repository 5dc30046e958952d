// SPDX-License-Identifier: GPL-2.0

//! `dmirror stat`: shows the counters of a device.

use anyhow::Result;

use crate::{
    abi::Stats,
    device::{Device, Driver},
    table,
};

/// Returns each counter with its name, which is the same in debugfs, and its meaning.
pub fn counters(stats: &Stats) -> [(&'static str, u64, &'static str); 12] {
    [
        (
            "chunks",
            u64::from(stats.chunks),
            "ranges of device memory, 256 MiB each",
        ),
        ("pages_total", stats.pages_total, "pages of device memory"),
        ("pages_used", stats.pages_used, "of them in use"),
        ("to_device", stats.to_device, "pages migrated to the device"),
        (
            "to_system",
            stats.to_system,
            "pages migrated back on request",
        ),
        (
            "faulted",
            stats.faulted,
            "pages migrated back by CPU faults",
        ),
        ("evicted", stats.evicted, "pages migrated back by eviction"),
        (
            "split_refused",
            stats.split_refused,
            "huge folios whose split was refused",
        ),
        (
            "retries",
            stats.retries,
            "attempts repeated because of that",
        ),
        ("stuck", stats.stuck, "pages that eviction could not move"),
        (
            "ledger_checks",
            stats.ledger_checks,
            "reference counts checked",
        ),
        (
            "ledger_mismatches",
            stats.ledger_mismatches,
            "of them wrong",
        ),
    ]
}

pub fn run(index: u32) -> Result<u8> {
    let device = Device::open(index)?;
    if device.driver() == Driver::C {
        println!("/dev/hmm_dmirror{index} belongs to test_hmm, which has no counters.");
        return Ok(1);
    }
    let stats = device.stats()?;
    let mut table = table::new(&["counter", "value", "meaning"]);
    for (name, value, meaning) in counters(&stats) {
        table.add_row(vec![
            name.to_string(),
            value.to_string(),
            meaning.to_string(),
        ]);
    }
    table::align_right(&mut table, &[1]);
    println!("/dev/hmm_dmirror{index}, since the module was loaded\n{table}");
    Ok(0)
}
