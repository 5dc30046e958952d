// SPDX-License-Identifier: GPL-2.0

//! From what C has, a page or a `struct dev_pagemap`, to a [`Pagemap`]: for its callbacks, and for
//! whoever finds device memory mapped somewhere.

use super::{
    Driver,
    Pagemap, //
};
use crate::layer::mm::{
    bindings,
    fault::Fault,
    migrate::Source, //
};
use core::{
    any::TypeId,
    mem::offset_of,
    ptr::NonNull, //
};
use kernel::types::Opaque;

impl<T: Driver> Pagemap<T> {
    /// What C keeps a pointer to. Its type, a reference that is `'static`, is the check that it stays: the
    /// compiler refuses a constant that it cannot keep. A test could not tell.
    pub(super) const OPS: &'static bindings::dev_pagemap_ops = &bindings::dev_pagemap_ops {
        folio_free: Some(Self::folio_free),
        migrate_to_ram: Some(Self::migrate_to_ram),
        memory_failure: None,
        folio_split: Some(Self::folio_split),
    };

    /// The pagemap that a device page belongs to and the number of the page in it, if the pagemap
    /// is one of this driver.
    ///
    /// # Safety
    ///
    /// The page `pfn` must belong to a folio with a reference that stays for `'a`.
    pub(in crate::layer::mm) unsafe fn of_pfn<'a>(pfn: usize) -> Option<(&'a Self, usize)> {
        // SAFETY: The page is in use by the requirements of this function.
        let raw = NonNull::new(unsafe { bindings::rust_dmirror_pfn_pgmap(pfn) })?.as_ptr();
        // SAFETY: The page is in use, so its pagemap stays; `ops` is set by whoever registered it.
        let ops = unsafe { (*raw).ops.as_ref() }?;
        let ours: unsafe extern "C" fn(*mut bindings::folio) = Self::folio_free;
        if !ops
            .folio_free
            .is_some_and(|free| core::ptr::fn_addr_eq(free, ours))
        {
            return None;
        }
        // Functions that compile alike may have one address, whatever their type: of another driver's
        // pagemap, nothing but what comes first may be looked at.
        // SAFETY: The operations are those of a `Pagemap` of some driver, of which `raw` is the field;
        // what comes first has one layout, whatever the driver.
        let driver = unsafe {
            *raw.byte_add(offset_of!(Self, driver) - offset_of!(Self, raw))
                .cast::<TypeId>()
        };
        if driver != TypeId::of::<T>() {
            return None;
        }
        // SAFETY: By the type invariants of `Pagemap`, it is a `Self`.
        let this = unsafe { Self::from_raw(raw) };
        Some((this, pfn.checked_sub(this.pfns().start)?))
    }

    /// The pagemap of a migration's source page and the number of the page in it, if the pagemap is
    /// one of this driver.
    pub fn of_source<'a>(source: &Source<'a>) -> Option<(&'a Self, usize)> {
        // SAFETY: A source is referenced and locked for its lifetime.
        unsafe { Self::of_pfn(source.pfn()) }
    }

    /// # Safety
    ///
    /// `raw` must be the field of a `Self` that lives for `'a`.
    unsafe fn from_raw<'a>(raw: *mut bindings::dev_pagemap) -> &'a Self {
        // SAFETY: By the requirements of this function; `Opaque` has the layout of what it holds.
        unsafe { &*kernel::container_of!(Opaque::cast_from(raw), Self, raw) }
    }

    /// # Safety
    ///
    /// Called by the core when the last reference on `folio`, which belongs to a pagemap with our
    /// operations, is gone.
    unsafe extern "C" fn folio_free(folio: *mut bindings::folio) {
        // SAFETY: The folio is of a pagemap of ours, which waits for it to be freed.
        let this = unsafe { Self::from_raw(bindings::rust_dmirror_folio_pgmap(folio)) };
        // SAFETY: The folio is still whole.
        let (pfn, order) = unsafe {
            (
                bindings::rust_dmirror_folio_pfn(folio),
                bindings::rust_dmirror_folio_order(folio),
            )
        };
        let first = pfn - this.pfns().start;
        this.give_back(first..first + (1 << order));
    }

    /// # Safety
    ///
    /// Called by the core on a fault at an entry for a folio of a pagemap with our operations.
    unsafe extern "C" fn migrate_to_ram(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The core holds what `Fault` asks for during this call.
        let fault = unsafe { Fault::from_raw(&*vmf) };
        // SAFETY: The folio is of a pagemap of ours, and the core holds a reference on it during this call.
        let this = unsafe { Self::from_raw(fault.pgmap()) };
        match T::migrate_to_ram(this, &fault) {
            Ok(()) => 0,
            Err(error) => error.as_raw(),
        }
    }

    /// # Safety
    ///
    /// Called by the core, with interrupts off, while it splits `head`: for each `tail`, and once
    /// with none at the end.
    unsafe extern "C" fn folio_split(head: *mut bindings::folio, tail: *mut bindings::folio) {
        // SAFETY: The folio is of a pagemap of ours, which stays while it is in use.
        let this = unsafe { Self::from_raw(bindings::rust_dmirror_folio_pgmap(head)) };
        // SAFETY: Pages of a range in use; the number follows from the address alone.
        let offset = unsafe { bindings::rust_dmirror_folio_pfn(head) } - this.pfns().start;
        if tail.is_null() {
            let split = this.state.lock().slots.split(offset);
            kernel::warn_on!(split.is_err());
            return;
        }
        // SAFETY: The core made `tail` out of `head`, and both are frozen.
        unsafe { bindings::rust_dmirror_folio_inherit(head, tail) };
    }
}
