// SPDX-License-Identifier: GPL-2.0

//! Anonymous memory to migrate: aligned, alone in its VMA, filled with a pattern.

use std::{num::NonZeroUsize, os::fd::AsFd, ptr::NonNull};

use anyhow::{ensure, Context, Result};
use nix::{
    errno::Errno,
    libc,
    sys::mman::{self, MapFlags, MmapAdvise, ProtFlags},
};

use crate::{page::PAGE_SIZE, proc::smaps};

/// Pages of a huge page.
pub const HUGE: usize = 512;
const HUGE_SIZE: usize = HUGE * PAGE_SIZE;
/// Words of a page.
pub const WORDS: usize = PAGE_SIZE / size_of::<u64>();

/// A mapping between reserved ranges, so that its VMA is never merged with a neighbour.
///
/// The device, other threads and other mappings write to it. It is therefore never borrowed as a slice, but read and
/// written by words.
pub struct Area {
    reserved: NonNull<u8>,
    reserved_size: usize,
    base: usize,
    npages: usize,
}

// SAFETY: an address range; all access to it is by volatile words.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

impl Area {
    fn reserve(npages: usize) -> Result<Area> {
        let reserved_size = (npages * PAGE_SIZE).next_multiple_of(HUGE_SIZE) + 2 * HUGE_SIZE;
        let size = NonZeroUsize::new(reserved_size).context("no pages")?;
        // SAFETY: the kernel chooses a free range.
        let reserved = unsafe {
            mman::mmap_anonymous(None, size, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE)
        }
        .context("mmap")?
        .cast::<u8>();
        // Rounded up from one byte further, so that there is a reserved range before the mapping as well.
        let base = (reserved.as_ptr() as usize + 1).next_multiple_of(HUGE_SIZE);
        Ok(Area {
            reserved,
            reserved_size,
            base,
            npages,
        })
    }

    fn anonymous(npages: usize, prot: ProtFlags, advice: MmapAdvise) -> Result<Area> {
        let area = Area::reserve(npages)?;
        area.protect(prot)?;
        area.advise(advice)?;
        Ok(area)
    }

    /// Maps `n` huge pages, none of which is allocated yet.
    pub fn huge(n: usize) -> Result<Area> {
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        Area::anonymous(n * HUGE, prot, MmapAdvise::MADV_HUGEPAGE)
    }

    /// Maps small pages, none of which is allocated yet.
    pub fn small(npages: usize) -> Result<Area> {
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        Area::anonymous(npages, prot, MmapAdvise::MADV_NOHUGEPAGE)
    }

    /// Maps huge pages of system memory, filled with the pattern of `seed`.
    pub fn filled(n: usize, seed: u64) -> Result<Area> {
        let area = Area::huge(n)?;
        area.fill(seed);
        let huge = smaps::of(area.base, area.size())?.anon_huge;
        if huge != area.npages {
            // The fault found no huge page, because memory was fragmented. MADV_COLLAPSE tries harder.
            area.collapse().context("no huge page to be had")?;
        }
        Ok(area)
    }

    /// Maps small pages, filled with the pattern of `seed`.
    pub fn filled_small(npages: usize, seed: u64) -> Result<Area> {
        let area = Area::small(npages)?;
        area.fill(seed);
        Ok(area)
    }

    /// Maps a file in place of the anonymous memory.
    pub fn file(npages: usize, file: impl AsFd, flags: MapFlags) -> Result<Area> {
        let area = Area::reserve(npages)?;
        area.map_file(0, npages, file, flags)?;
        Ok(area)
    }

    /// As [`Area::map_file`], for some of the pages.
    pub fn map_file(
        &self,
        first: usize,
        npages: usize,
        file: impl AsFd,
        flags: MapFlags,
    ) -> Result<()> {
        ensure!(first + npages <= self.npages, "no such pages");
        let size = NonZeroUsize::new(npages * PAGE_SIZE).context("no pages")?;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: replaces a part of this area's reservation.
        unsafe {
            mman::mmap(
                NonZeroUsize::new(self.page(first)),
                size,
                prot,
                flags | MapFlags::MAP_FIXED,
                file,
                0,
            )
        }
        .context("mmap of the file")?;
        Ok(())
    }

