// SPDX-License-Identifier: GPL-2.0

//! The page table of a device: a map of page numbers to words, in leaves of [`HUGE_PAGES`] pages.
//!
//! A leaf has one word for all its pages, or one for each. The table is a cache: it may clear more than was asked
//! for, and setting one page of a huge leaf drops the rest of the leaf. Only [`Spare::new`] allocates memory, since
//! the table is used under a lock that reclaim takes. Pure: the meaning of words is up to the user.

use super::HUGE_PAGES;
use core::{
    num::NonZeroUsize,
    ops::Range, //
};
use kernel::{
    alloc::Flags,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    }, //
};

/// The value that a page is mapped to.
pub type Word = NonZeroUsize;

type Small = KBox<[Option<Word>; HUGE_PAGES]>;

enum Leaf {
    Huge(Word),
    Small(Small),
}

/// Memory for one leaf, which is allocated before the table is locked.
pub struct Spare {
    node: RBTreeNodeReservation<usize, Leaf>,
    small: Small,
}

impl Spare {
    /// Allocates memory for a leaf. May sleep.
    pub fn new() -> Result<Self> {
        Ok(Spare {
            node: charged(RBTreeNodeReservation::new)?,
            // Initialised in place: a page would take up much of the stack.
            small: charged(|flags| KBox::init(pin_init::init_array_from_fn(|_| None), flags))?,
        })
    }
}

/// Allocates with a charge to the caller's memory cgroup, or without one if the cgroup is at its limit, so that the OOM
/// killer is not invoked. The uncharged memory is bounded: each leaf maps at least one page of the process, which is
/// charged.
fn charged<T, E>(
    alloc: impl Fn(Flags) -> core::result::Result<T, E>,
) -> core::result::Result<T, E> {
    let account = GFP_KERNEL_ACCOUNT & !GFP_KERNEL;
    alloc(GFP_NOWAIT | __GFP_NOWARN | account).or_else(|_| alloc(GFP_KERNEL))
}

/// The result of a lookup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    /// The word that covers the page.
    pub word: Word,
    /// The index of the page among the pages that the word covers.
    pub offset: usize,
    /// The number of pages from this one on that the word covers, or whose words count up from it.
    pub nr: usize,
}

/// A device page table.
pub struct Table {
    leaves: RBTree<usize, Leaf>,
}

impl Default for Table {
    /// Makes an empty table.
    fn default() -> Self {
        Table {
            leaves: RBTree::new(),
        }
    }
}

impl Table {
    /// Looks a page up. Returns its word and the length of the run of pages in the same leaf, `most` at most, whose
    /// words count up from it. `None` also if `most` is 0.
    pub fn run(&self, page: usize, most: usize) -> Option<Hit> {
        let offset = page % HUGE_PAGES;
        let most = most.min(HUGE_PAGES - offset);
        match self.leaves.get(&(page / HUGE_PAGES))? {
            Leaf::Huge(word) => (most > 0).then_some(Hit {
                word: *word,
                offset,
                nr: most,
            }),
            Leaf::Small(words) => {
                let words = &words[offset..offset + most];
                let word = (*words.first()?)?;
                // After the largest word, `checked_add` is `None`, which must not match a page without a word.
                let follows = |(at, next): (usize, &Option<Word>)| {
                    next.is_some() && *next == word.checked_add(at)
                };
                Some(Hit {
                    word,
                    offset: 0,
                    nr: words
                        .iter()
                        .enumerate()
                        .take_while(|pair| follows(*pair))
                        .count(),
                })
            }
        }
    }

    /// Maps the whole leaf that contains `page` to one word.
    pub fn set_huge(&mut self, page: usize, word: Word, spare: &mut Option<Spare>) -> Result {
        let key = page / HUGE_PAGES;
        match self.leaves.get_mut(&key) {
            Some(leaf) => *leaf = Leaf::Huge(word),
            None => {
                let spare = spare.take().ok_or(ENOMEM)?;
                self.leaves
                    .insert(spare.node.into_node(key, Leaf::Huge(word)));
            }
        }
        Ok(())
    }

