// SPDX-License-Identifier: GPL-2.0

//! CPU faults on private memory of the device: the page must come back.
//!
//! The core holds the folio's lock and a reference while this runs, and other CPUs that fault on a
//! huge entry spin meanwhile (K2). A fault that is refused gives up both and is taken again, for some
//! time (see `patience`); then the process gets a signal, since for ever is no answer. The data stays
//! on the device.

use super::{
    fill::{
        huge_folio,
        system_folio, //
    },
    logbook::Logbook,
    origin::{
        copy_back,
        copy_to,
        Origin, //
    }, //
};
use crate::{
    device::{
        chunk::{
            Chunk,
            ChunkPagemap, //
        },
        owner::Owner,
        state::State, //
    },
    inject::{
        Injection,
        Point, //
    },
    layer::{
        mm::{
            fault::{
                Fault,
                FaultError,
                Shape, //
            },
            lock::fatal_signal_pending,
            migrate::{
                Batch,
                Collected,
                Destination,
                Kind,
                Outcome, //
            },
            pagemap::Driver,
            system::{
                Blank,
                SystemPages, //
            },
            Size,
            HUGE_ORDER, //
        },
        ratelimit::warn_limited, //
    },
    ledger::Direction,
    pause::PausePoint,
    policy::{
        fates::Fate,
        patience::Verdict,
        plan::{
            CoreSplits,
            Path,
            Plan,
            Source, //
        }, //
    },
    splitter::Asked, //
};
use core::ops::Range;
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    str::CStr,
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
    /// There is no huge page for it: it is to be split first.
    TooLarge,
}

/// What destinations were given for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// To move pages, as far as there are any.
    Given,
    /// To have the mapping split.
    SplitsMapping,
    /// None were, since the folio is to be split first.
    Nothing,
}

impl Driver for Chunk {
    const NAME: &'static CStr = c"hmm_dmirror";

    type Owner = Owner;

    fn migrate_to_ram(
        chunk: &ChunkPagemap,
        fault: &Fault<'_>,
    ) -> core::result::Result<(), FaultError> {
        on_fault(chunk, fault)
    }
}

/// Handles a fault.
pub(crate) fn on_fault(
    chunk: &ChunkPagemap,
    fault: &Fault<'_>,
) -> core::result::Result<(), FaultError> {
    let state = chunk.data().state();
    let before = fault.shape();
    if before.order > 0 && is_split_elsewhere(state, fault, before) {
        return split_elsewhere(state, fault, before);
    }
    let owner = chunk.owner_of(fault);
    // Most faults are of single pages, and there may be many.
    let first = fault.range().start >> PAGE_SHIFT;
    let most = owner.map_or(1, |owner| owner.streams.pages(first, state.around));
    let range = match most {
        // Mostly.
        1 => fault.range(),
        _ => fault.around(chunk, most),
    };
    let done = match range.len() >> PAGE_SHIFT {
        1 => alone(chunk, fault, owner, range),
        _ => together(chunk, fault, owner, range),
    };
    match done {
        Ok(Done::Yes) => {
            state.patience.settled(before.pfn);
            Ok(())
        }
        // It is taken again in either case, and patience makes that end.
        Ok(Done::Refused) | Err(FaultError::Again) => refused(state, fault, before),
        Ok(Done::TooLarge) => split_elsewhere(state, fault, before),
        Err(error) => Err(error),
    }
}

/// Whether a worker splits the folio: it is about to, or this is a large folio that is mapped by PTEs, which
/// faults of an unfixed kernel must not split (K19).
fn is_split_elsewhere(state: &State, fault: &Fault<'_>, folio: Shape) -> bool {
    state.core_splits() == CoreSplits::Avoided
        && (!fault.is_huge() || state.splitter.is_at(folio.pfn))
}

/// Has a worker split the folio, or asks how it gets on; the fault is to be taken again.
#[cold]
fn split_elsewhere(
    state: &State,
    fault: &Fault<'_>,
    folio: Shape,
) -> core::result::Result<(), FaultError> {
    match state.splitter.ask(fault, folio.pfn, state.pgmap_owner()) {
        Asked::Pending => Ok(()),
        Asked::Refused => refused(state, fault, folio),
    }
}

