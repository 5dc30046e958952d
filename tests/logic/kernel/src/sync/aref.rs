// SPDX-License-Identifier: GPL-2.0

//! `rust/kernel/sync/aref.rs`: a reference to what counts its references, as a copy of what does so here.

use core::ops::Deref;

/// A reference.
pub struct ARef<T>(T);

impl<T: Clone> From<&T> for ARef<T> {
    fn from(value: &T) -> Self {
        ARef(value.clone())
    }
}

impl<T> Deref for ARef<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
