// SPDX-License-Identifier: GPL-2.0

//! A huge folio of system memory kept for eviction, which cannot split what it moves (K6).

use crate::layer::mm::system::{
    Blank,
    Effort, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

/// Room for one huge folio.
#[pin_data]
pub(crate) struct Reserve {
    #[pin]
    folio: Mutex<Option<Blank>>,
}

impl Reserve {
    /// Empty.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Reserve {
            folio <- new_mutex!(None, "dmirror_reserve"),
        })
    }

    /// Fills it if it is empty and there is memory. May sleep.
    pub(crate) fn fill(&self) {
        if self.folio.lock().is_some() {
            return;
        }
        if let Ok(folio) = Blank::to_keep(Effort::Compact) {
            // If somebody was faster, what was there goes, after the lock.
            let _unused = self.folio.lock().replace(folio);
        }
    }

    /// Takes what is there.
    pub(crate) fn take(&self) -> Option<Blank> {
        self.folio.lock().take()
    }
}
