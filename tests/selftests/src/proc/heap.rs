// SPDX-License-Identifier: GPL-2.0

//! The heap of a thread.

use std::hint::black_box;

/// Bytes to reserve: more than a thread allocates while a migration is stopped.
const RESERVED: usize = 64 << 10;

/// Grows the heap of this thread, so that the thread can allocate while another one is stopped in a migration.
///
/// Starting a thread and growing its heap take `mmap_lock` for writing, and the stopped migration holds it for reading.
/// Without this, the thread would wait for the migration, which waits for the thread.
pub fn reserve() {
    drop(black_box(vec![1u8; RESERVED]));
}