    /// Maps the pages from `page` on for which there is a word. They must be in one leaf. A page keeps its word if
    /// `stays` returns true for it. Takes `spare` if it needs memory, and fails with `ENOMEM` if there is none.
    pub fn set_all(
        &mut self,
        page: usize,
        words: impl Iterator<Item = Option<Word>>,
        stays: impl Fn(Word) -> bool,
        spare: &mut Option<Spare>,
    ) -> Result {
        let mut words = words.enumerate().filter_map(|(at, word)| Some((at, word?)));
        let mut next = words.next();
        // Makes no leaf if there is nothing to store.
        if next.is_none() {
            return Ok(());
        }
        let leaf = self.small_leaf(page / HUGE_PAGES, spare)?;
        while let Some((at, word)) = next {
            let slot = leaf.get_mut(page % HUGE_PAGES + at).ok_or(EINVAL)?;
            if !slot.is_some_and(&stays) {
                *slot = Some(word);
            }
            next = words.next();
        }
        Ok(())
    }

    fn small_leaf(
        &mut self,
        key: usize,
        spare: &mut Option<Spare>,
    ) -> Result<&mut [Option<Word>; HUGE_PAGES]> {
        match self.leaves.get_mut(&key) {
            Some(Leaf::Small(_)) => {}
            Some(leaf) => *leaf = Leaf::Small(spare.take().ok_or(ENOMEM)?.small),
            None => {
                let Spare { node, small } = spare.take().ok_or(ENOMEM)?;
                self.leaves.insert(node.into_node(key, Leaf::Small(small)));
            }
        }
        match self.leaves.get_mut(&key) {
            Some(Leaf::Small(words)) => Ok(words),
            _ => Err(EINVAL),
        }
    }

    /// Removes the words of `pages`. A huge leaf that is covered in part is removed as a whole.
    pub fn clear(&mut self, pages: Range<usize>) {
        if pages.is_empty() {
            return;
        }
        let key = pages.start / HUGE_PAGES;
        let first = key * HUGE_PAGES;
        let is_part = pages.end <= first + HUGE_PAGES && pages.len() < HUGE_PAGES;
        if !is_part {
            return self.clear_leaves(pages);
        }
        // The most frequent case: a few pages of one leaf.
        match self.leaves.get_mut(&key) {
            Some(Leaf::Small(words)) => words[pages.start - first..pages.end - first].fill(None),
            Some(Leaf::Huge(_)) => drop(self.leaves.remove(&key)),
            None => {}
        }
    }

    fn clear_leaves(&mut self, pages: Range<usize>) {
        let mut cursor = self
            .leaves
            .cursor_lower_bound_mut(&(pages.start / HUGE_PAGES));
        while let Some(mut at) = cursor {
            let (key, leaf) = at.current_mut();
            let first = *key * HUGE_PAGES;
            // After the last leaf is removed, the cursor moves back to one before the range.
            if first >= pages.end || first + HUGE_PAGES <= pages.start {
                return;
            }
            let covered = pages.start <= first && first + HUGE_PAGES <= pages.end;
            match leaf {
                Leaf::Small(words) if !covered => {
                    let from = pages.start.saturating_sub(first);
                    let to = (pages.end - first).min(HUGE_PAGES);
                    words[from..to].fill(None);
                    cursor = at.move_next();
                }
                _ => cursor = at.remove_current().0,
            }
        }
    }
}

#[kunit_tests(rust_dmirror_table)]
mod tests {
    use super::*;

    fn word(value: usize) -> Word {
        Word::new(value).unwrap_or(Word::MIN)
    }

    fn spare() -> Result<Option<Spare>> {
        Ok(Some(Spare::new()?))
    }

    fn word_at(table: &Table, page: usize) -> Option<(usize, usize)> {
        table.run(page, 1).map(|hit| (hit.word.get(), hit.offset))
    }

