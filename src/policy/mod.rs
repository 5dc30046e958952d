// SPDX-License-Identifier: GPL-2.0

//! Decisions of a migration, apart from what carries them out: nothing here touches a page.
//!
//! tests/logic compiles this directory for the host and tests it against models.

pub(crate) mod around;
pub(crate) mod behind;
pub(crate) mod fates;
pub(crate) mod patience;
pub(crate) mod plan;
