// SPDX-License-Identifier: GPL-2.0

//! How long the kernel's own copy routines take: the limit that a benchmark holds a migration against.
//!
//! Buffers are made before the clock starts and were just cleared, so they are as near to the CPU as
//! they can be: no migration finds its pages nearer. Source and destination lie one page apart within
//! their 2 MiB: under QEMU, a copy between pages at the same place in theirs was seen to take up to
//! fifteen times as long, probably since they share an entry of its TLB.
//!
//! A migration has to unmap pages before it copies them, and where that empties a TLB, to fill it again is
//! a part of the copy: hence copies that begin with one that was emptied.

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

/// Copies what is asked for, and gives the nanoseconds that it took.
///
/// # Errors
///
/// `EINVAL` if there is no such copy, `EFAULT` if there is no such user memory, `ENOMEM` if there is
/// no memory to copy, or to begin cold.
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
    // A clock may be coarse; no answer says that it took no time.
    Ok(ns.max(1))
}

/// The moment at which a copy begins.
type Begin = fn() -> Result<Instant<Monotonic>>;

fn warm() -> Result<Instant<Monotonic>> {
    Ok(clock::now())
}

fn cold() -> Result<Instant<Monotonic>> {
    tlb::empty()?;
    warm()
}

/// Calls `copy` for pages of the source and of the destination, one page apart.
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
