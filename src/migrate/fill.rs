// SPDX-License-Identifier: GPL-2.0

//! Allocates destinations for a window, fills them, and gives them to the migration.
//!
//! Filling stops at the first destination that cannot be allocated or filled. Sources without a destination stay.

use super::origin::{
    copy_back,
    Origin, //
};
use crate::{
    client::Client,
    device::{
        state::State,
        supply::{
            Supply,
            Taker, //
        }, //
    },
    inject::{
        Injection,
        Point, //
    },
    layer::mm::{
        lock::{
            Beneficiary,
            Vma, //
        },
        migrate::{
            Collected,
            Destination,
            Kind,
            Source, //
        },
        system::{
            Blank,
            SystemPages, //
        },
        Size, //
    },
    policy::{
        fates::{
            Fate,
            Made, //
        },
        plan::{
            self,
            Path,
            Plan, //
        }, //
    }, //
};
use core::ops::Range;
use kernel::{
    page::PAGE_SHIFT,
    prelude::*, //
};

/// The result of filling.
pub(super) enum Filled {
    /// No destinations: the sources must be split first, by collecting them again without COMPOUND.
    SplitBefore,
    /// Destinations as far as possible. Entries without one have none for this reason.
    Upto(Fate),
}

/// The context of filling.
pub(super) struct Filler<'a> {
    /// The client that the migration is for.
    pub(super) client: &'a Client,
    /// The VMA.
    pub(super) vma: Vma<'a>,
    /// The addresses of the entries.
    pub(super) range: Range<usize>,
    /// The injected failures.
    pub(super) injection: Injection<'a>,
    /// The chunks that device folios are allocated from.
    pub(super) supply: &'a Supply,
}

/// A destination to be made.
struct Wanted {
    /// Its size.
    size: Size,
    /// The index of its entry.
    index: usize,
    /// The number of entries from this one to the last.
    left: usize,
}

impl Filler<'_> {
    /// Gives device folios as destinations.
    pub(super) fn to_device(&self, collected: &mut Collected<'_>) -> Filled {
        let mut taker = self.supply.taker(self.client.owner());
        self.fill(collected, |source, wanted| {
            self.device_folio(&mut taker, source, wanted)
        })
    }

    /// Gives folios of system memory as destinations.
    pub(super) fn to_system(&self, collected: &mut Collected<'_>) -> Filled {
        let mut pages = SystemPages::new(self.vma.beneficiary());
        let mut origin = Origin::default();
        let state = self.client.device().state();
        self.fill(collected, |source, wanted| {
            // A hole has no data on the device to bring back.
            let source = source.ok_or(Fate::Empty)?;
            let address = self.range.start + (wanted.index << PAGE_SHIFT);
            let folio = system_folio(&self.injection, wanted.size, || match wanted.size {
                Size::Huge => huge_folio(state, self.vma.beneficiary(), || {
                    Blank::for_vma(self.vma.beneficiary(), address, wanted.size)
                }),
                Size::Page => pages.next(address, wanted.left),
            })?;
            copy_back(&self.injection, &mut origin, &source, folio)
        })
    }

    fn fill(
        &self,
        collected: &mut Collected<'_>,
        mut make: impl FnMut(Option<Source<'_>>, Wanted) -> Made<Destination>,
    ) -> Filled {
        let nr = collected.len();
        let mut reason = Fate::NoMemory;
        let huge = match collected.kind(0) {
            Kind::Huge { exclusive: true } => Some(plan::Source::Exclusive),
            Kind::Huge { exclusive: false } => Some(plan::Source::Shared),
            Kind::HugeHole => Some(plan::Source::Hole),
            _ => None,
        };
        if let Some(kind) = huge {
            let wanted = Wanted {
                size: Size::Huge,
                index: 0,
                left: nr,
            };
            match make(collected.source(0), wanted) {
                Ok(destination) => {
                    if collected.give(0, destination).is_err() {
                        reason = Fate::Core;
                    }
                    return Filled::Upto(reason);
                }
                // Small destinations would fail in the same way.
                Err(fate @ (Fate::CopyFailed | Fate::Empty)) => return Filled::Upto(fate),
                Err(_) => {}
            }
            let core_splits = self.client.device().state().core_splits();
            match Plan::without_huge_destination(Path::Address, kind, core_splits) {
                Plan::SmallDestinations => {}
                Plan::SplitBefore => return Filled::SplitBefore,
                Plan::SplitMapping | Plan::SplitByWorker | Plan::Leave => {
                    return Filled::Upto(reason)
                }
            }
        }
        for index in 0..nr {
            let source = match huge {
                // One page of the huge source at entry 0.
                Some(_) => collected.source(0).and_then(|source| source.page(index)),
                None => match collected.entry(index) {
                    (Kind::Page | Kind::Hole, source) => source,
                    _ => continue,
                },
            };
            let wanted = Wanted {
                size: Size::Page,
                index,
                left: nr - index,
            };
            match make(source, wanted) {
                Ok(destination) => {
                    if collected.give(index, destination).is_err() {
                        reason = Fate::Core;
                        break;
                    }
                }
                Err(Fate::Empty) => {}
                Err(fate) => {
                    reason = fate;
                    break;
                }
            }
        }
        Filled::Upto(reason)
    }

    fn device_folio(
        &self,
        taker: &mut Taker<'_>,
        source: Option<Source<'_>>,
        wanted: Wanted,
    ) -> Made<Destination> {
        if self.injection.fires(alloc_point(wanted.size)) {
            return Err(Fate::NoMemory);
        }
        let folio = taker
            .next(wanted.size, wanted.left)
            .map_err(|_| Fate::NoMemory)?;
        if self.injection.fires(Point::Copy) {
            return Err(Fate::CopyFailed);
        }
        let folio = folio.fill(source).map_err(|_| Fate::CopyFailed)?;
        Ok(Destination::Device(folio))
    }
}

fn alloc_point(size: Size) -> Point {
    match size {
        Size::Huge => Point::HugeAlloc,
        Size::Page => Point::SmallAlloc,
    }
}

/// Returns a huge folio of system memory: one that was kept ready, or a new one. If neither can be had, the worker
/// may just have taken the last free one to keep it ready, so that is asked again.
// Not inlined: this is rare, and must not enlarge the code that runs for each single page.
#[inline(never)]
pub(super) fn huge_folio(
    state: &State,
    vma: Beneficiary<'_>,
    alloc: impl FnOnce() -> Result<Blank>,
) -> Result<Blank> {
    let ready = || state.ready.take(vma);
    ready()
        .map_or_else(alloc, Ok)
        .or_else(|error| ready().ok_or(error))
}

/// Allocates a destination in system memory, unless injection makes that fail.
pub(super) fn system_folio(
    injection: &Injection<'_>,
    size: Size,
    alloc: impl FnOnce() -> Result<Blank>,
) -> Made<Blank> {
    if injection.fires(alloc_point(size)) {
        return Err(Fate::NoMemory);
    }
    alloc().map_err(|_| Fate::NoMemory)
}
