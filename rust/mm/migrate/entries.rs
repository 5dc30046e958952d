// SPDX-License-Identifier: GPL-2.0

//! The arrays that the core works on.

use super::setup::Keeps;
use crate::layer::mm::{
    bindings,
    mpfn::Mpfn, //
};
use core::ops::{
    Deref,
    DerefMut, //
};
use kernel::prelude::*;

/// One entry per page, and as many again. In place for a single page: most CPU faults are of one, and
/// three allocations cost more than such a fault has to.
pub(super) enum Entries {
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

/// The entries of a migration that is going on.
///
/// # Invariants
///
/// All slices are of one length.
pub(super) struct Arrays<'a> {
    src: &'a mut [usize],
    dst: &'a mut [usize],
    /// `src` as it was after setup, to tell afterwards what became of it; what must not get a destination
    /// does not migrate here.
    before: &'a mut [usize],
}

impl<'a> Arrays<'a> {
    /// The first `len` entries of each, or as many as there are: the core has set them up.
    pub(super) fn new(
        src: &'a mut [usize],
        dst: &'a mut [usize],
        before: &'a mut [usize],
        len: usize,
    ) -> Self {
        let len = len.min(src.len()).min(dst.len()).min(before.len());
        let (src, dst) = (&mut src[..len], &mut dst[..len]);
        let before = &mut before[..len];
        match (&mut *before, &*src) {
            // Mostly, of a CPU fault, which has better things to do than to call memcpy().
            ([before], [src]) => *before = *src,
            (before, src) => before.copy_from_slice(src),
        }
        // INVARIANT: Just cut.
        Arrays { src, dst, before }
    }

    /// Has entries that must stay in system memory not migrate, as far as `before` tells: these get no
    /// destination.
    pub(super) fn keep(&mut self, keeps: Keeps) {
        match keeps {
            Keeps::Nothing => {}
            Keeps::All => self.before.fill(0),
            Keeps::Sources | Keeps::SourcesAndHoles => {
                let (entries, len) = (self.before.as_mut_ptr(), self.before.len());
                let holes = keeps == Keeps::SourcesAndHoles;
                // SAFETY: There are as many entries, whose pages were locked and referenced at setup.
                unsafe { bindings::rust_dmirror_keep(entries, len, holes) };
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.src.len()
    }

    /// C: `migrate_vma.src`; what is none is empty.
    pub(super) fn src(&self, index: usize) -> Mpfn {
        entry(self.src, index)
    }

    /// C: `migrate_vma.dst`; what is none is empty.
    pub(super) fn dst(&self, index: usize) -> Mpfn {
        entry(self.dst, index)
    }

    /// C: `migrate_vma.src` as it was after setup; what is none is empty.
    pub(super) fn before(&self, index: usize) -> Mpfn {
        entry(self.before, index)
    }

    /// C: `migrate_vma.dst`, to be written.
    pub(super) fn dst_mut(&mut self, index: usize) -> Option<&mut usize> {
        self.dst.get_mut(index)
    }

    /// All of `src` and `dst`, for the core.
    pub(super) fn as_mut_ptrs(&mut self) -> (*mut usize, *mut usize) {
        (self.src.as_mut_ptr(), self.dst.as_mut_ptr())
    }
}

fn entry(entries: &[usize], index: usize) -> Mpfn {
    match entries.get(index) {
        Some(entry) => Mpfn::from_raw(*entry),
        None => Mpfn::EMPTY,
    }
}
