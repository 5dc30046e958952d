// SPDX-License-Identifier: GPL-2.0

//! Huge folios of system memory that are allocated before they are needed.
//!
//! [`reserve`] holds one for eviction, [`ready`] a few for migrations back for which a process waits.

pub(crate) mod ready;
pub(crate) mod reserve;
