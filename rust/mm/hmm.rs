// SPDX-License-Identifier: GPL-2.0

//! The requests to `hmm_range_fault()` and its answers, per page.
//!
//! Pure: [`super::mirror`] calls it.
//!
//! C header: [`include/linux/hmm.h`](srctree/include/linux/hmm.h)

use super::bindings;
use kernel::prelude::*;

// bindgen omits constants that do not fit in an `i64`. mm.c checks these values.
const VALID: usize = bindings::HMM_PFN_WRITE << 1;
const FLAGS: usize = !((1 << bindings::HMM_PFN_ORDER_SHIFT) - 1);

/// Requests a fault. C: `HMM_PFN_REQ_FAULT`.
const REQ_FAULT: usize = VALID;

/// Requests a page that can be written. C: `HMM_PFN_REQ_WRITE`.
const REQ_WRITE: usize = bindings::HMM_PFN_REQ_WRITE;

/// What a caller wants of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// What is mapped, without a fault.
    Look,
    /// A page that can be read, by a fault if needed.
    Read,
    /// A page that can be written, by a fault if needed.
    Write,
}

impl Want {
    pub(super) fn request(self) -> usize {
        match self {
            Want::Look => 0,
            Want::Read => REQ_FAULT,
            Want::Write => REQ_FAULT | REQ_WRITE,
        }
    }

    /// Returns the mask of request flags that are read per page. Without any, the core need not read the entries.
    pub(super) fn mask(self) -> usize {
        match self {
            Want::Look => 0,
            Want::Read | Want::Write => REQ_FAULT | REQ_WRITE,
        }
    }
}

/// An entry of `hmm_range.hmm_pfns` after the call of `hmm_range_fault()`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Pfn(usize);

impl Pfn {
    /// Converts a word of C.
    pub const fn from_raw(raw: usize) -> Self {
        Pfn(raw)
    }

    /// Returns whether an access to the address fails. C: `HMM_PFN_ERROR`.
    pub const fn is_error(self) -> bool {
        self.0 & bindings::HMM_PFN_ERROR != 0
    }

    /// Returns the page frame number, if a readable page is mapped. C: `HMM_PFN_VALID`.
    pub const fn pfn(self) -> Option<usize> {
        if self.0 & VALID != 0 && !self.is_error() {
            Some(self.0 & !FLAGS)
        } else {
            None
        }
    }

    /// Returns whether the page may be written. C: `HMM_PFN_WRITE`.
    pub const fn writable(self) -> bool {
        self.0 & bindings::HMM_PFN_WRITE != 0
    }

    /// Returns the order of the mapping. C: `hmm_pfn_to_map_order()`.
    pub const fn map_order(self) -> u32 {
        ((self.0 >> bindings::HMM_PFN_ORDER_SHIFT) & 0x1f) as u32
    }
}

#[kunit_tests(rust_dmirror_hmm)]
mod tests {
    use super::*;

    const VALID: usize = 1 << 63;
    const WRITE: usize = 1 << 62;
    const ERROR: usize = 1 << 61;

    #[test]
    fn a_page_has_number_order_and_access() {
        let pfn = Pfn::from_raw(VALID | WRITE | (9 << 53) | 0x1234);
        assert_eq!(pfn.pfn(), Some(0x1234));
        assert_eq!(pfn.map_order(), 9);
        assert!(pfn.writable() && !pfn.is_error());
        assert!(!Pfn::from_raw(VALID | 1).writable());
    }

    #[test]
    fn nothing_and_error_are_no_page() {
        assert_eq!(Pfn::from_raw(0).pfn(), None);
        assert_eq!(Pfn::from_raw(0x1234).pfn(), None);
        assert_eq!(Pfn::from_raw(ERROR).pfn(), None);
        assert!(Pfn::from_raw(ERROR).is_error());
        assert_eq!(Pfn::from_raw(VALID | ERROR | 7).pfn(), None);
    }

    #[test]
    fn looking_requests_nothing() {
        assert_eq!(Want::Look.request(), 0);
        assert_eq!(Want::Read.request(), VALID);
        assert_eq!(Want::Write.request(), VALID | WRITE);
        assert_eq!(Want::Look.mask(), 0);
        for want in [Want::Read, Want::Write] {
            assert_eq!(want.request() & !want.mask(), 0);
        }
    }
}
