// SPDX-License-Identifier: GPL-2.0

//! The physical address ranges of device memory.

use crate::layer::mm::{
    bindings,
    HUGE_SIZE, //
};
use kernel::{
    module_param::ModuleParamAccess,
    prelude::*,
    str::CStr, //
};

/// A range of real memory that the kernel does not use, for a coherent device.
///
/// # Invariants
///
/// If `is_promised` and the kernel shows the range as reserved, it is memory and nobody else uses it: the caller of
/// an unsafe constructor has promised that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpecialPurpose {
    start: u64,
    size: usize,
    is_promised: bool,
}

impl SpecialPurpose {
    /// Describes memory that the firmware has set aside for such devices: "Soft Reserved" in /proc/iomem,
    /// `EFI_MEMORY_SP` with EFI. For any other range, [`super::Pagemap::new`] fails.
    pub fn soft_reserved(start: u64, size: usize) -> Self {
        // INVARIANT: `is_promised` is false.
        SpecialPurpose {
            start,
            size,
            is_promised: false,
        }
    }

    /// Describes such memory, or memory that the kernel's command line reserves: "Reserved" in /proc/iomem, as with
    /// `memmap=SIZE$ADDRESS`. For any other range, [`super::Pagemap::new`] fails. It also fails if a driver or a bus
    /// has the range, or if firmware tables or the configuration space of PCI are in it, as far as the kernel knows.
    ///
    /// # Safety
    ///
    /// If all of the range is reserved, it must be memory, and nobody may use it, including the firmware. Firmware
    /// marks its own memory and device registers as reserved too, and a module cannot tell them apart: it has no access
    /// to the firmware's memory map.
    pub unsafe fn reserved(start: u64, size: usize) -> Self {
        // INVARIANT: By the requirements of this function.
        SpecialPurpose {
            start,
            size,
            is_promised: true,
        }
    }

    /// As [`SpecialPurpose::reserved`], with the address and the number of MiB from parameters of a module. The user
    /// who sets these at insmod makes the promise. Being allowed to load modules, that user can do anything to the
    /// kernel anyway.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the size does not fit in an address.
    ///
    /// # Safety
    ///
    /// The address must default to 0, and the description of the parameter must say what setting it promises.
    pub unsafe fn by_parameters(
        start: &'static ModuleParamAccess<u64>,
        size_mib: &'static ModuleParamAccess<u64>,
    ) -> Result<Self> {
        let size = bytes(size_mib.value())?;
        // SAFETY: `request` fails for the address 0. By the requirements of this function, any other address was set
        // by the user who loaded the module, who promises what is required.
        Ok(unsafe { Self::reserved(start.value(), size) })
    }

    /// Returns the first physical address.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Returns the size in bytes.
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
        // The core does not check that there is memory at these addresses.
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

/// The type of a pagemap's memory, and where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Private: page frame numbers in a hole of the physical address space. C: `MEMORY_DEVICE_PRIVATE`.
    Private,
    /// Coherent: real memory. C: `MEMORY_DEVICE_COHERENT`.
    Coherent(SpecialPurpose),
}

/// The physical address range of a pagemap: a resource that is released on drop.
///
/// It is dropped after `memunmap_pages()`: `PinnedDrop` of [`super::Pagemap`] calls that, and fields are dropped
/// after it.
///
/// # Invariants
///
/// The `requested` bytes from `start` on are a resource of ours, of which the pagemap uses the first `size`. A hole
/// consists of whole memory sections, so it may be larger than `size`.
pub(super) struct Region {
    pub(super) start: u64,
    pub(super) size: usize,
    requested: u64,
}

/// The number of unusable holes after which the search for another one ends; chosen.
const HOLES: usize = 256;

impl Region {
    /// Requests a range. `name` is its name in /proc/iomem.
    pub(super) fn new(memory: Memory, size: usize, name: &'static CStr) -> Result<Self> {
        match memory {
            Memory::Private => Region::unspoilt_hole(size, name),
            Memory::Coherent(memory) if memory.size == size => memory.request(name),
            Memory::Coherent(_) => Err(EINVAL),
        }
    }

    /// Requests a hole in which the core can make device memory. If that failed before because memory was short, it
    /// always fails there: a part of the struct pages was not freed (K25 in docs/defects.md).
    fn unspoilt_hole(size: usize, name: &'static CStr) -> Result<Self> {
        // Unusable holes stay requested until another one is found: otherwise the kernel would return the same again.
        let mut spoilt = KVec::new();
        loop {
            let hole = Region::hole(size, name)?;
            // SAFETY: This only reads which memory sections are present.
            if !unsafe { bindings::rust_dmirror_region_has_pages(hole.start, hole.requested) } {
                return Ok(hole);
            }
            if spoilt.len() == HOLES {
                return Err(ENOMEM);
            }
            spoilt.push(hole, GFP_KERNEL)?;
        }
    }

    /// Requests the highest hole in the physical address space that is large enough.
    fn hole(size: usize, name: &'static CStr) -> Result<Self> {
        // SAFETY: The name is a static string.
        let resource = kernel::error::from_err_ptr(unsafe {
            bindings::rust_dmirror_request_free_region(size, name.as_char_ptr())
        })?;
        if resource.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: The region was just requested and is not released before drop.
        let (start, end) = unsafe { ((*resource).start, (*resource).end) };
        // INVARIANT: The region was just requested and has at least `size` bytes.
        Ok(Region {
            start,
            size,
            requested: end - start + 1,
        })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the region is ours. Nothing uses it any more.
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
