// SPDX-License-Identifier: GPL-2.0

//! What a driver says about its device memory, and which device it is.

use super::Pagemap;
use crate::layer::mm::fault::{
    Fault,
    FaultError, //
};
use kernel::str::CStr;

/// Tells whose device memory is whose: the `owner` of pagemaps, ranges and migrations.
///
/// Only ever compared. Two devices must not use the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnerId(usize);

impl OwnerId {
    /// The identity of a value that stays where it is for as long as the identity is used.
    pub fn of<T>(value: &T) -> Self {
        OwnerId(core::ptr::from_ref(value).addr())
    }

    pub(in crate::layer::mm) fn as_raw(self) -> *mut kernel::ffi::c_void {
        core::ptr::without_provenance_mut(self.0)
    }
}

/// What a driver says about its device memory.
pub trait Driver: Sized + Send + Sync + 'static {
    /// What its memory is called in /proc/iomem.
    const NAME: &'static CStr;

    /// What the folios in use hold a reference to. Its last reference may go under a page table
    /// lock or in an interrupt, so its destructor must be fit for that: it must not sleep, nor take a
    /// lock that is taken elsewhere with interrupts on.
    type Owner: Send + Sync + 'static;

    /// Brings the folio of a CPU fault on private memory back. C: `migrate_to_ram`.
    ///
    /// Called with `mmap_lock` held for reading and the folio locked and referenced. May sleep, but
    /// others spin on the folio's lock meanwhile.
    fn migrate_to_ram(
        pagemap: &Pagemap<Self>,
        fault: &Fault<'_>,
    ) -> core::result::Result<(), FaultError>;
}