    fn set(table: &mut Table, page: usize, value: usize, spare: &mut Option<Spare>) -> Result {
        table.set_all(page, [Some(word(value))].into_iter(), |_| false, spare)
    }

    #[test]
    fn pages_are_found_one_by_one() -> Result {
        let mut table = Table::default();
        set(&mut table, 7, 70, &mut spare()?)?;
        set(&mut table, 8, 80, &mut None)?;
        assert_eq!(word_at(&table, 6), None);
        assert_eq!(word_at(&table, 7), Some((70, 0)));
        assert_eq!(word_at(&table, 8), Some((80, 0)));
        assert_eq!(word_at(&table, 7 + HUGE_PAGES), None);
        table.clear(7..8);
        assert_eq!(word_at(&table, 7), None);
        assert_eq!(word_at(&table, 8), Some((80, 0)));
        Ok(())
    }

    #[test]
    fn a_huge_leaf_answers_for_its_pages() -> Result {
        let mut table = Table::default();
        table.set_huge(HUGE_PAGES + 3, word(5), &mut spare()?)?;
        assert_eq!(word_at(&table, HUGE_PAGES - 1), None);
        assert_eq!(word_at(&table, HUGE_PAGES), Some((5, 0)));
        assert_eq!(
            word_at(&table, 2 * HUGE_PAGES - 1),
            Some((5, HUGE_PAGES - 1))
        );
        assert_eq!(word_at(&table, 2 * HUGE_PAGES), None);
        Ok(())
    }

    #[test]
    fn clearing_the_last_leaf_leaves_the_one_before() -> Result {
        let mut table = Table::default();
        table.set_huge(0, word(5), &mut spare()?)?;
        table.set_huge(HUGE_PAGES, word(6), &mut spare()?)?;
        table.clear(HUGE_PAGES..3 * HUGE_PAGES);
        assert_eq!(word_at(&table, 0), Some((5, 0)));
        assert_eq!(word_at(&table, HUGE_PAGES), None);
        Ok(())
    }

    #[test]
    fn clearing_part_of_a_huge_leaf_forgets_it() -> Result {
        let mut table = Table::default();
        table.set_huge(0, word(5), &mut spare()?)?;
        table.set_huge(HUGE_PAGES, word(6), &mut spare()?)?;
        table.clear(5..5);
        assert_eq!(word_at(&table, 0), Some((5, 0)));
        table.clear(HUGE_PAGES - 1..HUGE_PAGES);
        assert_eq!(word_at(&table, 0), None);
        assert_eq!(word_at(&table, HUGE_PAGES), Some((6, 0)));
        Ok(())
    }

    #[test]
    fn a_range_is_cleared_across_leaves() -> Result {
        let mut table = Table::default();
        for leaf in 0..4 {
            set(&mut table, leaf * HUGE_PAGES + 10, leaf + 1, &mut spare()?)?;
        }
        table.set_huge(4 * HUGE_PAGES, word(9), &mut spare()?)?;
        table.clear(11..3 * HUGE_PAGES + 10);
        assert_eq!(word_at(&table, 10), Some((1, 0)));
        assert_eq!(word_at(&table, HUGE_PAGES + 10), None);
        assert_eq!(word_at(&table, 2 * HUGE_PAGES + 10), None);
        assert_eq!(word_at(&table, 3 * HUGE_PAGES + 10), Some((4, 0)));
        table.clear(0..usize::MAX);
        assert_eq!(word_at(&table, 10), None);
        assert_eq!(word_at(&table, 4 * HUGE_PAGES), None);
        Ok(())
    }

