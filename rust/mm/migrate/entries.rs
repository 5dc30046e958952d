// SPDX-License-Identifier: GPL-2.0

//! The arrays that the core works on.

use core::ops::{
    Deref,
    DerefMut, //
};
use kernel::prelude::*;

/// One entry per page, and as many again. In place for a single page: most CPU faults are of one, and
/// three allocations cost more than such a fault has to.
pub(in crate::layer::mm) enum Entries {
    Two([usize; 2]),
    Many(KVVec<usize>),
}

impl Entries {
    /// Zeroes, for `npages` pages. May sleep.
    pub(super) fn new(npages: usize) -> Result<Self> {
        Ok(match npages {
            0 | 1 => Entries::Two([0; 2]),
            _ => Entries::Many(KVVec::from_elem(0, npages * 2, GFP_KERNEL | __GFP_NOWARN)?),
        })
    }
}

impl Deref for Entries {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        match self {
            Entries::Two(entries) => entries,
            Entries::Many(entries) => entries,
        }
    }
}

impl DerefMut for Entries {
    fn deref_mut(&mut self) -> &mut [usize] {
        match self {
            Entries::Two(entries) => entries,
            Entries::Many(entries) => entries,
        }
    }
}

/// The entries of a migration that is going on, and the rest of the arrays, which the core may write
/// to (K9).
///
/// # Invariants
///
/// No array is shorter than `len`.
pub(in crate::layer::mm) struct Arrays<'a> {
    src: &'a mut [usize],
    dst: &'a mut [usize],
    before: &'a mut [usize],
    len: usize,
}

impl<'a> Arrays<'a> {
    /// The first `len` entries of arrays of one length are in use, if there are as many.
    pub(super) fn new(
        src: &'a mut [usize],
        dst: &'a mut [usize],
        before: &'a mut [usize],
        len: usize,
    ) -> Self {
        let len = len.min(src.len()).min(dst.len()).min(before.len());
        // INVARIANT: Just seen to.
        Arrays {
            src,
            dst,
            before,
            len,
        }
    }

    /// Entries in use.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// C: `migrate_vma.src`.
    pub(super) fn src(&self) -> &[usize] {
        &self.src[..self.len]
    }

    /// C: `migrate_vma.dst`.
    pub(super) fn dst(&self) -> &[usize] {
        &self.dst[..self.len]
    }

    /// C: `migrate_vma.dst`, to be given destinations.
    pub(super) fn dst_mut(&mut self) -> &mut [usize] {
        &mut self.dst[..self.len]
    }

    /// `src` as it was after setup, to tell afterwards what became of it.
    pub(super) fn before(&self) -> &[usize] {
        &self.before[..self.len]
    }

    /// Keeps `src` as it is now.
    pub(super) fn remember(&mut self) {
        match self.len {
            // Mostly, of a CPU fault, which has better things to do than to call memcpy().
            1 => self.before[0] = self.src[0],
            len => self.before[..len].copy_from_slice(&self.src[..len]),
        }
    }

    /// All of `src` and `dst`, for the core.
    pub(super) fn as_mut_ptrs(&mut self) -> (*mut usize, *mut usize) {
        (self.src.as_mut_ptr(), self.dst.as_mut_ptr())
    }
}
