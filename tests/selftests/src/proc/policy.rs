// SPDX-License-Identifier: GPL-2.0

//! Memory policies: from which node memory comes. There may be but one node; a policy is one all the same.

use std::ptr;

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    libc::{self, c_long, c_ulong},
};

use crate::{area::Area, skip::Skip};

const MPOL_DEFAULT: c_ulong = 0;
const MPOL_PREFERRED: c_ulong = 1;

/// The first node.
const NODES: c_ulong = 1;
/// The bits of that; the kernel takes one for itself.
const BITS: c_ulong = 8 * size_of::<c_ulong>() as c_ulong + 1;

/// No bits, and no flags, as wide as the kernel reads them.
const NOTHING: c_ulong = 0;

fn answer(done: c_long) -> Result<()> {
    match Errno::result(done) {
        Ok(_) => Ok(()),
        Err(Errno::ENOSYS) => Err(Skip("this kernel has no memory policies".into()).into()),
        Err(error) => Err(error.into()),
    }
}

/// What this thread allocates is preferably on the first node, for as long as this lives.
pub struct Preferred(());

impl Preferred {
    pub fn now() -> Result<Preferred> {
        // SAFETY: the mask has as many bits, less one.
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

/// The same of what is allocated for an area.
pub fn prefer(area: &Area) -> Result<()> {
    let (addr, size) = (area.addr(), area.size());
    // SAFETY: as above; nothing moves.
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
