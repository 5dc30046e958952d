// SPDX-License-Identifier: GPL-2.0

//! What a type must not be, checked when the layer is compiled.

/// Fails to compile if a type implements a trait: `assert_not_impl!(Guard: Send)`.
///
/// There are two ways to read the path below for a type that implements the trait, and the compiler refuses
/// to choose; for any other type there is one.
macro_rules! assert_not_impl {
    ($type:ty: $bound:path) => {
        const _: () = {
            trait Either<Way> {
                fn found() {}
            }
            struct IsImplemented;
            impl<T: ?Sized> Either<()> for T {}
            impl<T: ?Sized + $bound> Either<IsImplemented> for T {}
            let _ = <$type as Either<_>>::found;
        };
    };
}

pub(in crate::layer) use assert_not_impl;
