// SPDX-License-Identifier: GPL-2.0

//! `rust/kernel/transmute.rs`: the traits without their methods.

/// # Safety
///
/// All bytes must be a value.
pub unsafe trait FromBytes {}

/// # Safety
///
/// All of its bytes must be initialised.
pub unsafe trait AsBytes {}
