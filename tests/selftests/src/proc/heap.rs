// SPDX-License-Identifier: GPL-2.0

//! The heap of a thread.

use std::hint::black_box;

/// More than a thread allocates while a migration is stopped.
const RESERVED: usize = 64 << 10;

/// Lets this thread allocate while another one stands still in a migration. To start a thread, or to make its heap
/// larger, takes `mmap_lock` for writing, which the migration holds for reading: the thread would wait for the one
/// that waits for it.
pub fn reserve() {
    drop(black_box(vec![1u8; RESERVED]));
}
