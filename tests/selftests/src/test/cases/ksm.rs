// SPDX-License-Identifier: GPL-2.0

//! Pages that KSM has merged stay in system memory, whatever is beside them, and ksmd keeps working.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure, Context, Result};
use nix::libc;

use crate::{
    abi,
    area::Area,
    check_eq,
    proc::{
        pagemap,
        sysfs::{number, Settings, KSM},
    },
    test::{
        case::{Case, Ctx, NEW_ABI},
        child::Skip,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "ksm.merged_stay",
        "merged pages are not offered, ksmd goes on, and unmerged they move",
        NEW_ABI,
        merged_stay,
    ),
    Case::new(
        "ksm.between_others",
        "merged pages between others: only these stay",
        NEW_ABI,
        between_others,
    ),
    Case::new(
        "ksm.race",
        "migrations while ksmd merges the same pages: the CPU reaches every page",
        NEW_ABI,
        race,
    ),
    Case::new(
        "ksm.zero_pages",
        "zero pages of KSM's own are not offered, and it counts them right",
        NEW_ABI,
        zero_pages,
    ),
];

const PAGES: usize = 64;
/// The value of all words of pages that are to be merged.
const SAME: u64 = 0x5a5a_0077_5a5a_0077;

/// Makes ksmd scan fast until this is dropped.
pub struct Ksm(Settings);

impl Ksm {
    pub fn new() -> Result<Ksm> {
        if number(KSM, "run").is_err() {
            return Err(Skip("this kernel has no KSM".into()).into());
        }
        let mut settings = Settings::default();
        settings.set(KSM, "run", "0")?;
        settings.set(KSM, "pages_to_scan", "5000")?;
        settings.set(KSM, "sleep_millisecs", "20")?;
        settings.set(KSM, "smart_scan", "0")?;
        Ok(Ksm(settings))
    }

    pub fn run(&mut self, is_on: bool) -> Result<()> {
        self.0.set(KSM, "run", if is_on { "1" } else { "0" })
    }

    /// Waits until ksmd has scanned all memory a few times.
    pub fn scans(&self) -> Result<()> {
        let scans = || number(KSM, "full_scans");
        let until = scans()? + 4;
        wait("ksmd gets no further", || Ok(scans()? >= until))
    }
}

fn wait(what: &'static str, is_done: impl Fn() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if is_done()? {
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    bail!(what)
}

fn same(area: &Area, page: usize) {
    for word in 0..512 {
        area.set_word(page, word, SAME);
    }
}

pub fn verify_same(area: &Area, page: usize) -> Result<()> {
    for word in 0..512 {
        check_eq!(area.word(page, word), SAME, "page {page}, word {word}");
    }
    Ok(())
}

fn merged(area: &Area) -> Result<Vec<bool>> {
    let is_merged = |entry: pagemap::Entry| match (entry.present(), entry.pfn()) {
        (true, Some(pfn)) => Ok(pagemap::flags(pfn)? & pagemap::KPF_KSM != 0),
        _ => Ok(false),
    };
    let entries = pagemap::of(area.addr(), area.npages())?;
    entries.into_iter().map(is_merged).collect()
}

fn mergeable(area: &Area) -> Result<()> {
    let all = area.npages();
    area.advise_pages(0, all, libc::MADV_MERGEABLE)
        .context("MADV_MERGEABLE")
}

/// Returns memory in which ksmd has merged the pages that `is_same` selects. ksmd is stopped then.
pub fn area(ksm: &mut Ksm, is_same: fn(usize) -> bool) -> Result<Area> {
    let area = Area::filled_small(PAGES, 420)?;
    let wanted: Vec<bool> = (0..PAGES).map(is_same).collect();
    (0..PAGES)
        .filter(|page| is_same(*page))
        .for_each(|page| same(&area, page));
    mergeable(&area)?;
    ksm.run(true)?;
    wait("ksmd does not merge", || Ok(merged(&area)? == wanted))?;
    ksm.run(false)?;
    Ok(area)
}

