// SPDX-License-Identifier: GPL-2.0

//! Page-table entries, as `/proc/self/pagemap` shows them. Device-private entries look like swap entries.

use std::{fs::File, os::unix::fs::FileExt, sync::LazyLock};

use anyhow::{Context, Result};

use crate::device::PAGE_SIZE;

/// The number of bits of a swap entry that hold its type (`MAX_SWAPFILES_SHIFT`).
const SWAP_TYPE_BITS: u32 = 5;

/// An entry; see Documentation/admin-guide/mm/pagemap.rst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    /// Returns whether it maps system memory.
    pub fn present(self) -> bool {
        self.0 & (1 << 63) != 0
    }

    /// Returns whether it is a swap, migration or device-private entry.
    pub fn swap(self) -> bool {
        self.0 & (1 << 62) != 0
    }

    /// Returns whether the page was written since the last write to `clear_refs`, as far as the kernel knows.
    pub fn soft_dirty(self) -> bool {
        self.0 & (1 << 55) != 0
    }

    /// Returns whether it is protected by userfaultfd.
    pub fn uffd_wp(self) -> bool {
        self.0 & (1 << 57) != 0
    }

    /// Returns the page frame number. `None` if there is none, or if this process may not see it.
    pub fn pfn(self) -> Option<u64> {
        let frame = self.0 & ((1 << 55) - 1);
        let pfn = if self.present() {
            frame
        } else {
            frame >> SWAP_TYPE_BITS
        };
        (pfn != 0).then_some(pfn)
    }
}

/// Returns the entries of `npages` pages from `addr` on.
pub fn of(addr: usize, npages: usize) -> Result<Vec<Entry>> {
    let file = File::open("/proc/self/pagemap").context("/proc/self/pagemap")?;
    let mut bytes = vec![0; npages * size_of::<u64>()];
    file.read_exact_at(&mut bytes, (addr / PAGE_SIZE * size_of::<u64>()) as u64)
        .context("/proc/self/pagemap")?;
    Ok(bytes
        .chunks_exact(size_of::<u64>())
        .map(|chunk| {
            let mut word = [0; size_of::<u64>()];
            word.copy_from_slice(chunk);
            Entry(u64::from_ne_bytes(word))
        })
        .collect())
}

/// Returns how often page `pfn` of system memory is mapped, by the kernel's count and not by the driver's. `None`
/// without root, and for memory that `/proc/kpagecount` does not cover.
pub fn mapcount(pfn: u64) -> Option<u64> {
    // Kept open, since callers ask for page after page, and opening it takes most of the time.
    static FILE: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/kpagecount").ok());
    let file = FILE.as_ref()?;
    let mut bytes = [0; size_of::<u64>()];
    file.read_exact_at(&mut bytes, pfn * size_of::<u64>() as u64)
        .ok()?;
    Some(u64::from_ne_bytes(bytes))
}

/// Bits of `/proc/kpageflags`, see Documentation/admin-guide/mm/pagemap.rst.
pub const KPF_COMPOUND: u64 = (1 << 15) | (1 << 16);
pub const KPF_KSM: u64 = 1 << 21;

/// Returns the flags of page `pfn` of system memory, as `/proc/kpageflags` shows them.
pub fn flags(pfn: u64) -> Result<u64> {
    static FILE: LazyLock<Option<File>> = LazyLock::new(|| File::open("/proc/kpageflags").ok());
    let file = FILE.as_ref().context("no /proc/kpageflags")?;
    let mut bytes = [0; size_of::<u64>()];
    file.read_exact_at(&mut bytes, pfn * size_of::<u64>() as u64)
        .context("/proc/kpageflags")?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::area::Area;

    #[test]
    fn entries_are_decoded() {
        let mapped = Entry((1 << 63) | 0x1234);
        assert!(mapped.present() && !mapped.swap());
        assert_eq!(mapped.pfn(), Some(0x1234));
        let device = Entry((1 << 62) | (0x1234 << 5) | 0x1d);
        assert!(device.swap() && !device.present());
        assert_eq!(device.pfn(), Some(0x1234));
        assert!(!Entry(0).present() && !Entry(0).swap());
        assert_eq!(Entry(1 << 63).pfn(), None);
    }

    #[test]
    fn touched_pages_are_present() {
        let area = Area::small(4).unwrap();
        area.set_word(1, 0, 1);
        let entries = of(area.addr(), 4).unwrap();
        assert!(entries[1].present());
        assert!(!entries[0].present() && !entries[2].present());
    }
}
