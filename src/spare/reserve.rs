// SPDX-License-Identifier: GPL-2.0

//! A huge folio of system memory that is kept for eviction, which cannot split huge folios (K6 in docs/defects.md).

use crate::layer::mm::system::{
    Blank,
    Effort, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

/// A place for one huge folio.
#[pin_data]
pub(crate) struct Reserve {
    #[pin]
    folio: Mutex<Option<Blank>>,
}

impl Reserve {
    /// Makes an empty reserve.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Reserve {
            folio <- new_mutex!(None, "dmirror_reserve"),
        })
    }

    /// Allocates a folio if the reserve is empty and there is memory. May sleep.
    pub(crate) fn fill(&self) {
        if self.folio.lock().is_some() {
            return;
        }
        if let Ok(folio) = Blank::to_keep(Effort::Compact) {
            // If another thread was faster, the folio of that thread is freed, after the lock is released.
            let _unused = self.folio.lock().replace(folio);
        }
    }

    /// Takes the folio, if there is one.
    pub(crate) fn take(&self) -> Option<Blank> {
        self.folio.lock().take()
    }
}
