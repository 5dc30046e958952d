// SPDX-License-Identifier: GPL-2.0

//! The trait that a driver implements for its device memory, and the identity of a device.

use super::Pagemap;
use crate::layer::mm::fault::{
    Fault,
    FaultError, //
};
use kernel::str::CStr;

/// The identity of a device: the `owner` of its pagemaps, and of its HMM ranges and migrations.
///
/// It is only compared, never dereferenced. Two devices must not use the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnerId(usize);

impl OwnerId {
    /// Returns the identity of a value, its address. The value must not move while the identity is used.
    pub fn of<T>(value: &T) -> Self {
        OwnerId(core::ptr::from_ref(value).addr())
    }

    pub(in crate::layer::mm) fn as_raw(self) -> *mut kernel::ffi::c_void {
        core::ptr::without_provenance_mut(self.0)
    }
}

/// A driver with device memory.
pub trait Driver: Sized + Send + Sync + 'static {
    /// The name of its memory in /proc/iomem.
    const NAME: &'static CStr;

    /// The owner of folios, to which folios in use hold a reference. The last reference may be put under a page table
    /// lock or in an interrupt: the destructor must not sleep, nor take a lock that is taken with interrupts on
    /// elsewhere.
    type Owner: Send + Sync + 'static;

    /// Migrates the folio of a CPU fault on private memory back to system memory. C: `migrate_to_ram`.
    ///
    /// Called with `mmap_lock` held for reading and the folio locked and referenced. May sleep, but other CPUs that
    /// fault on the folio spin meanwhile.
    fn migrate_to_ram(
        pagemap: &Pagemap<Self>,
        fault: &Fault<'_>,
    ) -> core::result::Result<(), FaultError>;
}
