// SPDX-License-Identifier: GPL-2.0

//! The device nodes: their names, and the device of each.

use crate::device::{
    self,
    Device, //
};
use kernel::{
    prelude::*,
    str::CStr,
    sync::Arc, //
};

/// The names of the nodes, in the order of the devices.
pub(crate) const NAMES: [&CStr; device::MAX] = [
    c"hmm_dmirror0",
    c"hmm_dmirror1",
    c"hmm_dmirror2",
    c"hmm_dmirror3",
];

kernel::sync::global_lock! {
    /// The devices, indexed by the number of their node.
    // SAFETY: `Dmirror::init` calls `init()` once, before anything else of the module runs.
    pub(crate) unsafe(uninit) static DEVICES: Mutex<[Option<Arc<Device>>; device::MAX]> =
        [const { None }; device::MAX];
}

/// Sets the device of a node, or removes it.
pub(crate) fn publish(id: usize, device: Option<Arc<Device>>) {
    // Freed after the lock is released.
    let _before = DEVICES
        .lock()
        .get_mut(id)
        .and_then(|slot| core::mem::replace(slot, device));
}

/// Returns the device of a node.
pub(crate) fn find(name: &CStr) -> Option<Arc<Device>> {
    let id = NAMES.iter().position(|known| *known == name)?;
    DEVICES.lock().get(id)?.clone()
}
