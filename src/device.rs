// SPDX-License-Identifier: GPL-2.0

//! A device: its memory and its counters.
//!
//! [`Core`] is what pages of the device refer to; [`Device`] is what open files refer to.

use crate::{
    devmem::DeviceMemory,
    inject::Points,
    layer::mm::{
        folio::Counts,
        pagemap::{
            OwnerId,
            SpecialPurpose, //
        }, //
    },
    ledger::Ledger,
    migrate,
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
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// The most devices.
pub const MAX: usize = 4;

/// What memory a device has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Private: the CPU cannot reach it.
    Private,
    /// Coherent: this real memory.
    Coherent(SpecialPurpose),
}

/// What people may choose.
#[derive(Clone, Copy)]
pub struct Settings {
    /// How many pages a CPU fault may bring back.
    pub around: FaultAround,
    /// How many huge folios of system memory are kept ready.
    pub ready: MaxReady,
    /// Whether the core may split what is zapped meanwhile.
    pub core_splits: CoreSplits,
}

impl Settings {
    /// What it is if nobody says.
    pub const DEFAULT: Settings = Settings {
        around: FaultAround::DEFAULT,
        ready: MaxReady::DEFAULT,
        core_splits: CoreSplits::DEFAULT,
    };
}

/// What a device's pages know of it.
#[pin_data]
pub struct Core {
    id: usize,
    kind: Kind,
    /// What it has done.
    pub stats: Stats,
    /// What is to fail, for all its users.
    #[pin]
    pub inject: Points,
    /// For eviction.
    #[pin]
    pub reserve: Reserve,
    /// For what comes back while a process waits.
    pub ready: Ready,
    /// Arrays to work with.
    #[pin]
    pub scratch: Pool,
    /// How many pages a CPU fault may bring back.
    pub around: FaultAround,
    /// With what CPU faults are refused.
    #[pin]
    pub patience: Patience,
    /// Whether the core may split what is zapped meanwhile.
    core_may_split: Atomic<bool>,
    /// For faults without a huge destination, if it may not.
    pub splitter: Splitter,
    /// What the last eviction had to leave, the first of it.
    #[pin]
    pub stuck: Mutex<KVec<Counts>>,
    /// Where reference counts are reported to.
    pub ledger: Arc<Ledger>,
}

impl Core {
    /// The number of its node.
    pub fn id(&self) -> usize {
        self.id
    }

    /// What memory it has.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether its memory is private.
    pub fn is_private(&self) -> bool {
        self.kind == Kind::Private
    }

    /// Whether the kernel's core may split what is zapped meanwhile.
    pub fn core_splits(&self) -> CoreSplits {
        match self.core_may_split.load(Relaxed) {
            true => CoreSplits::Allowed,
            false => CoreSplits::Avoided,
        }
    }

    /// Changes that, for what begins from now on.
    pub fn set_core_splits(&self, splits: CoreSplits) {
        self.core_may_split
            .store(splits == CoreSplits::Allowed, Relaxed);
    }

    /// Its identity towards the core.
    pub fn owner(&self) -> OwnerId {
        OwnerId::of(self)
    }
}

/// A device.
#[pin_data]
pub struct Device {
    core: Arc<Core>,
    /// Its memory.
    #[pin]
    pub memory: DeviceMemory,
}

impl Device {
    /// A device without memory yet.
    pub fn new(
        id: usize,
        kind: Kind,
        settings: Settings,
        ledger: Arc<Ledger>,
    ) -> Result<Arc<Self>> {
        // Coherent devices have no huge folios.
        let ready = Ready::new(match kind {
            Kind::Private => settings.ready,
            Kind::Coherent(_) => MaxReady::NONE,
        })?;
        let splitter = Splitter::new()?;
        let core = Arc::pin_init(
            pin_init!(Core {
                id,
                kind,
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
        )?;
        Arc::pin_init(
            pin_init!(Device {
                core,
                memory <- DeviceMemory::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// What its pages know of it.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Brings all pages of all processes back and gives the memory up. What `RELEASE` does.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody holds pages; they stay, with the memory that they need.
    pub fn release(&self) -> Result {
        let chunks = self.memory.chunks()?;
        for chunk in &chunks {
            chunk.close(true);
        }
        let evicted = migrate::evict(self, None);
        for chunk in &chunks {
            chunk.close(false);
        }
        drop(chunks);
        evicted?;
        match self.memory.shrink()? {
            0 => Ok(()),
            _ => Err(EBUSY),
        }
    }

    /// Gives everything up, when no file is open any more. Waits for pages that somebody holds.
    pub fn shut_down(&self) {
        // Nobody could disarm them any more.
        self.core.inject.clear();
        self.core.inject.pause.clear();
        let pause = Delta::from_millis(100);
        for round in 0u32.. {
            match self.release() {
                Ok(()) => return,
                Err(error) if round % 100 == 0 => pr_warn!(
                    "hmm_dmirror{}: waiting for {} pages that are held: {:?}\n",
                    self.core.id(),
                    self.memory.usage().1,
                    error
                ),
                Err(_) => {}
            }
            fsleep(pause);
        }
    }
}
