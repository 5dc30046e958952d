// SPDX-License-Identifier: GPL-2.0

//! For `src/migrate/mod.rs`.

#[path = "../../../src/migrate/around.rs"]
pub mod around;
#[path = "../../../src/migrate/behind.rs"]
pub mod behind;
#[path = "../../../src/migrate/fates.rs"]
pub mod fates;
#[path = "../../../src/migrate/patience.rs"]
pub mod patience;
#[path = "../../../src/migrate/policy.rs"]
pub mod policy;
#[path = "../../../src/migrate/splitter.rs"]
pub mod splitter;

use kernel::time::{
    Instant,
    Monotonic, //
};

/// Where pages go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Direction {
    ToDevice,
    ToSystem,
    Fault,
    Evict,
}

impl Direction {
    /// Its name in debugfs.
    pub fn name(self) -> &'static str {
        match self {
            Direction::ToDevice => "to-device",
            Direction::ToSystem => "to-system",
            Direction::Fault => "fault",
            Direction::Evict => "evict",
        }
    }
}

/// A moment.
pub fn now() -> Instant<Monotonic> {
    Instant::now()
}

/// Nanoseconds since.
pub fn nanos_since(begin: Instant<Monotonic>) -> u64 {
    begin.elapsed().as_nanos().max(0) as u64
}