/// As [`attempt`], of a single page.
#[inline]
fn alone(
    chunk: &ChunkPagemap,
    fault: &Fault<'_>,
    owner: Option<&Owner>,
    range: Range<usize>,
) -> core::result::Result<Done, FaultError> {
    let mut batch = Batch::for_pages(1).map_err(FaultError::of)?;
    attempt(chunk, fault, owner, range, &mut batch)
}

/// As [`attempt`], of many pages.
// Apart, as all that is rare: a fault on a single page need not carry its stack and its code.
#[inline(never)]
fn together(
    chunk: &ChunkPagemap,
    fault: &Fault<'_>,
    owner: Option<&Owner>,
    range: Range<usize>,
) -> core::result::Result<Done, FaultError> {
    let done =
        chunk.data().state().scratch.with(|scratch| {
            Ok::<_, Error>(attempt(chunk, fault, owner, range, &mut scratch.batch))
        });
    match done {
        Ok(done) => done,
        // What is brought along must not be what makes a fault fail.
        Err(_) if !fault.is_huge() => alone(chunk, fault, owner, fault.range()),
        Err(error) => Err(FaultError::of(error)),
    }
}

/// What to do about a fault on a folio that somebody holds, which looked like this `before`.
#[cold]
fn refused(
    state: &State,
    fault: &Fault<'_>,
    before: Shape,
) -> core::result::Result<(), FaultError> {
    // Somebody else has unmapped it, or mapped it otherwise: it will not be found here again.
    if before != fault.shape() || fatal_signal_pending() {
        return Ok(());
    }
    match state.patience.refused(before.pfn) {
        Verdict::Again(milliseconds) => {
            state.stats.retries.add(1);
            fsleep(Delta::from_millis(milliseconds.into()));
            Ok(())
        }
        Verdict::Over => {
            state
                .stats
                .split_refused
                .add(u64::from(before.order == HUGE_ORDER));
            warn_limited!(
                "hmm_dmirror{}: somebody holds a page that a CPU fault needs back\n",
                state.id()
            );
            Err(FaultError::Bus)
        }
    }
}

/// Brings back what is mapped at `range`, as far as it can be had.
fn attempt(
    chunk: &ChunkPagemap,
    fault: &Fault<'_>,
    owner: Option<&Owner>,
    range: Range<usize>,
    batch: &mut Batch,
) -> core::result::Result<Done, FaultError> {
    let state = chunk.data().state();
    let injection = Injection::new(owner.map(|owner| &owner.inject), &state.inject);
    let first = range.start >> PAGE_SHIFT;
    let mut collected = batch
        .setup_fault(fault, range, state.pgmap_owner())
        .map_err(FaultError::of)?;
    let extra = match injection.fires(Point::ExtraRef) {
        true => collected.source(0).and_then(|source| source.hold()),
        false => None,
    };
    let log = Logbook {
        state,
        direction: Direction::Fault,
        fault: Some(fault),
        extra_at: extra.as_ref().map(|_| 0),
    };
    log.collected(&collected);
    injection.pause(PausePoint::Collected, Direction::Fault);
    let filled = fill(&injection, chunk, fault, &mut collected)?;
    if filled == Filled::Nothing {
        return Ok(Done::TooLarge);
    }
    log.filled(&collected);
    injection.pause(PausePoint::Filled, Direction::Fault);
    let committed = collected.commit();
    injection.pause(PausePoint::Committed, Direction::Fault);
    let mut done = Done::Refused;
    let mut moved = 0;
    let mut in_a_row = 0;
    committed.each(|index, nr, outcome| {
        if outcome.is_migrated() {
            moved += nr;
            in_a_row += if index == in_a_row { nr } else { 0 };
        }
        // The page that faulted is the first. If somebody unmapped it before the locks were taken, the
        // access decides what comes next.
        if index == 0 && (outcome.is_migrated() || outcome == Outcome::Empty) {
            done = Done::Yes;
        }
    });
    // A fault that is refused comes again, and that is no stream.
    if let Some(owner) = owner.filter(|_| in_a_row > 0) {
        owner.streams.brought(first, in_a_row);
    }
    log.committed(&committed);
    drop(extra);
    injection.pause(PausePoint::Finalize, Direction::Fault);
    drop(committed);
    state.stats.faulted.add(moved as u64);
    if filled == Filled::SplitsMapping {
        return Ok(Done::Yes);
    }
    Ok(done)
}

