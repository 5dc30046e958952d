// SPDX-License-Identifier: GPL-2.0

//! For `src/migrate/mod.rs`.

#[path = "../../../src/migrate/around.rs"]
pub mod around;
#[path = "../../../src/migrate/behind.rs"]
pub mod behind;
#[path = "../../../src/migrate/fates.rs"]
pub mod fates;
#[path = "../../../src/migrate/patience.rs"]
pub mod patience;
#[path = "../../../src/migrate/policy.rs"]
pub mod policy;
#[path = "../../../src/migrate/splitter.rs"]
pub mod splitter;