    #[test]
    fn parts_of_a_leaf_are_cleared_up_to_its_end() -> Result {
        let mut table = Table::default();
        let words = || (1..=HUGE_PAGES).map(Word::new);
        for leaf in 0..2 {
            table.set_all(leaf * HUGE_PAGES, words(), |_| false, &mut spare()?)?;
        }
        table.clear(1..3);
        table.clear(HUGE_PAGES - 1..HUGE_PAGES);
        // Empty ranges, and a range without a leaf.
        table.clear(5..5);
        table.clear(Range { start: 6, end: 4 });
        table.clear(3 * HUGE_PAGES + 1..3 * HUGE_PAGES + 2);
        let gone = (0..2 * HUGE_PAGES).filter(|page| word_at(&table, *page).is_none());
        assert!(gone.eq([1, 2, HUGE_PAGES - 1]));
        table.clear(HUGE_PAGES..2 * HUGE_PAGES);
        assert_eq!(word_at(&table, HUGE_PAGES), None);
        assert_eq!(word_at(&table, 0), Some((1, 0)));
        Ok(())
    }

    #[test]
    fn small_replaces_huge_and_back() -> Result {
        let mut table = Table::default();
        table.set_huge(0, word(5), &mut spare()?)?;
        assert_eq!(set(&mut table, 3, 6, &mut None), Err(ENOMEM));
        assert_eq!(word_at(&table, 3), Some((5, 3)));
        set(&mut table, 3, 6, &mut spare()?)?;
        assert_eq!(word_at(&table, 3), Some((6, 0)));
        assert_eq!(word_at(&table, 4), None);
        table.set_huge(4, word(7), &mut None)?;
        assert_eq!(word_at(&table, 3), Some((7, 3)));
        assert_eq!(table.set_huge(HUGE_PAGES, word(8), &mut None), Err(ENOMEM));
        Ok(())
    }

    #[test]
    fn runs_end_where_words_do_not_follow() -> Result {
        let mut table = Table::default();
        let words = [10, 11, 12, 14, 0, 16].map(Word::new);
        table.set_all(2, words.into_iter(), |_| false, &mut spare()?)?;
        let last = [usize::MAX - 1, usize::MAX, 0, 1].map(Word::new);
        table.set_all(20, last.into_iter(), |_| false, &mut None)?;
        let length = |page, most| table.run(page, most).map(|hit| hit.nr);
        assert_eq!(length(2, 9), Some(3));
        assert_eq!(length(3, 9), Some(2));
        assert_eq!(length(2, 2), Some(2));
        assert_eq!(length(2, 0), None);
        assert_eq!(length(5, 9), Some(1));
        assert_eq!(length(6, 9), None);
        assert_eq!(length(20, 9), Some(2));
        Ok(())
    }

    #[test]
    fn some_words_stay() -> Result {
        let mut table = Table::default();
        let words = |first: usize| (first..first + 3).map(Word::new);
        let stays = |word: Word| word.get() == 11;
        table.set_all(2, words(10), stays, &mut spare()?)?;
        table.set_all(2, words(20), stays, &mut None)?;
        let found = [2, 3, 4].map(|page| word_at(&table, page).map(|(word, _)| word));
        assert_eq!(found, [Some(20), Some(11), Some(22)]);
        Ok(())
    }

    #[test]
    fn a_run_ends_with_its_leaf() -> Result {
        let mut table = Table::default();
        table.set_huge(0, word(5), &mut spare()?)?;
        set(&mut table, HUGE_PAGES, 5 + HUGE_PAGES, &mut spare()?)?;
        let length = |page, most| table.run(page, most).map(|hit| hit.nr);
        assert_eq!(length(1, usize::MAX), Some(HUGE_PAGES - 1));
        assert_eq!(length(1, 3), Some(3));
        assert_eq!(length(1, 0), None);
        assert_eq!(
            table.set_all(1, [None].into_iter(), |_| false, &mut None),
            Ok(())
        );
        let too_long = (0..HUGE_PAGES + 1).map(|_| Some(word(1)));
        assert_eq!(
            table.set_all(HUGE_PAGES, too_long, |_| false, &mut None),
            Err(EINVAL)
        );
        Ok(())
    }
}
