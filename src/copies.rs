// SPDX-License-Identifier: GPL-2.0

//! How long the kernel's own copy routines take: the limit that a benchmark holds a migration against.
//!
//! Buffers are made before the clock starts and were just cleared, so they are as near to the CPU as
//! they can be: no migration finds its pages nearer.

use crate::{
    layer::mm::{
        backing::Backing,
        user::UserPages, //
    },
    migrate,
    uapi::{
        copy,
        CopyTime, //
    }, //
};
use kernel::prelude::*;

/// Copies what is asked for, and gives the nanoseconds that it took.
///
/// # Errors
///
/// `EINVAL` if there is no such copy, `EFAULT` if there is no such user memory, `ENOMEM` if there is
/// no memory to copy.
pub fn time(arg: &CopyTime) -> Result<u64> {
    if arg.npages == 0 || arg.npages > copy::MOST {
        return Err(EINVAL);
    }
    let nr = arg.npages as usize;
    let ns = match arg.kind {
        copy::PAGES if arg.ptr == 0 => pages(nr)?,
        copy::TO_USER => to_user(arg.ptr, nr)?,
        copy::FROM_USER => from_user(arg.ptr, nr)?,
        _ => return Err(EINVAL),
    };
    // A clock may be coarse; no answer says that it took no time.
    Ok(ns.max(1))
}

fn pages(nr: usize) -> Result<u64> {
    let (from, to) = (Backing::new()?, Backing::new()?);
    let begin = migrate::now();
    to.fill_from(0, &from, 0, nr)?;
    Ok(migrate::nanos_since(begin))
}

fn to_user(ptr: u64, nr: usize) -> Result<u64> {
    let (from, to) = (Backing::new()?, UserPages::new(ptr, nr)?);
    to.fault_in_writeable(0, nr)?;
    let begin = migrate::now();
    from.copy_to_user(0, nr, &to, 0)?;
    Ok(migrate::nanos_since(begin))
}

fn from_user(ptr: u64, nr: usize) -> Result<u64> {
    let (from, to) = (UserPages::new(ptr, nr)?, Backing::new()?);
    from.fault_in_readable(0, nr)?;
    let begin = migrate::now();
    to.copy_from_user(0, nr, &from, 0)?;
    Ok(migrate::nanos_since(begin))
}
