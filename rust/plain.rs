// SPDX-License-Identifier: GPL-2.0

//! Values that are copied to and from user space as they are in memory.
//!
//! [`kernel::uaccess`] asks for the traits of [`kernel::transmute`], which a type can only promise by `unsafe impl`.
//! What they demand follows from `zerocopy`'s traits, which can be derived, so that the compiler has looked at
//! each member.

use kernel::{
    prelude::*,
    transmute, //
};
use zerocopy::Immutable;

/// A value that [`kernel::uaccess`] copies as a whole.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Plain<T>(pub T);

// SAFETY: Any bytes are a value of a `FromBytes`, and an `Immutable` has no interior mutability. `Plain` is
// transparent.
unsafe impl<T: FromBytes + Immutable> transmute::FromBytes for Plain<T> {}

// SAFETY: All bytes of an `IntoBytes` are initialised, as it has no padding; the rest as above.
unsafe impl<T: IntoBytes + Immutable> transmute::AsBytes for Plain<T> {}
