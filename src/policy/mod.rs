// SPDX-License-Identifier: GPL-2.0

//! Decisions of a migration, apart from what carries them out: nothing here touches a page.
//!
//! tests/logic compiles this directory for the host and tests it against models.

pub mod around;
pub mod behind;
pub mod fates;
pub mod patience;
pub mod plan;
