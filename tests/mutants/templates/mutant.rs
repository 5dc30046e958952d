// SPDX-License-Identifier: GPL-2.0

//! The switch of the woven mutants. Both arrays belong to the module `dmirror_mutant`, which stays
//! loaded while this one comes and goes: what is reached while a module ends can be read afterwards.

use core::sync::atomic::{AtomicU32, AtomicU8, Ordering::Relaxed};

/// The size of `dmirror_mutant_reached`.
const MOST: usize = 8192;

extern "C" {
    static dmirror_mutant_active: AtomicU32;
    static dmirror_mutant_reached: [AtomicU8; MOST];
}

/// Whether a mutant is the active one. Notes that it was reached. In any context.
#[inline]
pub(crate) fn on(number: usize) -> bool {
    // SAFETY: Objects of the C module, which this one keeps loaded; they are only used as atomics.
    let (active, reached) = unsafe { (&dmirror_mutant_active, &dmirror_mutant_reached) };
    // A byte that every CPU wrote each time would slow all of them down.
    if reached[number].load(Relaxed) == 0 {
        reached[number].store(1, Relaxed);
    }
    active.load(Relaxed) as usize == number
}

/// What a guard that is released at once leaves.
pub(crate) fn short<T>(at_once: bool, guard: T) -> Option<T> {
    (!at_once).then_some(guard)
}
