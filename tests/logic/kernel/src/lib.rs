// SPDX-License-Identifier: GPL-2.0

//! As much of the kernel crate as the module's pure logic uses, on top of the standard library; with
//! `--cfg loom`, what threads share is loom's.
//!
//! Names and signatures are the kernel's. Each file says what differs, and what a test can ask for that no
//! kernel offers: a clock that it sets, allocations that fail, signals.

pub mod alloc;
pub mod error;
pub mod ioctl;
pub mod mm;
pub mod rbtree;
pub mod sync;
pub mod task;
pub mod time;
pub mod transmute;
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
    pub use crate::pr_info;
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
    pub use core::pin::Pin;
    pub use kernel_macros::kunit_tests;
    pub use pinned_init::{
        pin_data,
        pin_init,
        pinned_drop,
        PinInit,
        PinnedDrop, //
    };
}

/// Prints, where somebody sees it only if the test fails.
#[macro_export]
macro_rules! pr_info {
    ($($arg:tt)*) => {
        print!($($arg)*)
    };
}
