// SPDX-License-Identifier: GPL-2.0

//! How long the kernel's own copy routines take: the limit that a benchmark holds a migration against.
//!
//! Buffers are made before the clock starts and were just cleared, so they are as near to the CPU as
//! they can be: no migration finds its pages nearer.

use crate::{
    layer::mm::backing::Backing,
    migrate,
    uapi::{
        copy,
        CopyTime, //
    }, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

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

fn buffer(nr: usize) -> Result<KVVec<u8>> {
    Ok(KVVec::from_elem(
        0,
        nr * PAGE_SIZE,
        GFP_KERNEL_ACCOUNT | __GFP_NOWARN,
    )?)
}

/// The function checks the address; `nr` is within bounds.
fn user_pages(ptr: u64, nr: usize) -> Result<UserSlice> {
    let ptr = usize::try_from(ptr).map_err(|_| EFAULT)?;
    Ok(UserSlice::new(UserPtr::from_addr(ptr), nr * PAGE_SIZE))
}

fn to_user(ptr: u64, nr: usize) -> Result<u64> {
    let mut to = user_pages(ptr, nr)?.writer();
    let from = buffer(nr)?;
    let begin = migrate::now();
    to.write_slice(&from)?;
    Ok(migrate::nanos_since(begin))
}

fn from_user(ptr: u64, nr: usize) -> Result<u64> {
    let mut from = user_pages(ptr, nr)?.reader();
    let mut to = buffer(nr)?;
    let begin = migrate::now();
    from.read_slice(&mut to)?;
    Ok(migrate::nanos_since(begin))
}
