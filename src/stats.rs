// SPDX-License-Identifier: GPL-2.0

//! The counters of a device since it was made. They count pages unless said otherwise.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// A counter that only grows.
pub(crate) struct Counter(Atomic<u64>);

impl Default for Counter {
    /// Makes a counter of 0.
    fn default() -> Self {
        Counter(Atomic::new(0))
    }
}

impl Counter {
    /// Adds a number.
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    /// Returns the value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters of a device.
#[derive(Default)]
pub(crate) struct Stats {
    /// Pages migrated to the device.
    pub(crate) to_device: Counter,
    /// Pages migrated back on request.
    pub(crate) to_system: Counter,
    /// Pages migrated back by CPU faults.
    pub(crate) faulted: Counter,
    /// Pages migrated back by eviction.
    pub(crate) evicted: Counter,
    /// Huge folios whose split was refused.
    pub(crate) split_refused: Counter,
    /// Attempts that were repeated because of a refusal.
    pub(crate) retries: Counter,
    /// Pages that eviction left on the device.
    pub(crate) stuck: Counter,
}
