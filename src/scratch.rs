// SPDX-License-Identifier: GPL-2.0

//! The arrays that a migration or a look at a mapping works with, kept for the next one.
//!
//! To allocate and clear them for each call is work that brings no page anywhere. A device keeps a few;
//! who finds none has new ones made.

use crate::{
    layer::mm::{
        migrate::Batch,
        mirror::Room, //
    },
    policy::fates::Fates, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

/// How many are kept: about 35 KiB each.
const KEPT: usize = 4;

/// Arrays for work on up to a huge page.
pub(crate) struct Scratch {
    /// For migrations.
    pub(crate) batch: Batch,
    /// What becomes of the pages.
    pub(crate) fates: Fates,
    /// For looks at a mapping.
    pub(crate) room: Room,
}

/// What a device keeps of them.
#[pin_data]
pub(crate) struct Pool {
    #[pin]
    kept: Mutex<[Option<KBox<Scratch>>; KEPT]>,
}

impl Pool {
    /// None yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Pool {
            kept <- new_mutex!([const { None }; KEPT], "dmirror_scratch"),
        })
    }

    /// Does some work with one that was kept, or a new one. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is none and there is no memory for it; what `work` gives.
    pub(crate) fn with<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&mut Scratch) -> core::result::Result<T, E>,
    ) -> core::result::Result<T, E> {
        let kept = self.kept.lock().iter_mut().find_map(Option::take);
        let mut scratch = match kept {
            Some(scratch) => scratch,
            None => {
                let new = Scratch {
                    batch: Batch::new()?,
                    fates: Fates::new()?,
                    room: Room::new()?,
                };
                KBox::new(new, GFP_KERNEL).map_err(Error::from)?
            }
        };
        let done = work(&mut scratch);
        // What is in it is charged to somebody who should not pay for the next one's.
        scratch.room.drop_spare();
        let mut kept = self.kept.lock();
        if let Some(place) = kept.iter_mut().find(|place| place.is_none()) {
            *place = Some(scratch);
        }
        done
    }
}
