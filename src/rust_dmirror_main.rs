// SPDX-License-Identifier: GPL-2.0

//! A driver for memory of simulated devices, private and coherent, in the manner of
//! `lib/test_hmm.c` and with its ABI.
//!
//! Each device node, `/dev/hmm_dmirror0` and on, mirrors the address space of the process that opens
//! it, moves pages of it to the device and back, and treats a refused split as an outcome.

#[path = "../rust/lib.rs"]
pub mod layer;

mod access;
mod device;
mod devmem;
mod file;
mod inject;
mod ledger;
mod migrate;
mod range;
mod stats;
mod uapi;

use device::{
    Device,
    Kind, //
};
use file::File;
use kernel::{
    miscdevice::{
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    prelude::*,
    str::CStr,
    sync::Arc, //
};

module! {
    type: Dmirror,
    name: "rust_dmirror",
    authors: ["The rust_dmirror authors"],
    description: "Device-private and device-coherent memory of simulated devices",
    license: "GPL",
    alias: ["test_hmm"],
    params: {
        spm_addr_dev0: u64 {
            default: 0,
            description: "Physical address of 256 MiB of special purpose memory for the first coherent device",
        },
        spm_addr_dev1: u64 {
            default: 0,
            description: "Physical address of 256 MiB of special purpose memory for the second coherent device",
        },
    },
}

/// The names of the nodes, in the order of the devices.
const NAMES: [&CStr; device::MAX] = [
    c"hmm_dmirror0",
    c"hmm_dmirror1",
    c"hmm_dmirror2",
    c"hmm_dmirror3",
];

/// A device and its node.
struct Node {
    // Before the device: no file can be opened once the device goes.
    _node: Pin<KBox<MiscDeviceRegistration<File>>>,
    device: Arc<Device>,
}

struct Dmirror {
    nodes: KVec<Node>,
}

impl Dmirror {
    fn add(&mut self, kind: Kind) -> Result {
        let id = self.nodes.len();
        let name = *NAMES.get(id).ok_or(ENODEV)?;
        let device = Device::new(id, kind)?;
        device::publish(id, Some(device.clone()));
        let options = MiscDeviceOptions { name };
        let node = KBox::pin_init(MiscDeviceRegistration::register(options), GFP_KERNEL)
            .inspect_err(|_| device::publish(id, None))?;
        self.nodes.push(
            Node {
                _node: node,
                device,
            },
            GFP_KERNEL,
        )?;
        Ok(())
    }
}

impl kernel::Module for Dmirror {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let mut this = Dmirror { nodes: KVec::new() };
        this.add(Kind::Private)?;
        this.add(Kind::Private)?;
        let (first, second) = (
            *module_parameters::spm_addr_dev0.value(),
            *module_parameters::spm_addr_dev1.value(),
        );
        if first != 0 && second != 0 {
            this.add(Kind::Coherent(first))?;
            this.add(Kind::Coherent(second))?;
        }
        pr_info!("{} devices; for testing only\n", this.nodes.len());
        Ok(this)
    }
}

impl Drop for Dmirror {
    fn drop(&mut self) {
        for (id, node) in self.nodes.drain_all().enumerate() {
            device::publish(id, None);
            let Node { _node, device } = node;
            drop(_node);
            device.shut_down();
        }
    }
}
