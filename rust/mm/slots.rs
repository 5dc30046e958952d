// SPDX-License-Identifier: GPL-2.0

//! The allocator of a range of device memory: which pages are in use, and who owns them.
//!
//! Device folios have one of two orders, so the range is an array of huge blocks. Each is free, in use as one huge
//! folio, or handed out page by page. When the last page of a block is freed, the whole block is free again. All
//! pages of a block have the same owner. The pages of one owner are therefore listed and counted without reading
//! those of others, at the cost of at most one partly used block per owner.
//!
//! Pure: nothing here accesses a page. All numbers are pages, counted from the start of the range.

use super::{
    Size,
    HUGE_PAGES, //
};
use core::ops::Range;
use kernel::prelude::*;

const WORD: usize = u64::BITS as usize;
const WORDS: usize = HUGE_PAGES / WORD;

/// The pages of a block that are in use as single pages, one bit each.
struct Bitmap {
    words: [u64; WORDS],
    used: usize,
}

impl Bitmap {
    const EMPTY: Bitmap = Bitmap {
        words: [0; WORDS],
        used: 0,
    };

    const FULL: Bitmap = Bitmap {
        words: [u64::MAX; WORDS],
        used: HUGE_PAGES,
    };

    /// Takes the first run of free pages, `most` at most. Returns its first page and its length.
    fn take(&mut self, most: usize) -> Option<(usize, usize)> {
        let free = |(i, word): (usize, &u64)| {
            let bit = word.trailing_ones() as usize;
            (bit < WORD).then_some(i * WORD + bit)
        };
        let first = self.words.iter().enumerate().find_map(free)?;
        let mut nr = 0;
        while nr < most && first + nr < HUGE_PAGES && !self.contains(first + nr) {
            self.words[(first + nr) / WORD] |= 1 << ((first + nr) % WORD);
            nr += 1;
        }
        self.used += nr;
        (nr > 0).then_some((first, nr))
    }

    fn contains(&self, page: usize) -> bool {
        self.words[page / WORD] & (1 << (page % WORD)) != 0
    }

    /// Frees pages, which all must be in use.
    fn put(&mut self, pages: Range<usize>) {
        self.used -= pages.len();
        for page in pages {
            self.words[page / WORD] &= !(1 << (page % WORD));
        }
    }
}

enum Block<T> {
    Free,
    Huge(T),
    Small(T, Bitmap),
}

impl<T> Block<T> {
    fn owner(&self) -> Option<&T> {
        match self {
            Block::Free => None,
            Block::Huge(owner) | Block::Small(owner, _) => Some(owner),
        }
    }

    fn used(&self) -> usize {
        match self {
            Block::Free => 0,
            Block::Huge(_) => HUGE_PAGES,
            Block::Small(_, map) => map.used,
        }
    }
}

/// The allocator of a range of device memory. `T` is the owner of pages.
pub struct Slots<T> {
    blocks: KVVec<Block<T>>,
    /// The block where the search begins. No page of a block before it was freed since the search moved on. Pages that
    /// were used before are thus preferred, whose backing memory may still exist.
    hint: usize,
    used: usize,
}

impl<T: Clone + PartialEq> Slots<T> {
    /// Makes an allocator of `nr` huge blocks, all free. May sleep.
    pub fn new(nr: usize) -> Result<Self> {
        let mut blocks = KVVec::with_capacity(nr, GFP_KERNEL)?;
        for _ in 0..nr {
            blocks.push(Block::Free, GFP_KERNEL)?;
        }
        Ok(Slots {
            blocks,
            hint: 0,
            used: 0,
        })
    }

    /// Returns the number of pages.
    pub fn total(&self) -> usize {
        self.blocks.len() * HUGE_PAGES
    }

    /// Returns the number of pages in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Returns the number of pages that an owner has in use.
    pub fn used_by(&self, owner: &T) -> usize {
        self.blocks
            .iter()
            .filter(|block| block.owner() == Some(owner))
            .map(Block::used)
            .sum()
    }

    /// Takes a huge block or a single page. Returns its first page.
    pub fn take(&mut self, size: Size, owner: &T) -> Option<usize> {
        if size == Size::Page {
            return self.take_run(1, owner).map(|(first, _)| first);
        }
        let block = self.find(|block| matches!(block, Block::Free))?;
        self.blocks[block] = Block::Huge(owner.clone());
        self.used += HUGE_PAGES;
        Some(block * HUGE_PAGES)
    }

