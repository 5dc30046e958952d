// SPDX-License-Identifier: GPL-2.0

//! `rust/kernel/transmute.rs`, as marks: nothing is read as bytes here.

/// # Safety
///
/// All bytes must be a value.
pub unsafe trait FromBytes {}

/// # Safety
///
/// All of its bytes must be initialised.
pub unsafe trait AsBytes {}
