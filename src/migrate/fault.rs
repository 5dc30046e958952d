// SPDX-License-Identifier: GPL-2.0

//! CPU faults on private memory of the device: migrates the page back to system memory.
//!
//! The core holds the folio's lock and a reference while this runs. Other CPUs that fault on the same huge entry
//! spin until it ends (K2 in docs/defects.md). If the migration is refused, the handler returns, so that the core
//! drops lock and reference and the CPU faults again. After some time (see `patience`) the process gets SIGBUS
//! instead of faulting for ever. The data stays on the device.

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

/// The result of an attempt.
enum Done {
    /// The page is back in system memory, or the mapping was split and the CPU faults again on a single page.
    Yes,
    /// The core refused: the folio has extra references.
    Refused,
    /// No huge page could be allocated: the folio must be split first.
    TooLarge,
}

/// What the destinations were given for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// To migrate pages. There may be none.
    Given,
    /// To make the core split the mapping.
    SplitsMapping,
    /// No destination was given, since the folio must be split first.
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

/// Handles a CPU fault.
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
    // Most faults bring back a single page, and they must be fast.
    let first = fault.range().start >> PAGE_SHIFT;
    let most = owner.map_or(1, |owner| owner.streams.pages(first, state.around));
    let range = match most {
        // The most frequent case.
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
        // In both cases the CPU faults again; `patience` limits how long.
        Ok(Done::Refused) | Err(FaultError::Again) => refused(state, fault, before),
        Ok(Done::TooLarge) => split_elsewhere(state, fault, before),
        Err(error) => Err(error),
    }
}

/// Returns whether the folio is left to the worker that splits folios: the worker has it already, or it is a
/// large folio mapped by PTEs, which a fault on a kernel without the fixes must not split (K19 in docs/defects.md).
fn is_split_elsewhere(state: &State, fault: &Fault<'_>, folio: Shape) -> bool {
    state.core_splits() == CoreSplits::Avoided
        && (!fault.is_huge() || state.splitter.is_at(folio.pfn))
}

/// Asks the worker to split the folio. Until that is done, the CPU faults again.
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

/// As [`attempt`], for a single page.
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

/// As [`attempt`], for many pages.
// Not inlined, like everything rare here: it must not cost a fault on a single page stack and code.
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
        // Pages beside the one that faulted must not make the fault fail.
        Err(_) if !fault.is_huge() => alone(chunk, fault, owner, fault.range()),
        Err(error) => Err(FaultError::of(error)),
    }
}

/// Decides what happens after a refused migration. `before` is the folio's shape before the attempt.
#[cold]
fn refused(
    state: &State,
    fault: &Fault<'_>,
    before: Shape,
) -> core::result::Result<(), FaultError> {
    // The folio has been unmapped or split meanwhile: the CPU faults again, on another folio or entry.
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

/// Migrates the pages of `range` back to system memory, as far as possible.
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
        // The page that faulted is the first. If it was unmapped before it was collected, the CPU's next
        // access finds what is mapped now.
        if index == 0 && (outcome.is_migrated() || outcome == Outcome::Empty) {
            done = Done::Yes;
        }
    });
    // A refused fault is repeated at the same address, which must not look like a stream.
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

/// Gives destinations to the collected entries.
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
            // Fails only for a destination of another size than the entry's, and the size is the entry's.
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

/// Handles a huge entry for which no huge page could be allocated.
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

/// Makes the core split the mapping, by giving a single page to a huge entry.
fn split_mapping(
    injection: &Injection<'_>,
    fault: &Fault<'_>,
    origin: &mut Origin<'_>,
    collected: &mut Collected<'_>,
) -> core::result::Result<Filled, FaultError> {
    // The core splits the mapping and refuses the page. Should a core ever take it, the page must have the data.
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

/// Gives destinations to the pages behind the one that faulted, up to the first failure: no access waits for
/// these pages.
// Not inlined: it has an array of pages on the stack.
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
        // A destination that the entry cannot take is freed, and the page stays.
        let _ = collected.give(index, Destination::System(folio));
    }
}
