// SPDX-License-Identifier: GPL-2.0

//! KUnit suites that need a whole driver: reference counts of folios on a real mapping.
//!
//! Cases gather what they see and let everything go; only then it is compared. A failed assertion
//! ends the thread without running destructors, so none may be made while anything is held.

mod device_order;
mod eviction;
mod fault;
mod log;
mod notifier;
mod refusals;
mod rig;
mod to_device;
mod to_system;
mod walk;
mod watch;
