// SPDX-License-Identifier: GPL-2.0

//! Migration: on request ([`migrate`]), by CPU faults ([`fault`]), by eviction ([`evict`]).
//!
//! Lock order: `mmap_lock`, then folio locks, which are only tried. Chunks of device memory are made before any
//! lock is taken. With a folio locked, only memory allocation may sleep for long.

mod attempt;
mod eviction;
mod fault;
mod fill;
mod logbook;
mod origin;
mod report;
mod request;
mod window;

pub(crate) use eviction::{
    close,
    release,
    shut_down, //
};
pub(crate) use report::Report;
pub(crate) use request::migrate;

#[cfg(CONFIG_KUNIT = "y")]
pub(crate) use {
    eviction::evict,
    fault::on_fault,
    origin::{
        copy_back,
        Origin, //
    }, //
};
