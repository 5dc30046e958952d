// SPDX-License-Identifier: GPL-2.0

//! The entries of the `src` and `dst` arrays of a migration: a page frame number and flags in one word.
//!
//! Pure: nothing here accesses a page.
//!
//! C header: [`include/linux/migrate.h`](srctree/include/linux/migrate.h)

use super::bindings;
use kernel::prelude::*;

/// An entry of `migrate_vma.src` or `migrate_vma.dst`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Mpfn(usize);

const VALID: usize = bindings::MIGRATE_PFN_VALID;
const MIGRATE: usize = bindings::MIGRATE_PFN_MIGRATE;
const WRITE: usize = bindings::MIGRATE_PFN_WRITE;
const COMPOUND: usize = bindings::MIGRATE_PFN_COMPOUND;
const SHIFT: usize = bindings::MIGRATE_PFN_SHIFT;

impl Mpfn {
    /// An empty entry: no page, nothing to migrate.
    pub const EMPTY: Mpfn = Mpfn(0);

    /// Makes the entry of a destination. C: `migrate_pfn()`.
    ///
    /// If `pfn` is too large, its upper bits are lost, as in C; no page has such a number. There is no write flag: the
    /// core does not read it in destinations.
    pub const fn destination(pfn: usize, compound: bool) -> Self {
        let mut raw = (pfn << SHIFT) | VALID;
        if compound {
            raw |= COMPOUND;
        }
        Mpfn(raw)
    }

    /// Converts a word of C.
    pub const fn from_raw(raw: usize) -> Self {
        Mpfn(raw)
    }

    /// Returns the word for C.
    pub const fn as_raw(self) -> usize {
        self.0
    }

    /// Returns the page frame number, if there is a page. C: `MIGRATE_PFN_VALID`.
    pub const fn pfn(self) -> Option<usize> {
        if self.0 & VALID != 0 {
            Some(self.0 >> SHIFT)
        } else {
            None
        }
    }

    /// Returns whether the entry is to be migrated, or has been migrated. C: `MIGRATE_PFN_MIGRATE`.
    pub const fn migrates(self) -> bool {
        self.0 & MIGRATE != 0
    }

    /// Returns whether the page was mapped writable. Anonymous memory then is mapped by one process only. C:
    /// `MIGRATE_PFN_WRITE`.
    pub const fn writable(self) -> bool {
        self.0 & WRITE != 0
    }

    /// Returns whether it is a huge hole that may be filled.
    pub const fn is_huge_hole(self) -> bool {
        self.0 & (VALID | MIGRATE | COMPOUND) == MIGRATE | COMPOUND
    }

    /// Returns whether it is the entry of a whole huge folio. C: `MIGRATE_PFN_COMPOUND`.
    pub const fn compound(self) -> bool {
        self.0 & COMPOUND != 0
    }
}

#[kunit_tests(rust_dmirror_mpfn)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(Mpfn::EMPTY.pfn(), None);
        assert!(!Mpfn::EMPTY.migrates());
        assert!(!Mpfn::EMPTY.writable());
        assert!(!Mpfn::EMPTY.compound());
    }

    #[test]
    fn destination_keeps_pfn_and_flags() {
        for pfn in [0, 1, 0x12345, (1 << 40) - 1] {
            for compound in [false, true] {
                let entry = Mpfn::destination(pfn, compound);
                assert_eq!(entry.pfn(), Some(pfn));
                assert_eq!(entry.compound(), compound);
                assert!(!entry.migrates() && !entry.writable());
            }
        }
    }

    /// The values are the kernel's interface to drivers, on which C drivers rely too.
    #[test]
    fn words_are_those_of_c() {
        assert_eq!(Mpfn::destination(1, false).as_raw(), 0x41);
        assert_eq!(Mpfn::destination(1, true).as_raw(), 0x51);
        let source = Mpfn::from_raw((7 << 6) | 0x13);
        assert_eq!(source.pfn(), Some(7));
        assert!(source.migrates() && source.compound() && !source.writable());
    }

    /// A hole is to be migrated but has no page.
    #[test]
    fn hole_has_no_page() {
        let hole = Mpfn::from_raw(0x2);
        assert_eq!(hole.pfn(), None);
        assert!(hole.migrates() && !hole.is_huge_hole());
        assert!(Mpfn::from_raw(0x12).is_huge_hole());
        assert!(!Mpfn::from_raw(0x10).is_huge_hole());
        assert!(!Mpfn::from_raw((7 << 6) | 0x13).is_huge_hole());
    }
}
