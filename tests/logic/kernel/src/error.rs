// SPDX-License-Identifier: GPL-2.0

//! `rust/kernel/error.rs`: an errno.

use crate::alloc::AllocError;
use core::convert::Infallible;

/// An errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error(i32);

/// What may fail with an errno.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Error {
        code::ENOMEM
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Error {
        match never {}
    }
}

/// The numbers of `include/uapi/asm-generic/errno-base.h` and `errno.h`.
pub mod code {
    use super::Error;

    macro_rules! codes {
        ($($name:ident = $number:literal;)*) => {$(
            #[allow(missing_docs)]
            pub const $name: Error = Error(-$number);
        )*};
    }

    codes! {
        ENOENT = 2;
        EINTR = 4;
        ENXIO = 6;
        ENOMEM = 12;
        EBUSY = 16;
        EEXIST = 17;
        ENODEV = 19;
        EINVAL = 22;
        ETIMEDOUT = 110;
    }
}
