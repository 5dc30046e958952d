// SPDX-License-Identifier: GPL-2.0

//! `rust/kernel/mm.rs`: a test decides what is mapped in an address space.

use crate::sync::aref::ARef;
use core::ops::Deref;
use std::sync::Arc;

/// What is found in an address space.
pub trait Memory {
    /// Whether the process is there.
    fn is_alive(&self) -> bool;
    /// Whether somebody holds `mmap_lock` for writing.
    fn is_locked(&self) -> bool;
    /// Whether the page at an address can be collected, alone, which splits the folio that it is of. Nothing if
    /// nothing is mapped there.
    fn collect(&self, address: usize) -> Option<bool>;
}

/// An address space.
#[derive(Clone)]
pub struct Mm(Arc<dyn Memory + Send + Sync>);

impl Mm {
    /// For tests: one with that.
    pub fn new(memory: impl Memory + Send + Sync + 'static) -> Self {
        Mm(Arc::new(memory))
    }

    /// For tests: what it has.
    pub fn memory(&self) -> &dyn Memory {
        &*self.0
    }

    /// The same, unless the process is gone.
    pub fn mmget_not_zero(&self) -> Option<ARef<MmWithUser>> {
        let mm = MmWithUser(self.clone());
        self.0.is_alive().then(|| ARef::from(&mm))
    }
}

/// The address space of a process that is there.
#[derive(Clone)]
pub struct MmWithUser(Mm);

impl Deref for MmWithUser {
    type Target = Mm;
    fn deref(&self) -> &Mm {
        &self.0
    }
}
