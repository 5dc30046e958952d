// SPDX-License-Identifier: GPL-2.0

//! `rust/kernel/time.rs`, with a simulated clock: only sleeping and [`advance`] move it. Each thread has its
//! own clock, so that no test depends on another one, or on the speed of the machine.

use core::{
    cell::Cell,
    marker::PhantomData, //
};

#[cfg(loom)]
loom::thread_local! {
    static NOW: Cell<u64> = Cell::new(0);
}

#[cfg(not(loom))]
std::thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// For tests: the nanoseconds of this thread's clock.
pub fn clock() -> u64 {
    NOW.with(Cell::get)
}

/// For tests: moves this thread's clock on.
pub fn advance(by: Delta) {
    NOW.with(|now| now.set(now.get() + by.0 as u64));
}

/// The only clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Monotonic;

/// A moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instant<C>(u64, PhantomData<C>);

impl<C> Instant<C> {
    /// This one.
    pub fn now() -> Self {
        Instant(clock(), PhantomData)
    }

    /// The time since.
    pub fn elapsed(&self) -> Delta {
        Delta(clock() as i64 - self.0 as i64)
    }
}

/// A span of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delta(i64);

impl Delta {
    /// From milliseconds.
    pub const fn from_millis(milliseconds: i64) -> Self {
        Delta(milliseconds * 1_000_000)
    }

    /// From nanoseconds.
    pub const fn from_nanos(nanoseconds: i64) -> Self {
        Delta(nanoseconds)
    }

    /// In nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// In whole milliseconds.
    pub const fn as_millis(self) -> i64 {
        self.0 / 1_000_000
    }
}

/// `rust/kernel/time/delay.rs`.
pub mod delay {
    /// Advances the clock. Under loom, other threads run first.
    pub fn fsleep(delta: super::Delta) {
        super::advance(delta);
        #[cfg(loom)]
        loom::thread::yield_now();
    }
}
