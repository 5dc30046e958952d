// SPDX-License-Identifier: GPL-2.0

//! The decisions of a migration, without the code that carries them out: nothing here accesses a page.
//!
//! tests/logic compiles this directory for the host, and tests it against models.

pub(crate) mod around;
pub(crate) mod behind;
pub(crate) mod fates;
pub(crate) mod patience;
pub(crate) mod plan;