/// Returns memory that ksmd, which is running, can merge.
pub fn more(ksm: &mut Ksm) -> Result<Area> {
    let area = Area::small(PAGES)?;
    (0..PAGES).for_each(|page| same(&area, page));
    mergeable(&area)?;
    ksm.run(true)?;
    Ok(area)
}

fn verify(area: &Area, is_same: fn(usize) -> bool) -> Result<()> {
    (0..PAGES).try_for_each(|page| match is_same(page) {
        true => verify_same(area, page),
        false => area.verify_pages(420, page, 1),
    })
}

/// Merged pages stay and the others migrate. Then ksmd runs meanwhile, and in the end all of them can migrate.
fn only_others_move(ctx: &Ctx, is_same: fn(usize) -> bool) -> Result<()> {
    let mut ksm = Ksm::new()?;
    let area = area(&mut ksm, is_same)?;
    let stay = (0..PAGES).filter(|page| is_same(*page)).count() as u64;
    let go = PAGES as u64 - stay;
    for round in 0..2 {
        let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
        check_eq!(result.small, go, "pages moved");
        check_eq!(result.refused[abi::REFUSED_COLLECT], stay, "not offered");
        check_eq!(result.retries, 0, "retries");
        check_eq!(
            merged(&area)?.iter().filter(|is| **is).count() as u64,
            stay,
            "merged pages"
        );
        if round == 0 {
            ctx.migrate_all(abi::TO_SYSTEM, &area)?;
        }
    }
    // ksmd compares what it finds with what it has merged.
    let more = more(&mut ksm)?;
    ksm.scans()?;
    (0..PAGES).try_for_each(|page| verify_same(&more, page))?;
    verify(&area, is_same)?;
    ksm.run(false)?;
    area.advise_pages(0, PAGES, libc::MADV_UNMERGEABLE)
        .context("MADV_UNMERGEABLE")?;
    let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
    check_eq!(result.moved(), PAGES as u64, "unmerged pages moved");
    verify(&area, is_same)
}

fn merged_stay(ctx: &Ctx) -> Result<()> {
    only_others_move(ctx, |_| true)
}

fn between_others(ctx: &Ctx) -> Result<()> {
    only_others_move(ctx, |page| page % 3 == 0)?;
    only_others_move(ctx, |page| (20..40).contains(&page))
}

fn race(ctx: &Ctx) -> Result<()> {
    while_merging(|area| ctx.migrate_all(abi::TO_DEVICE, area).map(drop))
}

/// Migrates pages repeatedly while ksmd works on them.
pub fn while_merging(migrate: impl Fn(&Area) -> Result<()>) -> Result<()> {
    let mut ksm = Ksm::new()?;
    let area = area(&mut ksm, |_| true)?;
    ksm.run(true)?;
    let end = Instant::now() + Duration::from_secs(8);
    let mut rounds = 0;
    while Instant::now() < end {
        migrate(&area)?;
        sleep(Duration::from_millis(60 * (rounds & 3)));
        // A migration entry that nobody takes away would have this fault for ever.
        verify(&area, |_| true)?;
        rounds += 1;
    }
    println!("{rounds} rounds");
    Ok(())
}

fn zero_pages(ctx: &Ctx) -> Result<()> {
    let mut ksm = Ksm::new()?;
    ksm.0.set(KSM, "use_zero_pages", "1")?;
    let zeroes = || number(KSM, "ksm_zero_pages");
    let before = zeroes()?;
    let area = Area::small(PAGES)?;
    (0..PAGES).for_each(|page| area.set_word(page, 0, 0));
    mergeable(&area)?;
    ksm.run(true)?;
    let all = before + PAGES as u64;
    wait("ksmd finds no zero pages", || Ok(zeroes()? >= all))?;
    ksm.run(false)?;
    let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
    check_eq!(
        result.refused[abi::REFUSED_COLLECT],
        PAGES as u64,
        "not offered"
    );
    check_eq!(zeroes()?, all, "zero pages of KSM");
    for page in 0..PAGES {
        check_eq!(area.word(page, 7), 0, "a word of page {page}");
    }
    drop(area);
    let left = zeroes()?;
    ensure!(
        left == before,
        "{left} zero pages of KSM are left, {before} before"
    );
    Ok(())
}
