// SPDX-License-Identifier: GPL-2.0

//! `rust/kernel/sync/atomic.rs`: every type is stored in one 64-bit word.
//!
//! `Atomic::new()` is const, which loom's atomics are not. So the word is made at its first use. Under loom,
//! a test must use each atomic once before it starts a thread.

#[cfg(loom)]
use loom::sync::atomic::{
    AtomicU64,
    Ordering, //
};
#[cfg(not(loom))]
use std::sync::atomic::{
    AtomicU64,
    Ordering, //
};
use std::sync::OnceLock;

/// What fits.
pub trait Word: Copy {
    /// As a word.
    fn to_word(self) -> u64;
    /// From the word that was made of it.
    fn from_word(word: u64) -> Self;
}

impl Word for bool {
    fn to_word(self) -> u64 {
        self.into()
    }
    fn from_word(word: u64) -> bool {
        word != 0
    }
}

impl Word for usize {
    fn to_word(self) -> u64 {
        self as u64
    }
    fn from_word(word: u64) -> usize {
        word as usize
    }
}

impl Word for u64 {
    fn to_word(self) -> u64 {
        self
    }
    fn from_word(word: u64) -> u64 {
        word
    }
}

/// An order between memory accesses.
pub trait Order {
    /// As C11, and loom, calls it.
    const ORDER: Ordering;
}

/// None.
pub struct Relaxed;

impl Order for Relaxed {
    const ORDER: Ordering = Ordering::Relaxed;
}

/// A value with atomic access.
pub struct Atomic<T> {
    initial: T,
    word: OnceLock<AtomicU64>,
}

impl<T> Atomic<T> {
    /// With a value.
    pub const fn new(initial: T) -> Self {
        Atomic {
            initial,
            word: OnceLock::new(),
        }
    }
}

impl<T: Word> Atomic<T> {
    fn word(&self) -> &AtomicU64 {
        self.word
            .get_or_init(|| AtomicU64::new(self.initial.to_word()))
    }

    /// Reads it.
    pub fn load<O: Order>(&self, _: O) -> T {
        T::from_word(self.word().load(O::ORDER))
    }

    /// Writes it.
    pub fn store<O: Order>(&self, value: T, _: O) {
        self.word().store(value.to_word(), O::ORDER);
    }

    /// Writes it and gives what it was.
    pub fn xchg<O: Order>(&self, value: T, _: O) -> T {
        T::from_word(self.word().swap(value.to_word(), O::ORDER))
    }
}

impl Atomic<u64> {
    /// Adds to it and gives what it was.
    pub fn fetch_add<O: Order>(&self, by: u64, _: O) -> u64 {
        self.word().fetch_add(by, O::ORDER)
    }
}
