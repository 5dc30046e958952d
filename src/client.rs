// SPDX-License-Identifier: GPL-2.0

//! A client: a process that has a device open.

use crate::{
    device::{
        owner::Owner,
        Device, //
    },
    inject::Injection,
    layer::mm::{
        lock::task_size,
        mirror::Mirror, //
    },
    range::Pages, //
};
use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

/// A process that has a device open: the mirror of its address space, and the owner of its pages on the device.
#[pin_data]
pub(crate) struct Client {
    device: Arc<Device>,
    owner: Arc<Owner>,
    #[pin]
    mirror: Mirror,
}

impl Client {
    /// Mirrors an address space on a device.
    pub(crate) fn new(device: Arc<Device>, mm: &MmWithUser) -> impl PinInit<Self, Error> + use<'_> {
        let id = device.state().pgmap_owner();
        device.state().reserve.fill();
        try_pin_init!(Client {
            owner: Owner::new()?,
            mirror <- Mirror::new(mm, id),
            device,
        }? Error)
    }

    /// Returns the device.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the owner of its pages on the device.
    pub(crate) fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// Returns the mirror of its address space.
    pub(crate) fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Returns its address space.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the process has exited.
    pub(crate) fn mm(&self) -> Result<ARef<MmWithUser>> {
        self.mirror.mm().mmget_not_zero().ok_or(EINVAL)
    }

    /// Returns the failures to be injected into an attempt that begins now.
    pub(crate) fn injection(&self) -> Injection<'_> {
        Injection::new(Some(&self.owner.inject), &self.device.state().inject)
    }

    /// Checks a range of addresses of the process.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is not a range of whole pages in the address space; see [`Pages::new`].
    pub(crate) fn range(&self, addr: u64, npages: u64) -> Result<Pages> {
        Pages::new(addr, npages, task_size(self.mirror.mm()))
    }
}
