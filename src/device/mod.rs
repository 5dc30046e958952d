// SPDX-License-Identifier: GPL-2.0

//! A device: its memory, and its state.
//!
//! Open files hold a reference to the [`Device`]. Pages hold one to its [`State`] only, through their chunk.

pub(crate) mod chunk;
pub(crate) mod memory;
pub(crate) mod owner;
pub(crate) mod state;
pub(crate) mod supply;

use crate::ledger::Ledger;
use kernel::{
    prelude::*,
    sync::Arc, //
};
use memory::Memory;
use state::{
    MemoryType,
    Settings,
    State, //
};

/// The number of devices at most: two private, two coherent.
pub(crate) const MAX: usize = 4;

/// A device.
#[pin_data]
pub(crate) struct Device {
    state: Arc<State>,
    /// Its memory.
    #[pin]
    pub(crate) memory: Memory,
}

impl Device {
    /// Makes a device without memory.
    pub(crate) fn new(
        id: usize,
        memory_type: MemoryType,
        settings: Settings,
        ledger: Arc<Ledger>,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Device {
                state: State::new(id, memory_type, settings, ledger)?,
                memory <- Memory::new(),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Returns the state that the device's pages refer to.
    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }
}
