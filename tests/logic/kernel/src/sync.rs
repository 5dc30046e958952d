// SPDX-License-Identifier: GPL-2.0

//! `rust/kernel/sync.rs`: the standard library's, or loom's.

pub mod aref;
pub mod atomic;

use crate::{
    alloc::{
        allocate,
        in_place,
        AllocError,
        Flags, //
    },
    error::{
        Error,
        Result, //
    },
};
use core::ops::Deref;
#[cfg(loom)]
use loom::sync as threads;
use pinned_init::{
    Init,
    PinInit, //
};
#[cfg(not(loom))]
use std::sync as threads;

/// A lock. If a thread panics with the lock held, the next thread that takes it panics as well.
pub struct SpinLock<T>(threads::Mutex<T>);

/// The lock, held.
pub type Guard<'a, T> = threads::MutexGuard<'a, T>;

impl<T> SpinLock<T> {
    /// See [`crate::new_spinlock`].
    pub fn new(value: impl Init<T>, _name: &'static str) -> Self {
        match in_place(value) {
            Ok(value) => SpinLock(threads::Mutex::new(*value)),
            Err(_) => unreachable!("it cannot fail"),
        }
    }

    /// Waits for it.
    pub fn lock(&self) -> Guard<'_, T> {
        self.0.lock().expect("nobody has panicked with the lock")
    }
}

/// A lock around a value.
#[macro_export]
macro_rules! new_spinlock {
    ($value:expr, $name:literal) => {
        $crate::sync::SpinLock::new($value, $name)
    };
}

/// A lock whose holder may sleep; the same here.
pub type Mutex<T> = SpinLock<T>;

/// A lock around a value.
#[macro_export]
macro_rules! new_mutex {
    ($value:expr, $name:literal) => {
        $crate::sync::Mutex::new($value, $name)
    };
}

/// A shared value.
pub struct Arc<T: ?Sized>(std::sync::Arc<T>);

impl<T> Arc<T> {
    /// Of a value.
    pub fn new(value: T, flags: Flags) -> Result<Self, AllocError> {
        allocate(flags)?;
        Ok(Arc(std::sync::Arc::new(value)))
    }

    /// Of a value that is made where it stays.
    pub fn pin_init<E>(init: impl PinInit<T, E>, flags: Flags) -> Result<Self>
    where
        Error: From<E>,
    {
        allocate(flags)?;
        Ok(Arc(in_place(init)?.into()))
    }
}

impl<T: ?Sized> Clone for Arc<T> {
    fn clone(&self) -> Self {
        Arc(self.0.clone())
    }
}

impl<T: ?Sized> Deref for Arc<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
