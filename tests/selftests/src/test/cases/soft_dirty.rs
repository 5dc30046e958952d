// SPDX-License-Identifier: GPL-2.0

//! Soft-dirty tracking (`clear_refs`, T30): a device write must be visible wherever a CPU write is.

use std::fs;

use anyhow::{ensure, Context, Result};

use crate::{
    area::{pattern_bytes, Area, HUGE},
    check_eq,
    proc::pagemap,
    test::{
        case::{Case, Ctx, OnC},
        child::Skip,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "soft_dirty.system",
        "T30: what the device writes to system memory after clear_refs is seen, small pages and huge ones",
        OnC::Passes,
        system,
    ),
    Case::new(
        "soft_dirty.device",
        "T30: of pages on the device, its writes are seen where the CPU's are (docs/limits.md tells where not)",
        OnC::Skip("oops: it writes to private memory itself after a fault inside a huge device entry (K7)"),
        device,
    ),
];

/// Both kinds of areas, filled.
fn areas(seed: u64) -> Result<[Area; 2]> {
    Ok([Area::filled_small(16, seed)?, Area::filled(1, seed)?])
}

/// Forgets what was written until now. Fails if this kernel cannot tell, by a page that was written before.
fn clear(witness: &Area) -> Result<()> {
    fs::write("/proc/self/clear_refs", "4").context("clear_refs")?;
    if is_dirty(witness, 0)? {
        return Err(Skip("this kernel has no soft-dirty bits".into()).into());
    }
    Ok(())
}

fn is_dirty(area: &Area, page: usize) -> Result<bool> {
    Ok(pagemap::of(area.page(page), 1)?[0].soft_dirty())
}

fn system(ctx: &Ctx) -> Result<()> {
    let witness = Area::filled_small(1, 0)?;
    for area in areas(600)? {
        // The device may write to all of it, before.
        ctx.dev
            .write(area.addr(), &pattern_bytes(601, 0, area.npages()))
            .context("WRITE")?;
        clear(&witness)?;
        ctx.dev.read(area.addr(), area.npages()).context("READ")?;
        ensure!(!is_dirty(&area, 3)?, "a device read counts as a write");
        ctx.dev
            .write(area.page(3), &pattern_bytes(602, 3, 1))
            .context("WRITE")?;
        ensure!(is_dirty(&area, 3)?, "a device write is not seen");
        // Of a huge page, there is one bit for all.
        let others = (0..area.npages()).filter(|page| is_dirty(&area, *page).unwrap_or(true));
        let most = if area.npages() == HUGE { HUGE } else { 1 };
        ensure!(
            others.count() <= most,
            "what nobody wrote is seen as written"
        );
        area.verify_pages(602, 3, 1)?;
        area.verify_pages(601, 4, 1)?;
    }
    Ok(())
}

fn device(ctx: &Ctx) -> Result<()> {
    let witness = Area::filled_small(1, 0)?;
    for (by_device, by_cpu) in areas(610)?.into_iter().zip(areas(610)?) {
        for area in [&by_device, &by_cpu] {
            ctx.to_device(area, 610)?;
        }
        clear(&witness)?;
        ctx.dev
            .write(by_device.page(3), &pattern_bytes(611, 3, 1))
            .context("WRITE")?;
        by_cpu.fill_pages(611, 3, 1);
        for area in [&by_device, &by_cpu] {
            area.verify_pages(611, 3, 1)?;
            area.verify_pages(610, 4, 1)?;
        }
        let seen = [&by_device, &by_cpu].map(|area| is_dirty(area, 3).ok());
        println!(
            "seen: by the device {:?}, by the CPU {:?}",
            seen[0], seen[1]
        );
        check_eq!(
            seen[0] >= seen[1],
            true,
            "a device write is seen where the CPU's is: {seen:?}"
        );
    }
    Ok(())
}
