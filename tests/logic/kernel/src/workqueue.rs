// SPDX-License-Identifier: GPL-2.0

//! `rust/kernel/workqueue.rs`: what makes a value a work item; the queue is in `layer/queue.rs`.

use crate::sync::SpinLock;
use core::marker::PhantomData;

/// What a work item is known by.
pub struct Work<T> {
    is_pending: SpinLock<bool>,
    of: PhantomData<fn(T)>,
}

impl<T> Work<T> {
    /// See [`crate::new_work`].
    pub fn new(name: &'static str) -> Self {
        Work {
            is_pending: SpinLock::new(false, name),
            of: PhantomData,
        }
    }

    /// Whether it is queued and does not run yet, from now on; gives what it was.
    pub fn set_pending(&self, is_pending: bool) -> bool {
        core::mem::replace(&mut self.is_pending.lock(), is_pending)
    }
}

/// How it is run.
pub trait WorkItem {
    /// What is queued.
    type Pointer;
    /// Runs it.
    fn run(this: Self::Pointer);
}

/// Where it is known by that.
pub trait HasWork {
    /// There.
    fn work(&self) -> &Work<Self>
    where
        Self: Sized;
}

/// Makes a type one that has work.
#[macro_export]
macro_rules! impl_has_work {
    (impl HasWork<Self> for $type:ty { self.$field:ident }) => {
        impl $crate::workqueue::HasWork for $type {
            fn work(&self) -> &$crate::workqueue::Work<Self> {
                &self.$field
            }
        }
    };
}

/// A work item that is not queued.
#[macro_export]
macro_rules! new_work {
    ($name:literal) => {
        $crate::workqueue::Work::new($name)
    };
}
