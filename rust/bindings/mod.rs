// SPDX-License-Identifier: GPL-2.0

//! Raw bindings that `kernel::bindings` lacks, made by this module's own bindgen step.
//!
//! C types that the kernel crate binds are used from there, so that a `struct folio` is one type
//! throughout. Private to this layer.

#![allow(
    clippy::all,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused_imports
)]

pub(super) use kernel::bindings::*;
use kernel::ffi;

include!(env!("RUST_DMIRROR_BINDINGS"));
