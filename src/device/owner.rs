// SPDX-License-Identifier: GPL-2.0

//! The owner of device pages: the part of an open file that its pages refer to.

use crate::{
    inject::Points,
    policy::around::Streams, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// The owner of the pages that an open file has on the device. Outlives the file if pages stay.
///
/// The last reference may be put under a page table lock, so dropping it must not sleep.
#[pin_data]
pub(crate) struct Owner {
    /// The failures that are injected for this file.
    #[pin]
    pub(crate) inject: Points,
    /// Whether it ever had a page on the device.
    used: Atomic<bool>,
    /// The pages on which its process is expected to fault next.
    pub(crate) streams: Streams,
}

impl Owner {
    /// Makes an owner without pages.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Owner {
                inject <- Points::new(),
                used: Atomic::new(false),
                streams: Streams::default(),
            }),
            GFP_KERNEL,
        )
    }

    /// Records that it has had a page.
    pub(crate) fn note_use(&self) {
        self.used.store(true, Relaxed);
    }

    /// Returns whether it ever had a page on the device. If not, close can skip the scan for its pages.
    pub(crate) fn has_used(&self) -> bool {
        self.used.load(Relaxed)
    }
}
