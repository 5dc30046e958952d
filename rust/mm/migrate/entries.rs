// SPDX-License-Identifier: GPL-2.0

//! The `src` and `dst` arrays of a migration.

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

/// An array with two entries per page (see [`super::Batch`] for why two). It is stored in place for a single page:
/// most CPU faults bring back one page, and must not pay for three allocations.
pub(super) enum Entries {
    Two([usize; 2]),
    Many(KVVec<usize>),
}

impl Entries {
    /// Makes an array of zeroes for `npages` pages. May sleep.
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

/// The arrays of a migration in progress.
///
/// # Invariants
///
/// All slices have the same length.
pub(super) struct Arrays<'a> {
    src: &'a mut [usize],
    dst: &'a mut [usize],
    /// A copy of `src` after setup, from which the outcomes are determined. Entries that must not get a destination
    /// are marked as not migrating here.
    before: &'a mut [usize],
}

impl<'a> Arrays<'a> {
    /// Takes the first `len` entries of each array, or fewer if there are fewer. The core must have set them up.
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
            // The most frequent case, a CPU fault on a single page, is not to pay for a call of memcpy().
            ([before], [src]) => *before = *src,
            (before, src) => before.copy_from_slice(src),
        }
        // INVARIANT: All were just cut to `len`.
        Arrays { src, dst, before }
    }

    /// Marks the entries that must stay in system memory as not migrating in `before`, so that they get no
    /// destination.
    pub(super) fn keep(&mut self, keeps: Keeps) {
        match keeps {
            Keeps::Nothing => {}
            Keeps::All => self.before.fill(0),
            Keeps::Sources | Keeps::SourcesAndHoles => {
                let (entries, len) = (self.before.as_mut_ptr(), self.before.len());
                let holes = keeps == Keeps::SourcesAndHoles;
                // SAFETY: There are `len` entries, whose pages were locked and referenced at setup.
                unsafe { bindings::rust_dmirror_keep(entries, len, holes) };
            }
        }
    }

    /// Returns the number of entries.
    pub(super) fn len(&self) -> usize {
        self.src.len()
    }

    /// Returns an entry of `src`; an empty one beyond the last. C: `migrate_vma.src`.
    pub(super) fn src(&self, index: usize) -> Mpfn {
        entry(self.src, index)
    }

    /// Returns an entry of `dst`; an empty one beyond the last. C: `migrate_vma.dst`.
    pub(super) fn dst(&self, index: usize) -> Mpfn {
        entry(self.dst, index)
    }

    /// Returns an entry of `src` as it was after setup; an empty one beyond the last.
    pub(super) fn before(&self, index: usize) -> Mpfn {
        entry(self.before, index)
    }

    /// Returns an entry of `dst`, to be written. C: `migrate_vma.dst`.
    pub(super) fn dst_mut(&mut self, index: usize) -> Option<&mut usize> {
        self.dst.get_mut(index)
    }

    /// Returns pointers to `src` and `dst`, for the core.
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
