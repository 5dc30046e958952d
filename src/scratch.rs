// SPDX-License-Identifier: GPL-2.0

//! A pool of arrays for migrations and for walks of a mapping.
//!
//! Allocating and clearing them for each call would be overhead. A device keeps a few; if all are in use, new ones are
//! allocated.

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

/// The number of arrays that are kept, of about 35 KiB each; chosen.
const KEPT: usize = 4;

/// Arrays for work on up to a huge page.
pub(crate) struct Scratch {
    /// The arrays of a migration.
    pub(crate) batch: Batch,
    /// The outcomes of its pages.
    pub(crate) fates: Fates,
    /// The arrays for walking a mapping.
    pub(crate) room: Room,
}

/// The arrays that a device keeps.
#[pin_data]
pub(crate) struct Pool {
    #[pin]
    kept: Mutex<[Option<KBox<Scratch>>; KEPT]>,
}

impl Pool {
    /// Makes an empty pool.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Pool {
            kept <- new_mutex!([const { None }; KEPT], "dmirror_scratch"),
        })
    }

    /// Calls `work` with kept arrays, or with new ones. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if none are kept and there is no memory for new ones, and the errors of `work`.
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
        // The spare leaf is charged to this caller's cgroup, which must not pay for the next caller.
        scratch.room.drop_spare();
        let mut kept = self.kept.lock();
        if let Some(place) = kept.iter_mut().find(|place| place.is_none()) {
            *place = Some(scratch);
        }
        done
    }
}