    /// Takes a run of up to `most` single pages of one block. Returns the first page and their number. `None` also if
    /// `most` is 0.
    pub fn take_run(&mut self, most: usize, owner: &T) -> Option<(usize, usize)> {
        if most == 0 {
            return None;
        }
        let has_room = |block: &Block<T>| match block {
            Block::Small(is, map) => map.used < HUGE_PAGES && is == owner,
            _ => false,
        };
        // Prefers a block that already has single pages, to keep free blocks for huge folios.
        let block = self
            .find(has_room)
            .or_else(|| self.find(|block| matches!(block, Block::Free)))?;
        self.hint = block;
        if let Block::Free = self.blocks[block] {
            self.blocks[block] = Block::Small(owner.clone(), Bitmap::EMPTY);
        }
        let Block::Small(_, map) = &mut self.blocks[block] else {
            return None;
        };
        let (first, nr) = map.take(most)?;
        self.used += nr;
        Some((block * HUGE_PAGES + first, nr))
    }

    fn find(&self, is: impl Fn(&Block<T>) -> bool) -> Option<usize> {
        let (before, after) = self.blocks.split_at(self.hint.min(self.blocks.len()));
        after
            .iter()
            .position(&is)
            .map(|at| at + before.len())
            .or_else(|| before.iter().position(&is))
    }

    /// Frees the `nr` pages from `first` on: a huge block, or single pages of one block. If that frees the whole block,
    /// returns its owner, so that the caller can drop it where that is allowed.
    ///
    /// # Errors
    ///
    /// `EINVAL` if one of them is not in use in that way. Then none is freed.
    pub fn put(&mut self, first: usize, nr: usize) -> Result<Option<T>> {
        let at = first / HUGE_PAGES;
        let block = self.blocks.get_mut(at).ok_or(EINVAL)?;
        match block {
            Block::Huge(_) if first % HUGE_PAGES == 0 && nr == HUGE_PAGES => {
                self.used -= HUGE_PAGES;
                self.hint = self.hint.min(at);
            }
            Block::Free | Block::Huge(_) => return Err(EINVAL),
            Block::Small(_, map) => {
                let start = first % HUGE_PAGES;
                if nr > HUGE_PAGES - start {
                    return Err(EINVAL);
                }
                let pages = start..start + nr;
                // All are checked before any is freed: an error in between could leave an empty block with an owner.
                if !pages.clone().all(|page| map.contains(page)) {
                    return Err(EINVAL);
                }
                map.put(pages);
                self.used -= nr;
                self.hint = self.hint.min(at);
                if map.used > 0 {
                    return Ok(None);
                }
            }
        }
        match core::mem::replace(block, Block::Free) {
            Block::Huge(owner) | Block::Small(owner, _) => Ok(Some(owner)),
            Block::Free => Ok(None),
        }
    }

    /// Turns a huge block in use into one whose pages are all in use as single pages.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `first` is not the first page of such a block.
    pub fn split(&mut self, first: usize) -> Result {
        let block = self.blocks.get_mut(first / HUGE_PAGES).ok_or(EINVAL)?;
        match block {
            Block::Huge(owner) if first % HUGE_PAGES == 0 => {
                *block = Block::Small(owner.clone(), Bitmap::FULL);
                Ok(())
            }
            _ => Err(EINVAL),
        }
    }

    /// Returns whether a block is free.
    pub fn has_free_block(&self) -> bool {
        self.find(|block| matches!(block, Block::Free)).is_some()
    }

    /// Returns whether no page of a block is in use.
    pub fn is_free(&self, block: usize) -> bool {
        matches!(self.blocks.get(block), Some(Block::Free))
    }

