// SPDX-License-Identifier: GPL-2.0

//! A written huge page through all stages of the layer, with no driver in between: to the device,
//! or back from it.

use super::{
    log::Log,
    rig::Rig, //
};
use crate::{
    layer::mm::{
        migrate::{
            Batch,
            Collected,
            Destination,
            Kind,
            Outcome,
            Select, //
        },
        Size,
        HUGE_PAGES, //
    },
    ledger::Direction, //
};
use kernel::prelude::*;

/// How the destination is made, or not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Whole,
    Split,
    SplitRefused,
    WholeRefused,
    NotGiven,
}

impl How {
    fn is_refused(self) -> bool {
        matches!(self, How::SplitRefused | How::WholeRefused)
    }

    /// The pages of each destination, if there is one.
    fn destination(self) -> Option<usize> {
        match self {
            How::Whole | How::WholeRefused => Some(HUGE_PAGES),
            How::Split | How::SplitRefused => Some(1),
            How::NotGiven => None,
        }
    }

    /// What the first entry must come to.
    fn outcome(self) -> Outcome {
        match self {
            How::Whole => Outcome::Whole,
            How::Split => Outcome::Split,
            How::SplitRefused => Outcome::SplitRefused,
            How::WholeRefused => Outcome::Refused,
            How::NotGiven => Outcome::NotGiven,
        }
    }
}

/// Notes the huge page at each stage; for small pages, the first and the last destination.
pub(super) fn stages(direction: Direction, how: How) -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        let select = match direction {
            Direction::ToDevice => Select::System,
            _ => {
                let report = rig.migrate(rig.range(), Direction::ToDevice)?;
                let whole = report.counts.whole == HUGE_PAGES as u64;
                log.check(whole, "it went there whole")?;
                Select::DevicePrivate
            }
        };
        rig.note_mapped(log, "before", 0)?;
        let mut batch = Batch::new()?;
        rig.collect(&mut batch, rig.range(), select, |collected, _| {
            migrate(rig, log, direction, how, collected)
        })?;
        rig.drain_lru(log);
        rig.note_mapped(log, "after", 0)?;
        rig.note_mapped(log, "after", HUGE_PAGES - 1)?;
        let moved = matches!(how, How::Whole | How::Split);
        let is_there = moved == (direction == Direction::ToDevice);
        let used = rig.device.memory.usage().1;
        log.check(
            used == if is_there { HUGE_PAGES } else { 0 },
            "the device holds what is there",
        )?;
        log.check(rig.has_pattern(0..HUGE_PAGES)?, "the data are right")
    })
}

fn migrate(
    rig: &Rig,
    log: &mut Log,
    direction: Direction,
    how: How,
    mut collected: Collected<'_>,
) -> Result {
    log.check(
        collected.kind(0) == Kind::Huge { exclusive: true },
        "the source is huge and exclusive",
    )?;
    let source = collected.source(0).ok_or(ENOENT)?;
    rig.note(log, "setup", source.counts())?;
    let step = how.destination().unwrap_or(usize::MAX);
    for page in (0..HUGE_PAGES).step_by(step) {
        let destination = match how.destination() {
            Some(HUGE_PAGES) => destination(rig, direction, &collected, None)?,
            Some(_) => destination(rig, direction, &collected, Some(page))?,
            None => break,
        };
        log.check(collected.give(page, destination).is_ok(), "it is taken")?;
        if [0, HUGE_PAGES - 1].contains(&page) {
            let counts = collected.destination_counts(page).ok_or(ENOENT)?;
            rig.note(log, "filled", counts)?;
        }
    }
    let extra = match how.is_refused() {
        true => collected.source(0).and_then(|source| source.hold()),
        false => None,
    };
    let committed = collected.commit();
    let mut first = None;
    committed.outcomes(|index, _, became| {
        if index == 0 {
            first = Some(became);
        }
    });
    log.check(first == Some(how.outcome()), "the outcome is right")?;
    let last = HUGE_PAGES - 1;
    for counts in [committed.source_counts(0), committed.source_counts(last)] {
        counts.map_or(Ok(()), |counts| rig.note(log, "pages-src", counts))?;
    }
    for counts in [
        committed.destination_counts(0),
        committed.destination_counts(last),
    ] {
        counts.map_or(Ok(()), |counts| rig.note(log, "pages-dst", counts))?;
    }
    drop(extra);
    Ok(())
}

/// A destination that is filled from the whole source, or from a page of it.
fn destination(
    rig: &Rig,
    direction: Direction,
    collected: &Collected<'_>,
    page: Option<usize>,
) -> Result<Destination> {
    let source = collected.source(0).ok_or(ENOENT)?;
    let (part, size) = match page {
        Some(page) => (source.page(page).ok_or(ENOENT)?, Size::Page),
        None => (source, Size::Huge),
    };
    match direction {
        Direction::ToDevice => rig.device_folio(Some(part), size),
        _ => rig.system_folio(&part, size),
    }
}
