// SPDX-License-Identifier: GPL-2.0

//! A driver for simulated devices with private or coherent memory, modelled on `lib/test_hmm.c` and with its ABI.
//!
//! An open device node, `/dev/hmm_dmirror0` and on, mirrors the address space of the process that opened it, and
//! migrates its pages to the device and back. A refused split is an outcome, not an error.
//!
//! # Lock order
//!
//! 1. taken with nothing held: `dmirror_growing`, held while a chunk is made, which waits for memory hotplug, and
//!    `dmirror_ledger_switch`, held while a static key is switched
//! 2. the locks of the layer (`rust/mm/mod.rs`): `mmap_lock`, the table of a mirror
//! 3. `dmirror_chunks`: the list of chunks, held to copy or to change it; no chunk is made or freed with it held
//! 4. leaves, below which only the layer's spinlock is taken: the mutexes `DEVICES`, `dmirror_reserve`,
//!    `dmirror_ready`, `dmirror_stuck` and `dmirror_scratch`, and the spinlocks `dmirror_backing`, `dmirror_inject`,
//!    `dmirror_pause`, `dmirror_patience`, `dmirror_splitter` and `dmirror_ledger`
//!
//! Reclaim takes `dmirror_ready`: nothing is allocated with it held.
//!
//! lockdep checks this order on the kernels *own* and *debug*.

#[path = "../rust/lib.rs"]
pub mod layer;

mod access;
mod client;
mod clock;
mod coherent;
mod copies;
mod debugfs;
mod device;
mod inject;
mod ioctl;
mod ledger;
mod migrate;
mod nodes;
mod pause;
mod policy;
mod range;
mod scratch;
mod spare;
mod splitter;
mod stats;
mod trace;
mod uapi;

#[cfg(CONFIG_KUNIT = "y")]
#[path = "../tests/kunit/mod.rs"]
mod kunit;

use crate::{
    debugfs::{
        DeviceFiles,
        Files, //
    },
    device::{
        memory::Limit,
        state::{
            MemoryType,
            Settings, //
        },
        Device, //
    },
    ioctl::File,
    layer::mm::pagemap::SpecialPurpose,
    ledger::Ledger,
    policy::{
        around::FaultAround,
        plan::CoreSplits, //
    },
    spare::ready::MaxReady, //
};
use kernel::{
    miscdevice::{
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    module_param::ModuleParamAccess,
    prelude::*,
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
            description: "Physical address of special purpose memory for the first coherent device: real memory that nothing else uses, the firmware included",
        },
        spm_addr_dev1: u64 {
            default: 0,
            description: "The same for the second coherent device",
        },
        private_mib: u64 {
            default: 4096,
            description: "The most MiB of private memory of each device, in steps of 256",
        },
        fault_around: u64 {
            default: 64,
            description: "The most pages that a CPU fault brings back while a process reads on: a power of two up to 512",
        },
        huge_ready: u64 {
            default: 4,
            description: "Huge pages of system memory that each private device keeps ready for what comes back, up to 64",
        },
        core_splits: u64 {
            default: 2,
            description: "Whether the core splits huge pages while they migrate: 0 no, 1 yes, 2 if it survives that they are zapped meanwhile",
        },
        spm_size_mib: u64 {
            default: 256,
            description: "MiB of special purpose memory of each coherent device",
        },
    },
}

/// The parameters for the addresses of the coherent devices' memory.
static SPM_ADDRS: [&ModuleParamAccess<u64>; coherent::DEVICES] = [
    &module_parameters::spm_addr_dev0,
    &module_parameters::spm_addr_dev1,
];

/// A device and its node.
struct Node {
    // Dropped before the device, which they show.
    _files: Pin<KBox<DeviceFiles>>,
    // Dropped before the device, so that no file can be opened from then on.
    _node: Pin<KBox<MiscDeviceRegistration<File>>>,
    device: Arc<Device>,
}

/// The module.
struct Dmirror {
    nodes: KVec<Node>,
    ledger: Arc<Ledger>,
    limit: Limit,
    settings: Settings,
    files: Pin<KBox<Files>>,
}

impl Dmirror {
    fn add(&mut self, memory_type: MemoryType) -> Result {
        let id = self.nodes.len();
        let name = *nodes::NAMES.get(id).ok_or(ENODEV)?;
        self.nodes.reserve(1, GFP_KERNEL)?;
        let device = Device::new(id, memory_type, self.settings, self.ledger.clone())?;
        device.memory.set_limit(self.limit);
        if let MemoryType::Coherent(range) = memory_type {
            // Errors are reported at insmod, to the user who gave the address, and not at open.
            let state = device.state();
            device.memory.try_make_room(state).inspect_err(|error| {
                pr_err!(
                    "special purpose memory {:#x}-{:#x}: {}\n",
                    range.start(),
                    range.start() + range.size() as u64 - 1,
                    coherent::reason(*error)
                )
            })?;
        }
        let files = DeviceFiles::new(&self.files, name, &device)?;
        nodes::publish(id, Some(device.clone()));
        let options = MiscDeviceOptions { name };
        let node = KBox::pin_init(MiscDeviceRegistration::register(options), GFP_KERNEL)
            .inspect_err(|_| nodes::publish(id, None))?;
        self.nodes
            .push_within_capacity(Node {
                _files: files,
                _node: node,
                device,
            })
            .map_err(|_| ENOMEM)
    }
}

impl kernel::Module for Dmirror {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: This runs once, before anything that could use the lock.
        unsafe { nodes::DEVICES.init() };
        let spans = coherent::spans(
            SPM_ADDRS.map(|param| param.value()),
            module_parameters::spm_size_mib.value(),
        )
        .map_err(|reason| {
            pr_err!("{reason}\n");
            EINVAL
        })?;
        let mib = module_parameters::private_mib.value();
        let limit = Limit::new(mib).inspect_err(|_| {
            pr_err!(
                "private_mib must be a multiple of 256, up to {}\n",
                Limit::MOST_MIB
            )
        })?;
        let around = FaultAround::new(module_parameters::fault_around.value())
            .inspect_err(|_| pr_err!("fault_around must be a power of two, up to 512\n"))?;
        let ready = MaxReady::new(module_parameters::huge_ready.value())
            .inspect_err(|_| pr_err!("huge_ready must not be more than 64\n"))?;
        let core_splits = CoreSplits::new(module_parameters::core_splits.value())
            .inspect_err(|_| pr_err!("core_splits must be 0, 1 or 2\n"))?;
        let ledger = Ledger::new()?;
        let mut this = Dmirror {
            nodes: KVec::new(),
            files: Files::new(&ledger)?,
            ledger,
            limit,
            settings: Settings {
                around,
                ready,
                core_splits,
            },
        };
        this.add(MemoryType::Private)?;
        this.add(MemoryType::Private)?;
        if spans.is_some() {
            for start in SPM_ADDRS {
                let size = &module_parameters::spm_size_mib;
                // SAFETY: The addresses default to 0, and the description of the parameter says what setting it
                // promises.
                let range = unsafe { SpecialPurpose::by_parameters(start, size) }?;
                this.add(MemoryType::Coherent(range))?;
            }
        }
        pr_info!("{} devices; for testing only\n", this.nodes.len());
        Ok(this)
    }
}

impl Drop for Dmirror {
    fn drop(&mut self) {
        for (id, node) in self.nodes.drain_all().enumerate() {
            nodes::publish(id, None);
            let Node {
                _files,
                _node,
                device,
            } = node;
            drop((_files, _node));
            migrate::shut_down(&device);
        }
    }
}
