// SPDX-License-Identifier: GPL-2.0

//! Arguments of commands: how they come from user space, and go back.

use crate::layer::plain::Plain;
use kernel::{
    ioctl::_IOC_SIZE,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};
use zerocopy::Immutable;

/// What a command reads and writes back.
pub(super) trait Argument: FromBytes + IntoBytes + Immutable {
    /// What was asked for: the (out) members, in which the caller may have left anything, are zero.
    /// So they say nothing that is not so, however early a command ends.
    fn asked(self) -> Self;
}

/// Reads the argument of the command `NUMBER`, runs it, and writes the argument back also when that failed: the
/// counts say what was done before.
pub(super) fn run<const NUMBER: u32, T: Argument>(
    user: usize,
    command: impl FnOnce(&mut T) -> Result,
) -> Result<isize> {
    // The caller has as many bytes there as the number says.
    const { assert!(_IOC_SIZE(NUMBER) == size_of::<T>()) };
    let slice = || UserSlice::new(UserPtr::from_addr(user), size_of::<T>());
    let Plain(arg) = slice().reader().read::<Plain<T>>()?;
    let mut arg = Plain(arg.asked());
    let done = command(&mut arg.0);
    slice().writer().write(&arg)?;
    done.map(|()| 0)
}
