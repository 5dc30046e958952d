// SPDX-License-Identifier: GPL-2.0

//! `rust/kernel/task.rs`: a test decides when a signal is pending.

use crate::time::clock;
use core::cell::Cell;

std::thread_local! {
    static SIGNAL_AT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// The task of this thread.
pub struct Current;

impl Current {
    /// Whether there is a signal.
    pub fn signal_pending(&self) -> bool {
        clock() >= SIGNAL_AT.get()
    }
}

/// For tests: from this moment of the clock on, this thread has a signal, a fatal one.
pub fn set_signal_at(moment: u64) {
    SIGNAL_AT.set(moment);
}

/// The task that runs.
#[macro_export]
macro_rules! current {
    () => {
        $crate::task::Current
    };
}
