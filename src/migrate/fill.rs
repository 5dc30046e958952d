// SPDX-License-Identifier: GPL-2.0

//! Destinations for a window: allocated, filled, given.
//!
//! Filling stops at the first destination that cannot be had; what has none stays where it is.

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

/// How far filling came.
pub(super) enum Filled {
    /// Not far: the sources must be collected again without COMPOUND.
    SplitBefore,
    /// As far as it could; entries that have no destination have none for this reason.
    Upto(Fate),
}

/// What filling needs to know.
pub(super) struct Filler<'a> {
    /// The file.
    pub(super) client: &'a Client,
    /// The VMA.
    pub(super) vma: Vma<'a>,
    /// The addresses of the entries.
    pub(super) range: Range<usize>,
    /// What is to fail.
    pub(super) injection: Injection<'a>,
    /// Where device memory comes from.
    pub(super) supply: &'a Supply,
}

/// An entry that wants a destination.
struct Wanted {
    /// Of this size.
    size: Size,
    /// The number of the entry.
    index: usize,
    /// Entries from it on.
    left: usize,
}

impl Filler<'_> {
    /// Gives destinations on the device.
    pub(super) fn to_device(&self, collected: &mut Collected<'_>) -> Filled {
        let mut taker = self.supply.taker(self.client.owner());
        self.fill(collected, |source, wanted| {
            self.device_folio(&mut taker, source, wanted)
        })
    }

    /// Gives destinations in system memory.
    pub(super) fn to_system(&self, collected: &mut Collected<'_>) -> Filled {
        let mut pages = SystemPages::new(self.vma.beneficiary());
        let mut origin = Origin::default();
        let state = self.client.device().state();
        self.fill(collected, |source, wanted| {
            // Nothing comes out of a hole.
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
                // Small pages would not be copied either.
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
                // A part of what is at entry 0.
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

/// A huge folio of system memory that was kept ready, or a new one; if there is none, the worker may have
/// got the last.
// Apart from what single pages need, and from what is done for each.
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

/// A destination in system memory.
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
