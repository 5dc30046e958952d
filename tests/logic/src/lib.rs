// SPDX-License-Identifier: GPL-2.0

//! Compiles the module's pure logic for the host, from the module's own files, and tests it.
//!
//! The tree of modules is the module's. Files that call into the kernel are replaced by stubs with the
//! few items that the pure files use. Three kinds of tests run:
//!
//! - the KUnit suites of the files;
//! - `properties` and `inside`: random sequences of operations; a naive model predicts each result;
//! - `races`, with `--cfg loom`: all interleavings of a few threads.
//!
//! `rust/queue.rs` is not explored: its only shared state is the kernel's workqueue. `layer/queue.rs`
//! stands for it, with the guarantees that `include/linux/workqueue.h` gives.

// The driver uses more of its files than is tested here.
#![allow(dead_code, unused_imports)]

// By the name that the kernel's crate has.
extern crate pinned_init as pin_init;

#[path = "../../../src/clock.rs"]
pub mod clock;
#[path = "../../../src/coherent.rs"]
pub mod coherent;
#[path = "../../../src/inject.rs"]
pub mod inject;
pub mod layer;
#[path = "../../../src/ledger/mod.rs"]
pub mod ledger;
#[path = "../../../src/pause.rs"]
pub mod pause;
#[path = "../../../src/policy/mod.rs"]
pub mod policy;
#[path = "../../../src/range.rs"]
pub mod range;
#[path = "../../../src/migrate/report.rs"]
pub mod report;
#[path = "../../../src/spare/mod.rs"]
pub mod spare;
#[path = "../../../src/splitter.rs"]
pub mod splitter;
#[path = "../../../src/stats.rs"]
pub mod stats;
pub mod trace;
#[path = "../../../src/uapi.rs"]
pub mod uapi;

#[cfg(all(test, not(loom)))]
mod properties;
#[cfg(all(test, loom))]
mod races;
