// SPDX-License-Identifier: GPL-2.0

//! The state of a device: the part that its pages refer to.
//!
//! Pages hold a reference to it through their chunk, so it may outlive the device.

use crate::{
    inject::Points,
    layer::mm::{
        folio::Counts,
        pagemap::{
            OwnerId,
            SpecialPurpose, //
        }, //
    },
    ledger::Ledger,
    policy::{
        around::FaultAround,
        patience::Patience,
        plan::CoreSplits, //
    },
    scratch::Pool,
    spare::{
        ready::{
            MaxReady,
            Ready, //
        },
        reserve::Reserve, //
    },
    splitter::Splitter,
    stats::Stats, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

/// The type of a device's memory, as in `enum memory_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MemoryType {
    /// Private: the CPU cannot reach it.
    Private,
    /// Coherent: this special purpose memory, which the CPU can reach.
    Coherent(SpecialPurpose),
}

/// Module parameters of a device.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    /// The number of pages that a CPU fault may bring back at most.
    pub(crate) around: FaultAround,
    /// The number of huge folios of system memory that are kept ready at most.
    pub(crate) ready: MaxReady,
    /// Whether the core may split a folio whose mapping may be zapped at the same time.
    pub(crate) core_splits: CoreSplits,
}

impl Settings {
    /// The defaults of the parameters, for tests.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) const DEFAULT: Settings = Settings {
        around: FaultAround::DEFAULT,
        ready: MaxReady::DEFAULT,
        core_splits: CoreSplits::DEFAULT,
    };
}

/// The state of a device.
#[pin_data]
pub(crate) struct State {
    id: usize,
    memory_type: MemoryType,
    /// Counters.
    pub(crate) stats: Stats,
    /// Failures that are injected for all files of the device.
    #[pin]
    pub(crate) inject: Points,
    /// The huge folio that is kept for eviction.
    #[pin]
    pub(crate) reserve: Reserve,
    /// Huge folios that are kept ready for migrations back to system memory for which a process waits.
    pub(crate) ready: Ready,
    /// Arrays for migrations and for walks of a mapping.
    #[pin]
    pub(crate) scratch: Pool,
    /// The number of pages that a CPU fault brings back at most.
    pub(crate) around: FaultAround,
    /// The refusals of CPU faults.
    #[pin]
    pub(crate) patience: Patience,
    /// Whether the core may split a folio whose mapping may be zapped at the same time.
    core_may_split: Atomic<bool>,
    /// The worker that splits folios for CPU faults without a huge destination, if the core may not split them.
    pub(crate) splitter: Splitter,
    /// The counts of folios that the last eviction could not evict, up to a limit.
    #[pin]
    pub(crate) stuck: Mutex<KVec<Counts>>,
    /// The ledger that reference counts are reported to.
    pub(crate) ledger: Arc<Ledger>,
}

impl State {
    /// Makes the state of a device.
    pub(crate) fn new(
        id: usize,
        memory_type: MemoryType,
        settings: Settings,
        ledger: Arc<Ledger>,
    ) -> Result<Arc<Self>> {
        // Coherent devices have no huge folios.
        let ready = Ready::new(match memory_type {
            MemoryType::Private => settings.ready,
            MemoryType::Coherent(_) => MaxReady::NONE,
        })?;
        let splitter = Splitter::new()?;
        Arc::pin_init(
            pin_init!(State {
                id,
                memory_type,
                stats: Stats::default(),
                inject <- Points::new(),
                reserve <- Reserve::new(),
                ready,
                scratch <- Pool::new(),
                around: settings.around,
                patience <- Patience::new(),
                core_may_split: Atomic::new(settings.core_splits == CoreSplits::Allowed),
                splitter,
                stuck <- new_mutex!(KVec::new(), "dmirror_stuck"),
                ledger,
            }),
            GFP_KERNEL,
        )
    }

    /// Returns the number of its node.
    pub(crate) fn id(&self) -> usize {
        self.id
    }

    /// Returns the type of its memory.
    pub(crate) fn memory_type(&self) -> MemoryType {
        self.memory_type
    }

    /// Returns whether its memory is private.
    pub(crate) fn is_private(&self) -> bool {
        self.memory_type == MemoryType::Private
    }

    /// Returns whether the core may split a folio whose mapping may be zapped at the same time.
    pub(crate) fn core_splits(&self) -> CoreSplits {
        match self.core_may_split.load(Relaxed) {
            true => CoreSplits::Allowed,
            false => CoreSplits::Avoided,
        }
    }

    /// Sets whether the core may split such folios, for migrations that begin from now on.
    pub(crate) fn set_core_splits(&self, splits: CoreSplits) {
        self.core_may_split
            .store(splits == CoreSplits::Allowed, Relaxed);
    }

    /// Returns the `pgmap_owner` of its memory.
    pub(crate) fn pgmap_owner(&self) -> OwnerId {
        OwnerId::of(self)
    }
}
