// SPDX-License-Identifier: GPL-2.0

//! One step of an access: copies pages that are mapped, with the device page table locked.
//!
//! With the table locked, page faults are disabled. User memory that is not present is faulted in without the lock,
//! and the step is repeated. A loop over steps counts [`Tries`] whenever a step copies nothing, so that it ends.

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

/// The number of pages that are copied at most while the table is locked. With fewer, a mapping that changes
/// between two steps, for example by khugepaged, would cost a fault more often. With more, invalidations would wait
/// longer for the lock.
pub(super) const AT_ONCE: usize = HUGE_PAGES;

/// How many steps in a row may copy nothing although everything was faulted in; chosen.
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
            // Also after an error: a part may have been written.
            run.mark_dirty();
            copied
        }
        _ => run.copy_from_user(from, at),
    }
}

/// The outcome of a step.
pub(super) enum Step {
    /// This number of pages was copied.
    Copied(usize),
    /// The next page is not mapped as wanted.
    NotMapped,
    /// The user memory is not present and must be faulted in.
    NotAtHand,
}

/// Copies pages from page `at` of the range on, up to the first that is not mapped as wanted. Takes the lock of the
/// device page table.
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
            // Pages were copied before the error: the next step will meet it again.
            Err(error) if error == EFAULT && next > at => break,
            Err(error) if error == EFAULT => return Ok(Step::NotAtHand),
            // Secret memory is not in the kernel's direct map, so a retry would not help.
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
