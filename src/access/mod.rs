// SPDX-License-Identifier: GPL-2.0

//! The device's own accesses: it reads and writes through its page table, and faults like a CPU.

mod exclusive;
mod look;
mod step;
mod transfer;

pub(crate) use exclusive::{
    check_exclusive,
    exclusive, //
};
pub(crate) use look::{
    page,
    snapshot, //
};
pub(crate) use transfer::{
    read,
    read_back,
    write,
    MmapLock, //
};