    /// Maps anonymous memory with flags that the kernel may not support.
    pub fn of_kind(npages: usize, flags: i32) -> Result<Area, Errno> {
        let area = Area::reserve(npages).map_err(|_| Errno::ENOMEM)?;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = flags | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        // SAFETY: as above.
        let done = unsafe { libc::mmap(area.base as *mut _, area.size(), prot, flags, -1, 0) };
        if done == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(area)
    }

    /// Maps `n` hugetlb pages of `pages` pages each, none of which is allocated yet. There are no reserved ranges
    /// around them, since hugetlb VMAs are not merged with others.
    pub fn hugetlb(n: usize, pages: usize, sharing: MapFlags) -> Result<Area> {
        let npages = n * pages;
        let size = npages * PAGE_SIZE;
        let page_size = (pages * PAGE_SIZE).trailing_zeros() as i32;
        let size_flag = MapFlags::from_bits_retain(page_size << libc::MAP_HUGE_SHIFT);
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses a free range.
        let mapped = unsafe {
            mman::mmap_anonymous(
                None,
                NonZeroUsize::new(size).context("no pages")?,
                prot,
                sharing | MapFlags::MAP_HUGETLB | size_flag,
            )
        }
        .context("mmap of hugetlb")?
        .cast::<u8>();
        Ok(Area {
            reserved: mapped,
            reserved_size: size,
            base: mapped.as_ptr() as usize,
            npages,
        })
    }

    pub fn addr(&self) -> usize {
        self.base
    }

    /// Address of page `index`.
    pub fn page(&self, index: usize) -> usize {
        self.base + index * PAGE_SIZE
    }

    pub fn npages(&self) -> usize {
        self.npages
    }

    pub fn size(&self) -> usize {
        self.npages * PAGE_SIZE
    }

    fn pointer(&self, page: usize) -> Result<NonNull<std::ffi::c_void>> {
        ensure!(page < self.npages, "page {page} is not in the area");
        NonNull::new(self.page(page) as *mut _).context("null")
    }

    pub fn protect(&self, prot: ProtFlags) -> Result<()> {
        // SAFETY: this area's own pages; its words are accessed where they may be.
        unsafe { mman::mprotect(self.pointer(0)?, self.size(), prot) }.context("mprotect")
    }

    /// As [`Area::protect`], for a part of the area.
    pub fn protect_pages(&self, first: usize, npages: usize, prot: ProtFlags) -> Result<()> {
        let start = self.pointer(first)?;
        ensure!(first + npages <= self.npages(), "not within the area");
        // SAFETY: as above.
        unsafe { mman::mprotect(start, npages * PAGE_SIZE, prot) }.context("mprotect")
    }

    pub fn advise(&self, advice: MmapAdvise) -> Result<()> {
        // SAFETY: this area's own pages.
        unsafe { mman::madvise(self.pointer(0)?, self.size(), advice) }
            .with_context(|| format!("{advice:?}"))
    }

    /// Calls `madvise()` for some of the pages, with the number of an advice.
    pub fn advise_pages(&self, first: usize, npages: usize, advice: i32) -> Result<(), Errno> {
        let pointer = self.page(first) as *mut _;
        assert!(first + npages <= self.npages);
        // SAFETY: this area's own pages; callers know what becomes of them.
        Errno::result(unsafe { libc::madvise(pointer, npages * PAGE_SIZE, advice) }).map(drop)
    }

    /// Collapses the pages to huge pages.
    pub fn collapse(&self) -> Result<()> {
        self.advise_pages(0, self.npages, libc::MADV_COLLAPSE)
            .context("MADV_COLLAPSE")
    }

    /// Unmaps pages. They must not be accessed again.
    pub fn unmap(&self, first: usize, npages: usize) -> Result<()> {
        // SAFETY: this area's own pages.
        unsafe { mman::munmap(self.pointer(first)?, npages * PAGE_SIZE) }.context("munmap")
    }

