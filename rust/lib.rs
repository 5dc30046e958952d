// SPDX-License-Identifier: GPL-2.0

//! A safe layer over the kernel's interfaces for device memory.
//!
//! Everything here could live in `rust/kernel/mm`: it knows nothing of the driver that uses it, and
//! it is the only place that sees raw bindings.

mod bindings;
pub mod mm;
pub mod plain;
pub mod queue;
pub mod ratelimit;
