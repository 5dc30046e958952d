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

/// A mapping, between reserved ranges so that no neighbour merges with its VMA.
///
/// The device, other threads and other mappings write to it, so it is never borrowed as a slice;
/// single words are read and written.
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
        // One byte further, then rounded up: never at the very start of the reservation.
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

    /// `n` huge pages, of which none exists yet.
    pub fn huge(n: usize) -> Result<Area> {
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        Area::anonymous(n * HUGE, prot, MmapAdvise::MADV_HUGEPAGE)
    }

    /// Small pages, of which none exists yet.
    pub fn small(npages: usize) -> Result<Area> {
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        Area::anonymous(npages, prot, MmapAdvise::MADV_NOHUGEPAGE)
    }

    /// A huge page of system memory for each 2 MiB, filled with the pattern of `seed`.
    pub fn filled(n: usize, seed: u64) -> Result<Area> {
        let area = Area::huge(n)?;
        area.fill(seed);
        let huge = smaps::of(area.base, area.size())?.anon_huge;
        if huge != area.npages {
            // Memory was too fragmented at the fault; the kernel may still find some.
            area.collapse().context("no huge page to be had")?;
        }
        Ok(area)
    }

    /// Small pages filled with the pattern of `seed`.
    pub fn filled_small(npages: usize, seed: u64) -> Result<Area> {
        let area = Area::small(npages)?;
        area.fill(seed);
        Ok(area)
    }

    /// A mapping of a file in place of anonymous memory.
    pub fn file(npages: usize, file: impl AsFd, flags: MapFlags) -> Result<Area> {
        let area = Area::reserve(npages)?;
        area.map_file(0, npages, file, flags)?;
        Ok(area)
    }

    /// The same for some of the pages.
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
        // SAFETY: replaces a part of the reservation that is nobody else's.
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

    /// Anonymous memory of a kind that the kernel may not have.
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

    /// `n` hugetlb pages of `pages` pages each, which nobody has touched. They are not between reserved
    /// ranges: with these, nothing merges.
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

    /// As [`Area::protect`], a part of it.
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

    /// Advice for some of the pages, by its number.
    pub fn advise_pages(&self, first: usize, npages: usize, advice: i32) -> Result<(), Errno> {
        let pointer = self.page(first) as *mut _;
        assert!(first + npages <= self.npages);
        // SAFETY: this area's own pages; callers know what becomes of them.
        Errno::result(unsafe { libc::madvise(pointer, npages * PAGE_SIZE, advice) }).map(drop)
    }

    /// Makes huge pages of what is there.
    pub fn collapse(&self) -> Result<()> {
        self.advise_pages(0, self.npages, libc::MADV_COLLAPSE)
            .context("MADV_COLLAPSE")
    }

    /// Unmaps pages for good; they must not be touched again.
    pub fn unmap(&self, first: usize, npages: usize) -> Result<()> {
        // SAFETY: this area's own pages.
        unsafe { mman::munmap(self.pointer(first)?, npages * PAGE_SIZE) }.context("munmap")
    }

    /// Discards pages; what is read there next is new.
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

    /// Touches every page by reading it.
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

    /// Every word by the CPU, compared with the pattern of `seed`.
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

/// What `word` of `page` holds: different for every word, page and seed.
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

/// Page `first` and following of an area with the pattern of `seed`, as bytes.
pub fn pattern_bytes(seed: u64, first: usize, npages: usize) -> Vec<u8> {
    (first..first + npages)
        .flat_map(|page| (0..WORDS).flat_map(move |word| pattern(seed, page, word).to_ne_bytes()))
        .collect()
}

/// Compares what a device read, beginning at page `first` of an area.
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
