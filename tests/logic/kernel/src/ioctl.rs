// SPDX-License-Identifier: GPL-2.0

//! `rust/kernel/ioctl.rs`: the numbers of `include/uapi/asm-generic/ioctl.h`.

/// One that reads and writes a `T`.
#[allow(non_snake_case)]
pub const fn _IOWR<T>(kind: u32, number: u32) -> u32 {
    3 << 30 | (size_of::<T>() as u32) << 16 | kind << 8 | number
}
