// SPDX-License-Identifier: GPL-2.0

//! The owner of device pages: what is known of an open file while it has pages on the device.

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

/// An open file, as far as its pages on the device refer to it.
///
/// The last reference may be put under a page table lock, so dropping it must not sleep.
#[pin_data]
pub(crate) struct Owner {
    /// The failures that are injected.
    #[pin]
    pub(crate) inject: Points,
    /// Whether it ever had a page.
    used: Atomic<bool>,
    /// The pages on which its process is expected to fault next.
    pub(crate) streams: Streams,
}

impl Owner {
    /// Makes one that has no page.
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

    /// Notes that it gets a page.
    pub(crate) fn note_use(&self) {
        self.used.store(true, Relaxed);
    }

    /// Returns whether it ever had a page. If not, close can skip the scan for its pages.
    pub(crate) fn has_used(&self) -> bool {
        self.used.load(Relaxed)
    }
}
