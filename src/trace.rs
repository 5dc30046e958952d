// SPDX-License-Identifier: GPL-2.0

//! The tracepoint `rust_dmirror:rust_dmirror_folio`, and the static key of the ledger: what costs a
//! patched-out jump while nobody looks.
//!
//! C side: `src/trace/events.h`, `src/trace/events.c`. Hence the `unsafe` here: these symbols are the
//! module's own, and no business of the layer's. The driver proper has no more of it than this, the
//! initialisation of a global lock (`nodes.rs`, `rust_dmirror_main.rs`), and a promise about module parameters
//! (`rust_dmirror_main.rs`).

use kernel::{
    bindings::{
        static_key_false,
        tracepoint, //
    },
    ffi::c_ulong, //
};

/// `struct rust_dmirror_record`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Record {
    /// The page frame number of the folio.
    pub(crate) pfn: c_ulong,
    /// The stage.
    pub(crate) stage: u32,
    /// The direction.
    pub(crate) direction: u32,
    /// The number of the device.
    pub(crate) device: u32,
    /// The order of the folio.
    pub(crate) order: u32,
    /// Its reference count.
    pub(crate) refs: i32,
    /// Its map count.
    pub(crate) mapcount: i32,
    /// The references that the kernel expects.
    pub(crate) expected: i32,
    /// The references that are held beyond those.
    pub(crate) held: i32,
}

#[repr(C)]
struct Key {
    key: static_key_false,
}

// The types are the kernel crate's, some of which are empty in some configurations.
#[allow(improper_ctypes)]
extern "C" {
    static rust_dmirror_ledger_key: Key;
    static __tracepoint_rust_dmirror_folio: tracepoint;
    fn rust_dmirror_ledger_enable(on: bool);
    fn rust_do_trace_rust_dmirror_folio(record: *const Record);
}

/// Whether there is anything to be seen at all. Not in a module that was built to be compared with, to
/// show what the branches below cost while nobody looks (`make bench`).
const IS_OBSERVABLE: bool = cfg!(not(dmirror_unobserved));

/// Switches the ledger's branch on or off. Sleeps. Calls count: as many of each.
pub(crate) fn enable_ledger(on: bool) {
    // SAFETY: The function has no requirements.
    unsafe { rust_dmirror_ledger_enable(on) };
}

/// Whether some ledger is switched on.
#[inline(always)]
pub(crate) fn is_ledger_enabled() -> bool {
    if !IS_OBSERVABLE {
        return false;
    }
    // SAFETY: The key is a static key that C defines.
    unsafe { kernel::jump_label::static_branch_unlikely!(rust_dmirror_ledger_key, Key, key) }
}

/// Whether somebody listens to the tracepoint.
#[inline(always)]
pub(crate) fn is_folio_traced() -> bool {
    if !IS_OBSERVABLE {
        return false;
    }
    // SAFETY: A tracepoint's key is a static key that C defines.
    unsafe {
        kernel::jump_label::static_branch_unlikely!(
            __tracepoint_rust_dmirror_folio,
            tracepoint,
            key
        )
    }
}

/// Emits the event, if somebody listens.
pub(crate) fn trace_folio(record: &Record) {
    if is_folio_traced() {
        // SAFETY: The record is valid during the call, which copies it.
        unsafe { rust_do_trace_rust_dmirror_folio(record) };
    }
}