/// Gives destinations.
fn fill(
    injection: &Injection<'_>,
    chunk: &ChunkPagemap,
    fault: &Fault<'_>,
    collected: &mut Collected<'_>,
) -> core::result::Result<Filled, FaultError> {
    let (kind, Some(source)) = collected.entry(0) else {
        return Ok(Filled::Given);
    };
    let mut origin = Origin::of(chunk);
    let size = kind.size();
    let folio = system_folio(injection, size, || match size {
        Size::Huge => huge_folio(chunk.data().state(), fault.beneficiary(), || {
            Blank::for_fault(fault, size)
        }),
        Size::Page => Blank::for_fault(fault, size),
    });
    match folio.and_then(|folio| copy_back(injection, &mut origin, &source, folio)) {
        Ok(destination) => {
            // Refused only if it is not what was asked for, which the types above exclude.
            let _ = collected.give(0, destination);
            if size == Size::Page && collected.len() > 1 {
                fill_around(fault, &mut origin, collected);
            }
            Ok(Filled::Given)
        }
        Err(Fate::CopyFailed) => Err(FaultError::Bus),
        Err(_) if size == Size::Huge => without_huge_page(
            chunk.data().state(),
            injection,
            fault,
            &mut origin,
            collected,
        ),
        Err(_) => Err(FaultError::OutOfMemory),
    }
}

/// What to do about a huge entry without a huge page to bring it back to.
#[cold]
fn without_huge_page(
    state: &State,
    injection: &Injection<'_>,
    fault: &Fault<'_>,
    origin: &mut Origin<'_>,
    collected: &mut Collected<'_>,
) -> core::result::Result<Filled, FaultError> {
    match Plan::without_huge_destination(Path::Fault, Source::Shared, state.core_splits()) {
        Plan::SplitByWorker => Ok(Filled::Nothing),
        _ => split_mapping(injection, fault, origin, collected),
    }
}

/// Has the mapping split.
fn split_mapping(
    injection: &Injection<'_>,
    fault: &Fault<'_>,
    origin: &mut Origin<'_>,
    collected: &mut Collected<'_>,
) -> core::result::Result<Filled, FaultError> {
    // The core refuses the page. Should it ever not, the data must be there.
    let part = collected.source(0).and_then(|source| source.page(0));
    let part = part.ok_or(FaultError::OutOfMemory)?;
    let page = system_folio(injection, Size::Page, || {
        Blank::for_fault(fault, Size::Page)
    })
    .and_then(|page| copy_to(injection, origin, &part, page))
    .map_err(|_| FaultError::OutOfMemory)?;
    let _ = collected.split_mapping(page);
    Ok(Filled::SplitsMapping)
}

/// Gives destinations to the pages behind the one that faulted, as far as they are easily had: nobody
/// waits for these.
// Apart: it has an array of pages on the stack.
#[inline(never)]
fn fill_around(fault: &Fault<'_>, origin: &mut Origin<'_>, collected: &mut Collected<'_>) {
    let mut pages = SystemPages::new(fault.beneficiary());
    for index in 1..collected.len() {
        let (Kind::Page, Some(source)) = collected.entry(index) else {
            continue;
        };
        let address = fault.range().start + (index << PAGE_SHIFT);
        let filled = pages
            .next(address, collected.len() - index)
            .ok()
            .and_then(|folio| origin.take(&source, folio).ok());
        let Some(folio) = filled else {
            return;
        };
        // What does not fit is freed, and the page stays.
        let _ = collected.give(index, Destination::System(folio));
    }
}
