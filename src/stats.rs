// SPDX-License-Identifier: GPL-2.0

//! What a device has done since it was made, in pages unless said otherwise.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// A counter that only grows.
pub(crate) struct Counter(Atomic<u64>);

impl Default for Counter {
    /// Zero.
    fn default() -> Self {
        Counter(Atomic::new(0))
    }
}

impl Counter {
    /// Adds to it.
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    /// Reads it.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters of a device.
#[derive(Default)]
pub(crate) struct Stats {
    /// Migrated to the device.
    pub(crate) to_device: Counter,
    /// Migrated back on request.
    pub(crate) to_system: Counter,
    /// Migrated back by CPU faults.
    pub(crate) faulted: Counter,
    /// Migrated back by eviction.
    pub(crate) evicted: Counter,
    /// Huge folios whose split was refused.
    pub(crate) split_refused: Counter,
    /// Attempts repeated because of a refusal.
    pub(crate) retries: Counter,
    /// Pages that eviction had to leave.
    pub(crate) stuck: Counter,
}
