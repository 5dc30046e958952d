// SPDX-License-Identifier: GPL-2.0

//! Accesses by the device: reads and writes through its page table, which fault as those of a CPU do.

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
