// SPDX-License-Identifier: GPL-2.0

//! Measures the kernel's own copy routines: the limit with which the benchmark compares migrations.
//!
//! Buffers are allocated and cleared before the clock starts, so that they are in the CPU's caches as far as
//! possible. A migration cannot have better conditions. Source and destination are one page apart within their 2
//! MiB: under QEMU, a copy between pages at the same offset was seen to take up to fifteen times as long, probably
//! because they share an entry of its TLB.
//!
//! A migration unmaps pages before it copies them. If that flushes a TLB, refilling it is a part of the copy. A
//! cold copy therefore begins with a flushed TLB.

use crate::{
    clock,
    layer::mm::{
        backing::Backing,
        tlb,
        user::UserPages, //
    },
    uapi::{
        self,
        CopyTime, //
    }, //
};
use kernel::{
    prelude::*,
    time::{
        Instant,
        Monotonic, //
    }, //
};

/// Makes the requested copy, and returns the nanoseconds that it took.
///
/// # Errors
///
/// `EINVAL` if there is no such copy; `EFAULT` if user memory cannot be faulted in; `ENOMEM` if there is no memory for
/// the buffers or for the flush.
pub(crate) fn time(arg: &CopyTime) -> Result<u64> {
    if arg.npages == 0 || arg.npages > u64::from(uapi::COPY_MOST) {
        return Err(EINVAL);
    }
    let nr = arg.npages as usize;
    let begin = match arg.kind & uapi::COPY_COLD {
        0 => warm,
        _ => cold,
    };
    let ns = match arg.kind & !uapi::COPY_COLD {
        uapi::COPY_PAGES if arg.ptr == 0 => pages(nr, begin)?,
        uapi::COPY_TO_USER => to_user(arg.ptr, nr, begin)?,
        uapi::COPY_FROM_USER => from_user(arg.ptr, nr, begin)?,
        _ => return Err(EINVAL),
    };
    // The clock may be coarse. 0 would look like a copy that was not measured.
    Ok(ns.max(1))
}

/// Prepares a copy and returns its start time.
type Begin = fn() -> Result<Instant<Monotonic>>;

fn warm() -> Result<Instant<Monotonic>> {
    Ok(clock::now())
}

fn cold() -> Result<Instant<Monotonic>> {
    tlb::empty()?;
    warm()
}

/// Calls `copy` with the first source page, the first destination page and the number of pages, one page apart.
fn apart(nr: usize, copy: impl Fn(usize, usize, usize) -> Result) -> Result {
    if nr == 1 {
        return copy(0, 0, 1);
    }
    copy(1, 0, nr - 1)?;
    copy(0, nr - 1, 1)
}

fn pages(nr: usize, begin: Begin) -> Result<u64> {
    let (from, to) = (Backing::new()?, Backing::new()?);
    let begin = begin()?;
    apart(nr, |first, at, nr| to.fill_from(at, &from, first, nr))?;
    Ok(clock::nanos_since(begin))
}

fn to_user(ptr: u64, nr: usize, begin: Begin) -> Result<u64> {
    let (from, to) = (Backing::new()?, UserPages::new(ptr, nr)?);
    to.fault_in_writeable(0, nr)?;
    let begin = begin()?;
    apart(nr, |first, at, nr| from.copy_to_user(first, nr, &to, at))?;
    Ok(clock::nanos_since(begin))
}

fn from_user(ptr: u64, nr: usize, begin: Begin) -> Result<u64> {
    let (from, to) = (UserPages::new(ptr, nr)?, Backing::new()?);
    from.fault_in_readable(0, nr)?;
    let begin = begin()?;
    apart(nr, |first, at, nr| to.copy_from_user(first, nr, &from, at))?;
    Ok(clock::nanos_since(begin))
}
