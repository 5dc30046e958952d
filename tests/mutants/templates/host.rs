// SPDX-License-Identifier: GPL-2.0

//! The switch of the woven mutants on the host: the environment says which is active.

use std::sync::OnceLock;

static ACTIVE: OnceLock<usize> = OnceLock::new();

/// Whether a mutant is the active one.
pub(crate) fn on(number: usize) -> bool {
    *ACTIVE.get_or_init(|| {
        let text = std::env::var("DMIRROR_MUTANT").unwrap_or_default();
        text.parse().unwrap_or(0)
    }) == number
}

/// What a guard that is released at once leaves.
#[allow(dead_code)]
pub(crate) fn short<T>(at_once: bool, guard: T) -> Option<T> {
    (!at_once).then_some(guard)
}
