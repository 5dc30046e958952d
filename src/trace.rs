// SPDX-License-Identifier: GPL-2.0

//! The tracepoint `rust_dmirror:rust_dmirror_folio`, and the static key of the ledger. While both are off, each costs a
//! jump that is patched out.
//!
//! C side: `src/trace/events.h`, `src/trace/events.c`. These symbols belong to the module and not to the layer, so this
//! file has `unsafe` code. The rest of `src/` has it only to initialise a global lock (`nodes.rs`,
//! `rust_dmirror_main.rs`), and to promise that a module parameter was set by the user (`rust_dmirror_main.rs`).

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
    /// The id of the device.
    pub(crate) device: u32,
    /// The order of the folio.
    pub(crate) order: u32,
    /// Its reference count.
    pub(crate) refs: i32,
    /// Its mapcount.
    pub(crate) mapcount: i32,
    /// The references that the kernel expects.
    pub(crate) expected: i32,
    /// The references that are held in addition to those.
    pub(crate) held: i32,
}

#[repr(C)]
struct Key {
    key: static_key_false,
}

// The types are the kernel crate's. Some are empty in some configurations.
#[allow(improper_ctypes)]
extern "C" {
    static rust_dmirror_ledger_key: Key;
    static __tracepoint_rust_dmirror_folio: tracepoint;
    fn rust_dmirror_ledger_enable(on: bool);
    fn rust_do_trace_rust_dmirror_folio(record: *const Record);
}

/// Whether ledger and tracepoint exist. False in a module that `make bench` builds to measure what the branches below
/// cost while they are off.
const IS_OBSERVABLE: bool = cfg!(not(dmirror_unobserved));

/// Switches the ledger's static key on or off. Sleeps. Calls are counted: each call with false undoes one with true.
pub(crate) fn enable_ledger(on: bool) {
    // SAFETY: The function has no requirements.
    unsafe { rust_dmirror_ledger_enable(on) };
}

/// Returns whether any ledger is switched on.
#[inline(always)]
pub(crate) fn is_ledger_enabled() -> bool {
    if !IS_OBSERVABLE {
        return false;
    }
    // SAFETY: The key is a static key that C defines.
    unsafe { kernel::jump_label::static_branch_unlikely!(rust_dmirror_ledger_key, Key, key) }
}

/// Returns whether the tracepoint is enabled.
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

/// Emits the event, if the tracepoint is enabled.
pub(crate) fn trace_folio(record: &Record) {
    if is_folio_traced() {
        // SAFETY: The record is valid during the call, which copies it.
        unsafe { rust_do_trace_rust_dmirror_folio(record) };
    }
}
