// SPDX-License-Identifier: GPL-2.0

//! Zaps in the middle of a split, on a kernel that can hold the migration there (K20, K24, K19).

use std::{
    fs,
    path::Path,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use nix::sys::mman::ProtFlags;

use crate::{
    abi,
    area::{Area, HUGE},
    check_eq,
    core_splits::{CoreSplits, Splits},
    proc::{heap, smaps},
    test::{
        case::{Case, Ctx, OnC, NEW_ABI},
        child::Skip,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "split.zapped_while_held",
        "a huge page is discarded between setup and the split: nothing is moved, nothing is left (K20)",
        OnC::Passes,
        zapped,
    ),
    Case::new(
        "split.replaced_while_held",
        "and another one is mapped there by then: that one is left alone (K24)",
        OnC::Passes,
        replaced,
    ),
    Case::new(
        "split.fault_zapped_while_held",
        "the page of a fault is discarded while the fault splits its folio (K19)",
        NEW_ABI,
        fault_zapped,
    )
    .races(),
];

/// Holds every migration back, before `migrate_vma_pages()` and before `migrate_vma_setup()` splits a folio, until
/// it goes: a switch of our kernel patches.
struct Hold {
    before: u64,
}

impl Hold {
    const SWITCH: &str = "/sys/module/migrate_device/parameters/hold_ms";
    const COUNT: &str = "/sys/module/migrate_device/parameters/held";
    /// For how many sleeps of a millisecond at most, each of which takes two ticks: ten seconds at HZ=250. Only a test
    /// that fails waits for the end of them.
    const SLEEPS: &str = "1250";
    /// How long a migration may take until it is held.
    const LIMIT: Duration = Duration::from_secs(10);

    fn set() -> Result<Hold> {
        if !Path::new(Hold::SWITCH).exists() {
            return Err(Skip("this kernel cannot hold a migration back".into()).into());
        }
        let before = Hold::count()?;
        fs::write(Hold::SWITCH, Hold::SLEEPS).context("hold_ms")?;
        Ok(Hold { before })
    }

    fn count() -> Result<u64> {
        let text = fs::read_to_string(Hold::COUNT).context("held")?;
        text.trim().parse().context("held")
    }

    /// Waits until a migration is held.
    fn wait(&self) -> Result<()> {
        let end = Instant::now() + Hold::LIMIT;
        while Hold::count()? == self.before {
            ensure!(Instant::now() < end, "no migration came to be held");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = fs::write(Hold::SWITCH, "0");
    }
}

/// A huge page that a migration is about to split, since there is no other on the device; `meanwhile` happens between
/// setup and that.
fn split_while(
    ctx: &Ctx,
    area: &Area,
    meanwhile: impl FnOnce() -> Result<()> + Send,
) -> Result<()> {
    let _splits = match ctx.rust() {
        true => Some(CoreSplits::set(Splits::WhileMigrating)?),
        false => None,
    };
    ctx.dev.set_flags(abi::FLAG_FAIL_ALLOC).context("FLAGS")?;
    let hold = Hold::set()?;
    let (starts, started) = channel();
    thread::scope(|scope| {
        let other = scope.spawn(move || {
            heap::reserve();
            let _ = starts.send(());
            hold.wait()?;
            meanwhile()
        });
        // Nothing is held before the thread runs and has its heap.
        let _ = started.recv();
        // The C driver answers ENOENT where not all of the range has moved.
        let _ = ctx.dev.read_by(abi::MIGRATE_TO_DEV, area.addr(), HUGE);
        other.join().expect("the thread does not panic")
    })
}

fn zapped(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 23)?;
    split_while(ctx, &area, || area.discard(0, HUGE))?;
    check_eq!(
        (0..HUGE).all(|page| area.word(page, 0) == 0),
        true,
        "what was discarded reads as zero"
    );
    Ok(())
}

fn replaced(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 25)?;
    split_while(ctx, &area, || {
        area.discard(0, HUGE)?;
        area.fill(26);
        Ok(())
    })?;
    area.verify(26)?;
    // Nobody may have split it.
    let huge = smaps::of(area.addr(), area.size())?.anon_huge;
    check_eq!(huge, HUGE, "pages of huge pages");
    Ok(())
}

/// The page that faults is discarded while the fault splits the large folio that it is of.
fn fault_zapped(ctx: &Ctx) -> Result<()> {
    const PAGE: usize = HUGE / 2 + 3;
    let _splits = CoreSplits::set(Splits::WhileMigrating)?;
    let area = Area::filled(1, 27)?;
    ctx.to_device(&area, 27)?;
    area.protect_pages(0, HUGE / 2, ProtFlags::PROT_READ)?;
    heap::reserve();
    let hold = Hold::set()?;
    thread::scope(|scope| {
        let area = &area;
        let fault = scope.spawn(move || area.word(PAGE, 0));
        hold.wait()?;
        area.discard(PAGE, 1)?;
        drop(hold);
        let seen = fault.join().expect("the thread does not panic");
        check_eq!(seen, 0, "what the fault found");
        Ok::<_, anyhow::Error>(())
    })?;
    area.verify_pages(27, 0, PAGE)?;
    area.verify_pages(27, PAGE + 1, HUGE - PAGE - 1)
}