    /// Returns the first page and the size of the first folio in use at or after `from`. If an owner is given, of
    /// the first folio of that owner.
    pub fn next_used(&self, from: usize, owner: Option<&T>) -> Option<(usize, Size)> {
        let mut page = from;
        while let Some(block) = self.blocks.get(page / HUGE_PAGES) {
            let is_other = owner.is_some() && block.owner() != owner;
            match block {
                _ if is_other => page = (page / HUGE_PAGES + 1) * HUGE_PAGES,
                Block::Huge(_) if page % HUGE_PAGES == 0 => return Some((page, Size::Huge)),
                Block::Small(_, map) if map.contains(page % HUGE_PAGES) => {
                    return Some((page, Size::Page))
                }
                Block::Small(..) => page += 1,
                Block::Huge(_) | Block::Free => page = (page / HUGE_PAGES + 1) * HUGE_PAGES,
            }
        }
        None
    }
}

#[kunit_tests(rust_dmirror_slots)]
mod tests {
    use super::*;

    const ME: u8 = 1;
    const OTHER: u8 = 2;

    #[test]
    fn huge_blocks_until_exhausted() -> Result {
        let mut slots = Slots::<u8>::new(2)?;
        let a = slots.take(Size::Huge, &ME);
        let b = slots.take(Size::Huge, &ME);
        assert!(a != b && a.is_some() && b.is_some());
        assert_eq!(slots.take(Size::Huge, &ME), None);
        assert_eq!(slots.take(Size::Page, &ME), None);
        assert_eq!(slots.used(), slots.total());
        slots.put(a.ok_or(ENOENT)?, HUGE_PAGES)?;
        assert_eq!(slots.take(Size::Huge, &ME), a);
        Ok(())
    }

    #[test]
    fn small_pages_merge_to_a_block() -> Result {
        let mut slots = Slots::<u8>::new(1)?;
        for _ in 0..HUGE_PAGES {
            assert!(slots.take(Size::Page, &ME).is_some());
        }
        assert_eq!(slots.take(Size::Page, &ME), None);
        assert_eq!(slots.take(Size::Huge, &ME), None);
        for page in (0..HUGE_PAGES).rev() {
            assert!(!slots.is_free(0));
            slots.put(page, 1)?;
        }
        assert!(slots.is_free(0));
        assert_eq!(slots.take(Size::Huge, &ME), Some(0));
        Ok(())
    }

    #[test]
    fn small_pages_share_a_block() -> Result {
        let mut slots = Slots::<u8>::new(3)?;
        let first = slots.take(Size::Page, &ME).ok_or(ENOENT)?;
        assert_eq!(slots.take(Size::Huge, &ME), Some(HUGE_PAGES));
        let second = slots.take(Size::Page, &ME).ok_or(ENOENT)?;
        assert_eq!(first / HUGE_PAGES, second / HUGE_PAGES);
        assert_eq!(slots.take(Size::Huge, &ME), Some(2 * HUGE_PAGES));
        assert_eq!(slots.take(Size::Huge, &ME), None);
        assert_eq!(slots.used(), 2 * HUGE_PAGES + 2);
        Ok(())
    }

