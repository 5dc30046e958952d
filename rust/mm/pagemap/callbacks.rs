// SPDX-License-Identifier: GPL-2.0

//! The callbacks of a [`Pagemap`], and the conversion of a page or a `struct dev_pagemap` to its [`Pagemap`].

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
    /// The operations of a pagemap. C keeps a pointer to them, so they must be `'static`; the type has the compiler
    /// check that, which no test could.
    pub(super) const OPS: &'static bindings::dev_pagemap_ops = &bindings::dev_pagemap_ops {
        folio_free: Some(Self::folio_free),
        migrate_to_ram: Some(Self::migrate_to_ram),
        memory_failure: None,
        folio_split: Some(Self::folio_split),
    };

    /// Returns the pagemap of a device page and the index of the page in it, if the pagemap is one of this driver.
    ///
    /// # Safety
    ///
    /// The page `pfn` must belong to a folio on which a reference is held for `'a`.
    pub(in crate::layer::mm) unsafe fn of_pfn<'a>(pfn: usize) -> Option<(&'a Self, usize)> {
        // SAFETY: The page is in use by the requirements of this function.
        let raw = NonNull::new(unsafe { bindings::rust_dmirror_pfn_pgmap(pfn) })?.as_ptr();
        // SAFETY: The page is in use, so its pagemap stays. `ops` was set when it was registered, or is null.
        let ops = unsafe { (*raw).ops.as_ref() }?;
        let ours: unsafe extern "C" fn(*mut bindings::folio) = Self::folio_free;
        if !ops
            .folio_free
            .is_some_and(|free| core::ptr::fn_addr_eq(free, ours))
        {
            return None;
        }
        // Identical functions may be merged to one address, even if their types differ. The pagemap may therefore
        // be one of another driver, and only its first two fields may be read.
        // SAFETY: The operations are those of a `Pagemap` of some driver, of which `raw` is the field. The first
        // two fields have the same layout for all drivers.
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

    /// Returns the pagemap of a migration's source and the index of its first page in it, if the pagemap is one of this
    /// driver.
    pub fn of_source<'a>(source: &Source<'a>) -> Option<(&'a Self, usize)> {
        // SAFETY: A source is referenced and locked for its lifetime.
        unsafe { Self::of_pfn(source.pfn()) }
    }

    /// # Safety
    ///
    /// `raw` must be the field `raw` of a `Self` that lives for `'a`.
    unsafe fn from_raw<'a>(raw: *mut bindings::dev_pagemap) -> &'a Self {
        // SAFETY: By the requirements of this function. `Opaque` has the layout of its content.
        unsafe { &*kernel::container_of!(Opaque::cast_from(raw), Self, raw) }
    }

    /// # Safety
    ///
    /// Called by the core after the last reference on `folio`, which belongs to a pagemap with our operations, was put.
    unsafe extern "C" fn folio_free(folio: *mut bindings::folio) {
        // SAFETY: The folio belongs to a pagemap of ours, whose drop waits until the folio is freed.
        let this = unsafe { Self::from_raw(bindings::rust_dmirror_folio_pgmap(folio)) };
        // SAFETY: The core has not taken the folio apart yet.
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
    /// Called by the core on a CPU fault at a device-private entry for a folio of a pagemap with our operations.
    unsafe extern "C" fn migrate_to_ram(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: During this call the core holds the locks and the reference that `Fault` requires.
        let fault = unsafe { Fault::from_raw(&*vmf) };
        // SAFETY: The folio belongs to a pagemap of ours, and the core holds a reference on it during this call.
        let this = unsafe { Self::from_raw(fault.pgmap()) };
        match T::migrate_to_ram(this, &fault) {
            Ok(()) => 0,
            Err(error) => error.as_raw(),
        }
    }

    /// # Safety
    ///
    /// Called by the core, with interrupts off, while it splits `head`: once for each `tail`, and once with a null
    /// `tail` at the end.
    unsafe extern "C" fn folio_split(head: *mut bindings::folio, tail: *mut bindings::folio) {
        // SAFETY: The folio belongs to a pagemap of ours, which stays while the folio is in use.
        let this = unsafe { Self::from_raw(bindings::rust_dmirror_folio_pgmap(head)) };
        // SAFETY: The page is in a registered range; its number follows from the address alone.
        let offset = unsafe { bindings::rust_dmirror_folio_pfn(head) } - this.pfns().start;
        if tail.is_null() {
            let split = this.state.lock().slots.split(offset);
            kernel::warn_on!(split.is_err());
            return;
        }
        // SAFETY: The core has split `tail` from `head`, and both are frozen.
        unsafe { bindings::rust_dmirror_folio_inherit(head, tail) };
    }
}
