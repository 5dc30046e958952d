// SPDX-License-Identifier: GPL-2.0

//! The module's pure logic, compiled for the host from the module's own files.
//!
//! The tree of modules is the one that those files expect. What stands beside them in the module and
//! touches the kernel is replaced by as little as they use of it. Three kinds of tests run here:
//!
//! - the files' own KUnit suites;
//! - `properties`: sequences of operations, whose results a naive model predicts;
//! - `races`, with `--cfg loom`: what threads can do to each other.
//!
//! Not here is `rust/queue.rs`: all of it that threads share is the kernel's workqueue, so that there
//! would be nothing of ours to explore. What a queue promises to those who use it is assumed in
//! `layer/queue.rs`.

#![cfg_attr(any(loom, not(test)), allow(dead_code))]

#[path = "../../../src/coherent.rs"]
pub mod coherent;
#[path = "../../../src/inject.rs"]
pub mod inject;
pub mod layer;
#[path = "../../../src/ledger.rs"]
pub mod ledger;
pub mod migrate;
#[path = "../../../src/pause.rs"]
pub mod pause;
#[path = "../../../src/range.rs"]
pub mod range;
#[path = "../../../src/stats.rs"]
pub mod stats;
pub mod trace;
#[path = "../../../src/uapi.rs"]
pub mod uapi;

#[cfg(all(test, not(loom)))]
mod properties;
#[cfg(all(test, loom))]
mod races;
