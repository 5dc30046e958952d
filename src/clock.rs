// SPDX-License-Identifier: GPL-2.0

//! The monotonic clock, in nanoseconds.

use kernel::time::{
    Instant,
    Monotonic, //
};

/// Returns the current time.
pub(crate) fn now() -> Instant<Monotonic> {
    Instant::now()
}

/// Returns the nanoseconds since `begin`; 0 if the clock went back.
pub(crate) fn nanos_since(begin: Instant<Monotonic>) -> u64 {
    begin.elapsed().as_nanos().max(0) as u64
}
