// SPDX-License-Identifier: GPL-2.0

//! The size of a page.

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;
