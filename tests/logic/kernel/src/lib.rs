// SPDX-License-Identifier: GPL-2.0

//! The part of the kernel crate that the module's pure logic uses, on top of the standard library. With
//! `--cfg loom`, atomics and locks are loom's.
//!
//! Names and signatures are the kernel's. Tests can set the clock, fail allocations, and raise signals; the
//! files say how.

pub mod alloc;
pub mod error;
pub mod mm;
pub mod rbtree;
pub mod sync;
pub mod task;
pub mod time;
pub mod workqueue;

/// `rust/kernel/page.rs`, of x86-64.
pub mod page {
    /// Bits of an address within a page.
    pub const PAGE_SHIFT: usize = 12;
    /// Bytes of a page.
    pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
}

/// `rust/kernel/prelude.rs`.
pub mod prelude {
    pub use crate::{
        alloc::{
            flags::*,
            KBox,
            KVVec,
            KVec, //
        },
        error::{
            code::*,
            Error,
            Result, //
        },
    };
    pub use crate::{
        pr_info,
        pr_warn, //
    };
    pub use core::pin::Pin;
    pub use kernel_macros::kunit_tests;
    pub use pinned_init::{
        init,
        pin_data,
        pin_init,
        pinned_drop,
        PinInit,
        PinnedDrop, //
    };
    pub use zerocopy::{
        FromBytes,
        IntoBytes, //
    };
}

/// Prints to the output of the test.
#[macro_export]
macro_rules! pr_info {
    ($($arg:tt)*) => {
        print!($($arg)*)
    };
}

/// Prints to the output of the test.
#[macro_export]
macro_rules! pr_warn {
    ($($arg:tt)*) => {
        print!($($arg)*)
    };
}
