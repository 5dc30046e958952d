// SPDX-License-Identifier: GPL-2.0

//! Memory policies: the node from which memory is allocated. They can be set on a machine with only one node, too.

use std::ptr;

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    libc::{self, c_long, c_ulong},
};

use crate::{area::Area, skip::Skip};

const MPOL_DEFAULT: c_ulong = 0;
const MPOL_PREFERRED: c_ulong = 1;

/// The mask of nodes: the first one only.
const NODES: c_ulong = 1;
/// The number of bits of the mask, plus one: the kernel reads one bit less than it is given.
const BITS: c_ulong = 8 * size_of::<c_ulong>() as c_ulong + 1;

/// No bits, or no flags, in the width in which the kernel reads them.
const NOTHING: c_ulong = 0;

fn answer(done: c_long) -> Result<()> {
    match Errno::result(done) {
        Ok(_) => Ok(()),
        Err(Errno::ENOSYS) => Err(Skip("this kernel has no memory policies".into()).into()),
        Err(error) => Err(error.into()),
    }
}

/// Makes allocations of this thread prefer the first node, until it is dropped.
pub struct Preferred(());

impl Preferred {
    pub fn now() -> Result<Preferred> {
        // SAFETY: the kernel only reads the mask, which has `BITS - 1` bits.
        let done = unsafe { libc::syscall(libc::SYS_set_mempolicy, MPOL_PREFERRED, &NODES, BITS) };
        answer(done).context("set_mempolicy")?;
        Ok(Preferred(()))
    }
}

impl Drop for Preferred {
    fn drop(&mut self) {
        let none = ptr::null::<c_ulong>();
        // SAFETY: there is no mask.
        let done = unsafe { libc::syscall(libc::SYS_set_mempolicy, MPOL_DEFAULT, none, NOTHING) };
        if done != 0 {
            eprintln!("set_mempolicy: {}", Errno::last());
        }
    }
}

/// Makes allocations for an area prefer the first node.
pub fn prefer(area: &Area) -> Result<()> {
    let (addr, size) = (area.addr(), area.size());
    // SAFETY: as above; no page moves.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            addr,
            size,
            MPOL_PREFERRED,
            &NODES,
            BITS,
            NOTHING,
        )
    };
    answer(done).context("mbind")
}
