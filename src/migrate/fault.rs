// SPDX-License-Identifier: GPL-2.0

//! CPU faults on private memory of the device: the page must come back.
//!
//! The core holds the folio's lock and a reference while this runs, and other CPUs that fault on a
//! huge entry spin meanwhile (K2). A fault that is refused gives up both and is taken again, for some
//! time (see `patience`); then the process gets a signal, since for ever is no answer. The data stays
//! on the device.

use super::{
    fates::Fate,
    fill::{
        copy_back,
        copy_to,
        system_folio, //
    },
    logbook::Logbook,
    patience::Verdict,
    policy::{
        Path,
        Plan, //
    },
    Direction, //
};
use crate::{
    devmem::Memory,
    inject::{
        Faults,
        Point, //
    },
    layer::mm::{
        fault::{
            Fault,
            FaultError, //
        },
        folio::SystemFolio,
        lock::fatal_signal_pending,
        migrate::{
            Batch,
            Collected,
            Kind,
            Outcome,
            Select, //
        }, //
    },
    layer::ratelimit::warn_limited,
};
use kernel::{
    page::PAGE_SHIFT,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// What an attempt came to.
enum Done {
    /// The page is back, or the fault is to be taken again for a single page.
    Yes,
    /// Somebody holds the folio.
    Refused,
}

/// Handles a fault.
pub fn on_fault(memory: &Memory, fault: &Fault<'_>) -> core::result::Result<(), FaultError> {
    let core = memory.data().core();
    let before = fault.counts();
    // Most faults are of single pages, and there may be many.
    let mut batch = Batch::for_pages(fault.range().len() >> PAGE_SHIFT)?;
    match attempt(memory, fault, &mut batch)? {
        Done::Yes => {
            core.patience.settled(before.pfn);
            return Ok(());
        }
        Done::Refused => {}
    }
    // Somebody else has unmapped it, or mapped it otherwise: it will not be found here again.
    let after = fault.counts();
    let is_changed = (before.order, before.mapcount) != (after.order, after.mapcount);
    if is_changed || fatal_signal_pending() {
        return Ok(());
    }
    match core.patience.refused(before.pfn) {
        Verdict::Again(milliseconds) => {
            core.stats.retries.add(1);
            fsleep(Delta::from_millis(milliseconds.into()));
            Ok(())
        }
        Verdict::Over => {
            core.stats.split_refused.add(1);
            warn_limited!(
                "hmm_dmirror{}: somebody holds a page that a CPU fault needs back\n",
                core.id()
            );
            Err(FaultError::Bus)
        }
    }
}

fn attempt(
    memory: &Memory,
    fault: &Fault<'_>,
    batch: &mut Batch,
) -> core::result::Result<Done, FaultError> {
    let core = memory.data().core();
    let owner = memory.owner(fault.counts().pfn - memory.pfns().start);
    let faults = Faults::new(owner.as_ref().map(|owner| &owner.inject), &core.inject);
    // Without COMPOUND a huge mapping would never make progress (K5).
    let mut collected = batch.setup(
        fault.vma(),
        fault.range(),
        Select::DevicePrivate,
        fault.is_huge(),
        core.owner(),
        Some(fault),
    )?;
    let extra = match faults.fires(Point::ExtraRef) {
        true => collected.source(0).and_then(|source| source.hold()),
        false => None,
    };
    let log = Logbook {
        core,
        direction: Direction::Fault,
        extra_at: extra.as_ref().map(|_| 0),
    };
    log.collected(&collected);
    let splits_mapping = fill(&faults, fault, &mut collected)?;
    log.filled(&collected);
    let committed = collected.commit();
    let mut done = Done::Refused;
    let mut moved = 0;
    committed.outcomes(|_, nr, outcome| {
        if outcome.is_migrated() {
            moved += nr as u64;
        }
        // Somebody unmapped it before the locks were taken: the access decides what comes next.
        if outcome.is_migrated() || outcome == Outcome::Empty {
            done = Done::Yes;
        }
    });
    log.committed(&committed);
    drop(extra);
    drop(committed);
    core.stats.faulted.add(moved);
    if splits_mapping {
        return Ok(Done::Yes);
    }
    Ok(done)
}

/// Gives a destination. True if that is only to have the mapping split.
fn fill(
    faults: &Faults<'_>,
    fault: &Fault<'_>,
    collected: &mut Collected<'_>,
) -> core::result::Result<bool, FaultError> {
    let alloc = |huge| system_folio(faults, huge, || SystemFolio::for_fault(fault, huge));
    let Some(source) = collected.source(0) else {
        return Ok(false);
    };
    let is_huge = matches!(collected.kind(0), Kind::Huge { .. });
    match alloc(is_huge).and_then(|folio| copy_back(faults, &source, folio)) {
        Ok(destination) => {
            // Refused only if it is not what was asked for, which the types above exclude.
            let _ = collected.give(0, destination);
            Ok(false)
        }
        Err(Fate::CopyFailed) => Err(FaultError::Bus),
        Err(_) if is_huge => {
            match Plan::without_huge_destination(Path::Fault, true) {
                Plan::SplitMapping => {}
                _ => return Err(FaultError::OutOfMemory),
            }
            // The core refuses it. Should it ever not, the data must be there.
            let part = source.page(0).unwrap_or(source);
            let page = alloc(false)
                .and_then(|page| copy_to(faults, &part, page))
                .map_err(|_| FaultError::OutOfMemory)?;
            let _ = collected.split_mapping(page);
            Ok(true)
        }
        Err(_) => Err(FaultError::OutOfMemory),
    }
}
