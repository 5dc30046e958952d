// SPDX-License-Identifier: GPL-2.0

//! Compile-time checks that a type does not implement a trait.

/// Fails to compile if a type implements a trait: `assert_not_impl!(Guard: Send)`.
///
/// If the type implements the trait, two implementations of `Either` match the path below, which the compiler rejects
/// as ambiguous. For any other type, one matches.
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
