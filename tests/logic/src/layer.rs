// SPDX-License-Identifier: GPL-2.0

//! For `rust/lib.rs`.

pub mod mm;
pub mod queue;