    /// Discards pages: the next access finds new ones.
    pub fn discard(&self, first: usize, npages: usize) -> Result<()> {
        let advice = MmapAdvise::MADV_DONTNEED;
        // SAFETY: this area's own pages.
        unsafe { mman::madvise(self.pointer(first)?, npages * PAGE_SIZE, advice) }
            .with_context(|| format!("{advice:?}"))
    }

    /// Reads a word by the CPU.
    pub fn word(&self, page: usize, word: usize) -> u64 {
        assert!(page < self.npages && word < WORDS);
        // SAFETY: in bounds; callers don't touch what they unmapped or protected.
        unsafe { ((self.page(page) as *const u64).add(word)).read_volatile() }
    }

    /// Writes a word by the CPU.
    pub fn set_word(&self, page: usize, word: usize, value: u64) {
        assert!(page < self.npages && word < WORDS);
        // SAFETY: as in `word`.
        unsafe { ((self.page(page) as *mut u64).add(word)).write_volatile(value) }
    }

    /// Reads a word of each page.
    pub fn touch(&self) {
        for page in 0..self.npages {
            self.word(page, 0);
        }
    }

    /// Writes the pattern of `seed` by the CPU.
    pub fn fill(&self, seed: u64) {
        self.fill_pages(seed, 0, self.npages);
    }

    pub fn fill_pages(&self, seed: u64, first: usize, npages: usize) {
        for page in first..first + npages {
            for word in 0..WORDS {
                self.set_word(page, word, pattern(seed, page, word));
            }
        }
    }

    /// Compares every word, as the CPU reads it, with the pattern of `seed`.
    pub fn verify(&self, seed: u64) -> Result<()> {
        self.verify_pages(seed, 0, self.npages)
    }

    pub fn verify_pages(&self, seed: u64, first: usize, npages: usize) -> Result<()> {
        for page in first..first + npages {
            for word in 0..WORDS {
                compare(seed, page, word, self.word(page, word))?;
            }
        }
        Ok(())
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: the reservation is this area's, and this is its end.
        let _ = unsafe { mman::munmap(self.reserved.cast(), self.reserved_size) };
    }
}

/// Returns the pattern of a word, which is different for each word, page and seed.
pub fn pattern(seed: u64, page: usize, word: usize) -> u64 {
    let index = (page * WORDS + word) as u64 + 1;
    (seed << 40) ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn compare(seed: u64, page: usize, word: usize, seen: u64) -> Result<()> {
    let wanted = pattern(seed, page, word);
    ensure!(
        seen == wanted,
        "data differ in page {page}, word {word}: {seen:#x} instead of {wanted:#x}"
    );
    Ok(())
}

/// Returns the pattern of `seed` for the pages from `first` on, as bytes.
pub fn pattern_bytes(seed: u64, first: usize, npages: usize) -> Vec<u8> {
    (first..first + npages)
        .flat_map(|page| (0..WORDS).flat_map(move |word| pattern(seed, page, word).to_ne_bytes()))
        .collect()
}

/// Compares data that a device has read, from page `first` of an area on, with the pattern.
pub fn verify_bytes(seed: u64, first: usize, data: &[u8]) -> Result<()> {
    for (index, bytes) in data.chunks_exact(size_of::<u64>()).enumerate() {
        let mut word = [0; size_of::<u64>()];
        word.copy_from_slice(bytes);
        let (page, offset) = (first + index / WORDS, index % WORDS);
        compare(seed, page, offset, u64::from_ne_bytes(word))
            .context("what the device read is wrong")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_aligned_and_hold_their_pattern() {
        let area = Area::small(3).unwrap();
        assert_eq!(area.addr() % HUGE_SIZE, 0);
        area.fill(7);
        area.verify(7).unwrap();
        assert!(area.verify(8).is_err());
        verify_bytes(7, 1, &pattern_bytes(7, 1, 2)).unwrap();
        assert!(verify_bytes(7, 0, &pattern_bytes(7, 1, 2)).is_err());
    }

    #[test]
    fn an_area_is_alone_in_its_vma() {
        let area = Area::filled_small(5, 1).unwrap();
        let seen = smaps::of(area.addr(), area.size()).unwrap();
        assert_eq!((seen.rss, seen.anon_huge), (5, 0));
    }
}
