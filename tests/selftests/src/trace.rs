// SPDX-License-Identifier: GPL-2.0

//! `dmirror trace`: the ledger of one migration to the device and back.

use std::str::FromStr;

use anyhow::{bail, Context, Result};
use clap::ValueEnum;

use crate::{
    abi::{self, Point},
    area::Area,
    device::{Device, Driver},
    ledger::{self, Ledger, Record},
    proc::khugepaged,
    table,
};

/// `POINT[:TIMES[:SKIP]]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    point: Point,
    times: u64,
    skip: u64,
}

impl FromStr for Injection {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let point = Point::from_str(name, true).map_err(|_| {
            let names: Vec<_> = Point::value_variants()
                .iter()
                .filter_map(|p| Some(p.to_possible_value()?.get_name().to_string()))
                .collect();
            anyhow::anyhow!(
                "no injection point `{name}`; there are {}",
                names.join(", ")
            )
        })?;
        let mut number = |default| match parts.next() {
            None => Ok(default),
            Some(n) => n.parse().with_context(|| format!("not a number: {n}")),
        };
        let (times, skip) = (number(1)?, number(0)?);
        if parts.next().is_some() {
            bail!("more than POINT:TIMES:SKIP");
        }
        Ok(Injection { point, times, skip })
    }
}

pub fn run(index: u32, injections: &[Injection]) -> Result<u8> {
    const SEED: u64 = 1;
    let device = Device::open(index)?;
    if device.driver() == Driver::C {
        println!("/dev/hmm_dmirror{index} belongs to test_hmm, which keeps no ledger.");
        return Ok(1);
    }
    let _asleep = khugepaged::Asleep::now()?;
    let ledger = Ledger::enable()?;
    let mut next = ledger.records()?.last().map_or(0, |r| r.seq + 1);
    let mut records = Vec::new();
    let area = Area::filled(1, SEED)?;
    let arm = || -> Result<()> {
        for i in injections {
            device
                .inject(i.point, i.skip, i.times)
                .with_context(|| format!("injecting {:?}", i.point))?;
        }
        Ok(())
    };
    for (direction, name) in [(abi::TO_DEVICE, "to the device"), (abi::TO_SYSTEM, "back")] {
        arm()?;
        let result = device
            .migrate(direction, area.addr(), area.npages())
            .with_context(|| format!("migrating {name}"))?;
        println!("{name}: {}", result.summary());
        println!(
            "    setup {} µs, copy {} µs, pages {} µs, finalize {} µs",
            result.ns_setup / 1000,
            result.ns_copy / 1000,
            result.ns_pages / 1000,
            result.ns_finalize / 1000
        );
        let new = ledger.records()?.into_iter().filter(|r| r.seq >= next);
        let mut new = new.peekable();
        let lost = new.peek().map_or(0, |first| first.seq - next);
        if lost > 0 {
            println!("    {lost} records were overwritten before they could be read");
        }
        records.extend(new);
        next = records.last().map_or(next, |r: &Record| r.seq + 1);
    }
    device.inject(Point::All, 0, 0)?;
    area.verify(SEED).context("the data after it all")?;

    if records.is_empty() {
        println!("The ledger has no record of it.");
        return Ok(1);
    }
    let mut heads = ledger::heads().to_vec();
    heads.push("folios");
    let mut table = table::new(&heads);
    table.add_rows(ledger::rows(&records));
    table::align_right(&mut table, &[0, 2, 4, 5, 6, 7, 8, 9, 11]);
    println!("{table}");
    match records.iter().filter(|r| !r.matches).count() {
        0 => {
            println!(
                "{} counts, all as expected: refs = expected + held",
                records.len()
            );
            Ok(0)
        }
        n => {
            println!("{n} of {} counts do not match", records.len());
            Ok(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn injections_are_read() {
        let read = |text: &str| text.parse::<Injection>();
        let wanted = |point, times, skip| Injection { point, times, skip };
        assert_eq!(read("extra-ref").unwrap(), wanted(Point::ExtraRef, 1, 0));
        assert_eq!(read("copy:3:2").unwrap(), wanted(Point::Copy, 3, 2));
        assert!(read("all").is_err());
        assert!(read("copy:x").is_err());
        assert!(read("copy:1:2:3").is_err());
        assert!(read("nonsense")
            .unwrap_err()
            .to_string()
            .contains("huge-alloc"));
    }
}
