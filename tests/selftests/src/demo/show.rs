// SPDX-License-Identifier: GPL-2.0

//! The tables of the demonstration: one row for each step, with what must be true then.

use anyhow::{Context, Result};
use comfy_table::Table;

use crate::{
    abi,
    area::Area,
    device::{Device, Driver, PAGE_SIZE},
    proc::{self, pagemap, smaps},
    table,
};

const ORDER_ANY: u32 = u32::MAX;
const HUGE_ORDER: u32 = 9;

/// Where the page must be, and its order.
#[derive(Clone, Copy)]
pub struct Expect {
    on_device: bool,
    order: u32,
}

impl Expect {
    pub fn system(order: u32) -> Self {
        Expect {
            on_device: false,
            order,
        }
    }

    pub fn system_any_order() -> Self {
        Expect::system(ORDER_ANY)
    }

    pub fn device(order: u32) -> Self {
        Expect {
            on_device: true,
            order,
        }
    }
}

/// A section of the demonstration.
pub struct Steps<'a> {
    title: &'a str,
    device: &'a Device,
    driver: Driver,
    area: &'a Area,
    table: Table,
    notes: Vec<String>,
    problems: Vec<String>,
}

impl<'a> Steps<'a> {
    pub fn new(title: &'a str, device: &'a Device, driver: Driver, area: &'a Area) -> Self {
        let mut table = table::new(&[
            "step",
            "where",
            "present",
            "on device",
            "order",
            "mapped as",
            "refs",
            "expected",
            "mapcount",
            "Rss",
            "huge",
        ]);
        table::align_right(&mut table, &[2, 3, 4, 6, 7, 8, 9, 10]);
        Steps {
            title,
            device,
            driver,
            area,
            table,
            notes: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Adds a line below the table.
    pub fn note(&mut self, step: &str, text: &str) {
        self.notes.push(format!("{step}: {text}"));
    }

    pub fn require(&mut self, good: bool, otherwise: &str) {
        if !good {
            self.problems.push(otherwise.to_string());
        }
    }

    /// Records the result of a comparison of the data.
    pub fn data(&mut self, result: Result<()>, what: &str) {
        match result {
            Ok(()) => self.note(what, "the data are right"),
            Err(error) => self.problems.push(format!("{what}: {error:#}")),
        }
    }

    /// Adds a row for the current state of the page, and checks it.
    pub fn look(&mut self, step: &str, expect: Expect) -> Result<()> {
        let entries = pagemap::of(self.area.addr(), self.area.npages())?;
        let present = entries.iter().filter(|e| e.present()).count();
        let away = entries.iter().filter(|e| e.swap()).count();
        let seen = smaps::of(self.area.addr(), self.area.size())?;
        let mut row = vec![step.to_string()];
        let (on_device, mapped_huge) = match self.driver {
            Driver::Rust => self.by_page(step, expect, &mut row)?,
            Driver::C => self.by_snapshot(&mut row)?,
        };
        row.insert(2, present.to_string());
        row.insert(3, away.to_string());
        let kb = |pages: usize| format!("{} kB", pages * PAGE_SIZE / 1024);
        row.extend([kb(seen.rss), kb(seen.anon_huge)]);
        self.table.add_row(row);

        let all = self.area.npages();
        let pages = if expect.on_device { (0, all) } else { (all, 0) };
        let wanted = if expect.on_device {
            "on the device"
        } else {
            "in system memory"
        };
        self.require(
            on_device == expect.on_device && (present, away) == pages,
            &format!("{step}: not {wanted}"),
        );
        if expect.order != ORDER_ANY {
            let huge = expect.order == HUGE_ORDER;
            let all = if huge { self.area.npages() } else { 0 };
            self.require(
                mapped_huge == huge && seen.anon_huge == all,
                &format!("{step}: wrong mapping"),
            );
        }
        self.require(
            seen.rss == self.area.npages() && seen.swap == 0,
            &format!("{step}: pages are missing from smaps"),
        );
        Ok(())
    }

    fn by_page(
        &mut self,
        step: &str,
        expect: Expect,
        row: &mut Vec<String>,
    ) -> Result<(bool, bool)> {
        // Pages on their way to the LRU have an extra reference, which is not of interest here.
        proc::drain_lru();
        let page = self
            .device
            .page(self.area.addr())
            .context("RUST_DMIRROR_PAGE")?;
        let place = match page.where_ {
            abi::NOWHERE => "nowhere",
            abi::SYSTEM => "system",
            abi::ZERO => "zero page",
            abi::DEVICE => "device",
            _ => "unreadable",
        };
        row.extend([
            place.to_string(),
            page.order.to_string(),
            mapping(page.map_order == HUGE_ORDER),
            page.refs.to_string(),
            page.expected.to_string(),
            page.mapcount.to_string(),
        ]);
        self.require(
            expect.order == ORDER_ANY || page.order == expect.order,
            &format!("{step}: order {} instead of {}", page.order, expect.order),
        );
        self.require(
            page.refs == page.expected,
            &format!(
                "{step}: {} references, {} are expected",
                page.refs, page.expected
            ),
        );
        let maps = if page.order == HUGE_ORDER && page.map_order == 0 {
            512
        } else {
            1
        };
        self.require(
            page.mapcount == maps,
            &format!("{step}: mapped {} times, not {maps}", page.mapcount),
        );
        let on_device = page.where_ == abi::DEVICE;
        self.require(
            on_device || page.where_ == abi::SYSTEM,
            &format!("{step}: the page is {place}"),
        );
        Ok((on_device, page.map_order == HUGE_ORDER))
    }

    fn by_snapshot(&self, row: &mut Vec<String>) -> Result<(bool, bool)> {
        let byte = self
            .device
            .snapshot(self.area.addr(), 1)
            .context("HMM_DMIRROR_SNAPSHOT")?[0];
        let on_device = byte & abi::PROT_KIND == abi::PROT_DEV_PRIVATE_LOCAL;
        let huge = byte & abi::PROT_PMD != 0;
        let place = if on_device { "device" } else { "system" };
        row.extend([place.to_string(), "-".into(), mapping(huge)]);
        row.extend(["-"; 3].map(String::from));
        Ok((on_device, huge))
    }

    /// Prints the section, and returns whether all was as expected.
    pub fn finish(self) -> bool {
        println!("{}\n{}", self.title, self.table);
        for note in &self.notes {
            println!("  {note}");
        }
        for problem in &self.problems {
            println!("  WRONG: {problem}");
        }
        println!();
        self.problems.is_empty()
    }
}

fn mapping(huge: bool) -> String {
    if huge {
        "one huge entry"
    } else {
        "512 entries"
    }
    .to_string()
}
