// SPDX-License-Identifier: GPL-2.0

//! One step of an access: copies what is mapped, under the lock of the table.
//!
//! No fault may be taken there. User memory that is not at hand is faulted in without the lock, and the step is
//! repeated. Every loop over steps either copies pages or counts [`Tries`].

use crate::{
    client::Client,
    device::chunk::Chunk,
    layer::mm::{
        mapped::Mapped,
        user::UserPages,
        HUGE_PAGES, //
    },
    range::Pages, //
};
use kernel::{
    page::PAGE_SHIFT,
    prelude::*, //
};

/// The most pages that are copied while the table is locked. With fewer, a mapping that changes between two
/// steps, as khugepaged changes it, would cost a fault more often; with more, others wait longer for the table.
pub(super) const AT_ONCE: usize = HUGE_PAGES;

/// How often in a row an access may get no further after having faulted everything in.
const TRIES: u32 = 100;

/// Counts the steps in a row that copied nothing.
#[derive(Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// Counts a step. Fails with `EBUSY` after [`TRIES`] of them.
    pub(super) fn again(&mut self) -> Result {
        self.0 += 1;
        match self.0 > TRIES {
            true => Err(EBUSY),
            false => Ok(()),
        }
    }
}

/// Copies a run to user memory.
fn copy_to_user(run: &Mapped<'_>, to: &UserPages, at: usize) -> Result {
    match run.device::<Chunk>() {
        Some((chunk, offset)) if chunk.data().state().is_private() => {
            chunk.data().copy_to_user(offset, run.pages(), to, at)
        }
        _ => run.copy_to_user(to, at),
    }
}

/// Copies user memory to a run.
pub(super) fn copy_from_user(run: &Mapped<'_>, from: &UserPages, at: usize) -> Result {
    match run.device::<Chunk>() {
        Some((chunk, offset)) if chunk.data().state().is_private() => {
            let copied = chunk.data().copy_from_user(offset, run.pages(), from, at);
            // Also if that failed: a part may have been written.
            run.mark_dirty();
            copied
        }
        _ => run.copy_from_user(from, at),
    }
}

/// The result of a step.
pub(super) enum Step {
    /// Some pages were copied.
    Copied(usize),
    /// The next page is not mapped as wanted.
    NotMapped,
    /// The user memory is not faulted in.
    NotAtHand,
}

/// Copies pages from page `at` of the range on, up to the first that is not mapped as wanted. Holds the lock of the
/// table meanwhile.
pub(super) fn step(
    client: &Client,
    pages: Pages,
    at: usize,
    is_wanted: impl Fn(&Mapped<'_>) -> bool,
    copy: impl Fn(&Mapped<'_>, usize) -> Result,
) -> Result<Step> {
    let locked = client.mirror().lock();
    let end = pages.count().min(at + AT_ONCE);
    let mut next = at;
    while next < end {
        let run = locked.run(pages.start() + (next << PAGE_SHIFT), end - next);
        let Some(run) = run.filter(&is_wanted) else {
            break;
        };
        match copy(&run, next) {
            Ok(()) => next += run.pages(),
            // What was copied before counts.
            Err(error) if error == EFAULT && next > at => break,
            Err(error) if error == EFAULT => return Ok(Step::NotAtHand),
            // Secret memory: what has no address will not get one by being asked for again.
            Err(error) if error == ENXIO => match next > at {
                true => break,
                false => return Err(EFAULT),
            },
            Err(error) => return Err(error),
        }
    }
    Ok(match next - at {
        0 => Step::NotMapped,
        copied => Step::Copied(copied),
    })
}

/// As [`step`], to user memory.
pub(super) fn step_out(
    client: &Client,
    pages: Pages,
    at: usize,
    to: &UserPages,
    is_wanted: impl Fn(&Mapped<'_>) -> bool,
) -> Result<Step> {
    step(client, pages, at, is_wanted, |run, at| {
        copy_to_user(run, to, at)
    })
}