    #[test]
    fn what_was_used_before_is_used_first() -> Result {
        let mut slots = Slots::<u8>::new(4)?;
        for size in [Size::Page, Size::Huge] {
            for _ in 0..3 {
                let mut taken = KVec::new();
                for _ in 0..2 {
                    let first = match size {
                        Size::Huge => slots.take(Size::Huge, &ME),
                        Size::Page => slots.take_run(HUGE_PAGES, &ME).map(|(first, _)| first),
                    };
                    taken.push(first.ok_or(ENOENT)?, GFP_KERNEL)?;
                }
                assert_eq!(taken.as_slice(), [0, HUGE_PAGES]);
                for first in &taken {
                    slots.put(*first, HUGE_PAGES)?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn runs_end_at_what_is_in_use_and_at_the_block() -> Result {
        let mut slots = Slots::<u8>::new(2)?;
        assert_eq!(slots.take_run(0, &ME), None);
        assert_eq!(slots.take_run(70, &ME), Some((0, 70)));
        assert_eq!(slots.take_run(1, &ME), Some((70, 1)));
        slots.put(3, 60)?;
        assert_eq!(slots.used(), 11);
        // The pages behind the gap are in use. After them come pages that were never used.
        assert_eq!(slots.take_run(100, &ME), Some((3, 60)));
        assert_eq!(slots.take_run(usize::MAX, &ME), Some((71, HUGE_PAGES - 71)));
        assert_eq!(slots.used_by(&ME), HUGE_PAGES);
        assert_eq!(
            slots.take_run(usize::MAX, &ME),
            Some((HUGE_PAGES, HUGE_PAGES))
        );
        assert_eq!(slots.take_run(1, &ME), None);
        assert_eq!(slots.used(), slots.total());
        Ok(())
    }

    #[test]
    fn split_block_comes_back_page_by_page() -> Result {
        let mut slots = Slots::<u8>::new(1)?;
        assert_eq!(slots.split(0), Err(EINVAL));
        let huge = slots.take(Size::Huge, &ME).ok_or(ENOENT)?;
        assert_eq!(slots.put(huge, 1), Err(EINVAL));
        assert_eq!(slots.split(huge + 1), Err(EINVAL));
        slots.split(huge)?;
        assert_eq!(slots.used(), HUGE_PAGES);
        assert_eq!(slots.split(huge), Err(EINVAL));
        slots.put(huge, 1)?;
        assert_eq!(slots.take(Size::Page, &ME), Some(huge));
        slots.put(huge, HUGE_PAGES)?;
        assert!(slots.is_free(0));
        assert_eq!(slots.used(), 0);
        Ok(())
    }

    #[test]
    fn what_is_not_in_use_cannot_be_put() -> Result {
        let mut slots = Slots::<u8>::new(2)?;
        assert_eq!(slots.put(0, 1), Err(EINVAL));
        assert_eq!(slots.put(0, HUGE_PAGES), Err(EINVAL));
        assert_eq!(slots.put(2 * HUGE_PAGES, 1), Err(EINVAL));
        let page = slots.take(Size::Page, &ME).ok_or(ENOENT)?;
        slots.put(page, 1)?;
        assert_eq!(slots.put(page, 1), Err(EINVAL));
        let page = slots.take(Size::Page, &ME).ok_or(ENOENT)?;
        assert_eq!(slots.put(page + 1, 1), Err(EINVAL));
        assert_eq!(slots.put(page, HUGE_PAGES + 1), Err(EINVAL));
        // If one page is not in use, the pages before it are not freed either.
        assert_eq!(slots.put(page, 2), Err(EINVAL));
        assert_eq!(slots.put(page, 1)?, Some(ME));
        assert!(slots.is_free(0));
        Ok(())
    }

    #[test]
    fn walk_finds_folios_in_use() -> Result {
        let mut slots = Slots::<u8>::new(3)?;
        assert_eq!(slots.next_used(0, None), None);
        let small = slots.take(Size::Page, &ME).ok_or(ENOENT)?;
        let huge = slots.take(Size::Huge, &ME).ok_or(ENOENT)?;
        assert_eq!(slots.next_used(0, None), Some((small, Size::Page)));
        assert_eq!(slots.next_used(small + 1, None), Some((huge, Size::Huge)));
        assert_eq!(slots.next_used(huge + 1, None), None);
        Ok(())
    }

    #[test]
    fn blocks_have_one_owner() -> Result {
        let mut slots = Slots::<u8>::new(3)?;
        let mine = slots.take(Size::Page, &ME).ok_or(ENOENT)?;
        let theirs = slots.take(Size::Page, &OTHER).ok_or(ENOENT)?;
        assert!(mine / HUGE_PAGES != theirs / HUGE_PAGES);
        assert_eq!(slots.take(Size::Page, &ME), Some(mine + 1));
        let huge = slots.take(Size::Huge, &ME).ok_or(ENOENT)?;
        assert_eq!(slots.used_by(&ME), HUGE_PAGES + 2);
        assert_eq!(slots.used_by(&OTHER), 1);
        assert_eq!(slots.next_used(0, Some(&OTHER)), Some((theirs, Size::Page)));
        assert_eq!(slots.next_used(theirs + 1, Some(&OTHER)), None);
        // No block is free, and free pages in another owner's block are not given away.
        assert_eq!(slots.take(Size::Page, &3), None);
        slots.split(huge)?;
        assert_eq!(
            slots.next_used(huge + 7, Some(&ME)),
            Some((huge + 7, Size::Page))
        );
        assert_eq!(slots.put(huge, HUGE_PAGES - 1)?, None);
        assert_eq!(slots.put(huge + HUGE_PAGES - 1, 1)?, Some(ME));
        assert_eq!(slots.put(theirs, 1)?, Some(OTHER));
        Ok(())
    }
}
