// SPDX-License-Identifier: GPL-2.0

//! A safe layer over the kernel's interfaces for device memory.
//!
//! It knows nothing of the driver that uses it and could be a part of `rust/kernel/mm`. Raw bindings are used only
//! here.

mod bindings;
pub mod mm;
pub mod plain;
pub mod queue;
pub mod ratelimit;
