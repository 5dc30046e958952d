// SPDX-License-Identifier: GPL-2.0

//! The physical addresses that device memory has.

use crate::layer::mm::{
    bindings,
    HUGE_SIZE, //
};
use kernel::{
    module_param::ModuleParamAccess,
    prelude::*,
    str::CStr, //
};

/// Real memory that the kernel is kept away from, to be the memory of a coherent device.
///
/// # Invariants
///
/// If `is_promised`, somebody who may promised that the range is memory and that nobody else uses it, provided
/// that the kernel shows it as reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpecialPurpose {
    start: u64,
    size: usize,
    is_promised: bool,
}

impl SpecialPurpose {
    /// Memory that the firmware has set aside for such devices: "Soft Reserved" in /proc/iomem, `EFI_MEMORY_SP`
    /// on a machine with EFI. If it is anything else, no [`super::Pagemap`] is made of it.
    pub fn soft_reserved(start: u64, size: usize) -> Self {
        // INVARIANT: Nobody promised anything.
        SpecialPurpose {
            start,
            size,
            is_promised: false,
        }
    }

    /// The same, or memory that the command line took from the kernel: "Reserved", as with
    /// `memmap=SIZE$ADDRESS`. No [`super::Pagemap`] is made of anything else, of what a driver or a bus has, or
    /// of what has firmware's tables or the configuration space of PCI in it, as far as the kernel knows.
    ///
    /// # Safety
    ///
    /// If all of the range is reserved, it must be memory, and nobody may use it, the firmware included.
    /// Firmware keeps its own memory, and registers, from the kernel by the same word, and there is nothing
    /// that a module could tell them by: the map that the firmware gave is not open to modules.
    pub unsafe fn reserved(start: u64, size: usize) -> Self {
        // INVARIANT: By the requirements of this function.
        SpecialPurpose {
            start,
            size,
            is_promised: true,
        }
    }

    /// As [`SpecialPurpose::reserved`], by parameters of a module, an address and a number of MiB. Whoever loads a
    /// module may do anything to the kernel anyway, and makes that promise by setting these.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is beyond all addresses.
    ///
    /// # Safety
    ///
    /// The address must be 0 unless whoever loads the module sets it, and its description must say what that
    /// promises.
    pub unsafe fn by_parameters(
        start: &'static ModuleParamAccess<u64>,
        size_mib: &'static ModuleParamAccess<u64>,
    ) -> Result<Self> {
        let size = bytes(size_mib.value())?;
        // SAFETY: Nothing is made of the address 0. By the requirements of this function, any other was set by who
        // loads the module, and promises this.
        Ok(unsafe { Self::reserved(start.value(), size) })
    }

    /// The first physical address.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Requests the range.
    fn request(self, name: &'static CStr) -> Result<Region> {
        let (start, size) = (self.start, self.size as u64);
        let end = start.checked_add(size).ok_or(EINVAL)?;
        if start == 0 || start % HUGE_SIZE as u64 != 0 || end > isize::MAX as u64 {
            return Err(EINVAL);
        }
        // The core does not look whether there is any memory; the CPU would read anything.
        // SAFETY: Only reads the kernel's resources.
        if !unsafe { bindings::rust_dmirror_region_is_reserved(start, size, self.is_promised) } {
            return Err(ENXIO);
        }
        // SAFETY: The name is a static string.
        match unsafe { bindings::rust_dmirror_request_region(start, size, name.as_char_ptr()) } {
            0 => {
                // INVARIANT: It was just requested.
                Ok(Region {
                    start,
                    size: self.size,
                    requested: size,
                })
            }
            errno => Err(Error::from_errno(errno)),
        }
    }
}

/// The kind of memory that a pagemap has, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Pages in a hole of the physical address space: C `MEMORY_DEVICE_PRIVATE`.
    Private,
    /// Real memory: C `MEMORY_DEVICE_COHERENT`.
    Coherent(SpecialPurpose),
}

/// The physical addresses of a pagemap, requested, and given back on drop.
///
/// Dropped after `memunmap_pages()`, which `PinnedDrop` of [`super::Pagemap`] calls: fields go last.
///
/// # Invariants
///
/// `requested` bytes from `start` on are a resource of ours; the first `size` of them are what was
/// asked for. A hole is found in steps of a memory section, so that it may be larger.
pub(super) struct Region {
    pub(super) start: u64,
    pub(super) size: usize,
    requested: u64,
}

/// How many holes may be spoilt before no other one is looked for.
const HOLES: usize = 256;

impl Region {
    /// `name` is what it is called in /proc/iomem.
    pub(super) fn new(memory: Memory, size: usize, name: &'static CStr) -> Result<Self> {
        match memory {
            Memory::Private => Region::unspoilt_hole(size, name),
            Memory::Coherent(memory) if memory.size == size => memory.request(name),
            Memory::Coherent(_) => Err(EINVAL),
        }
    }

    /// A hole that the core can make memory of. Where memory was short for that before, it never can again: part of
    /// the struct pages stayed behind (K25).
    fn unspoilt_hole(size: usize, name: &'static CStr) -> Result<Self> {
        // Kept until there is another one, or the kernel would give the same again.
        let mut spoilt = KVec::new();
        loop {
            let hole = Region::hole(size, name)?;
            // SAFETY: Only reads which sections of memory there are.
            if !unsafe { bindings::rust_dmirror_region_has_pages(hole.start, hole.requested) } {
                return Ok(hole);
            }
            if spoilt.len() == HOLES {
                return Err(ENOMEM);
            }
            spoilt.push(hole, GFP_KERNEL)?;
        }
    }

    /// The first hole in the physical address space that is large enough, from its end on.
    fn hole(size: usize, name: &'static CStr) -> Result<Self> {
        // SAFETY: The name is a static string.
        let resource = kernel::error::from_err_ptr(unsafe {
            bindings::rust_dmirror_request_free_region(size, name.as_char_ptr())
        })?;
        if resource.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: The region was just made and is not released before drop.
        let (start, end) = unsafe { ((*resource).start, (*resource).end) };
        // INVARIANT: It was just requested, with room for `size` at least.
        Ok(Region {
            start,
            size,
            requested: end - start + 1,
        })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the region is ours; nothing uses it any more.
        unsafe { bindings::rust_dmirror_release_region(self.start, self.requested) };
    }
}

/// The bytes of so many MiB.
fn bytes(mib: u64) -> Result<usize> {
    let bytes = mib.checked_mul(1 << 20).ok_or(EINVAL)?;
    usize::try_from(bytes).map_err(|_| EINVAL)
}

#[kunit_tests(rust_dmirror_region)]
mod tests {
    use super::*;

    #[test]
    fn a_mib_is_a_mib() {
        assert_eq!(bytes(0), Ok(0));
        assert_eq!(bytes(3), Ok(3 * 1024 * 1024));
        assert_eq!(bytes(u64::MAX >> 20), Ok(usize::MAX - (1 << 20) + 1));
        assert_eq!(bytes((u64::MAX >> 20) + 1), Err(EINVAL));
    }
}
