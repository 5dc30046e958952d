// SPDX-License-Identifier: GPL-2.0

//! A device: its memory, and the state that its pages refer to.
//!
//! [`State`] is what pages refer to, [`Device`] what open files refer to.

pub mod chunk;
pub mod memory;
pub mod owner;
pub mod state;
pub mod supply;

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

/// The most devices.
pub const MAX: usize = 4;

/// A device.
#[pin_data]
pub struct Device {
    state: Arc<State>,
    /// Its memory.
    #[pin]
    pub memory: Memory,
}

impl Device {
    /// Makes a device without memory.
    pub fn new(
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

    /// Returns the state that its pages refer to.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }
}
