// SPDX-License-Identifier: GPL-2.0

//! `rust/mm/slots.rs` against a list of pages.

use super::seeds_in;
use crate::layer::mm::{
    slots::Slots,
    Size,
    HUGE_PAGES, //
};
use kernel::prelude::*;
use proptest::prelude::*;

const OWNERS: u8 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Page {
    Free,
    Huge(u8),
    Small(u8),
}

#[derive(Clone, Debug)]
enum Op {
    Take(Size, u8),
    TakeRun(usize, u8),
    Put(usize, usize),
    /// Gives a block back as it was taken, which random numbers rarely do.
    PutBlock(usize),
    Split(usize),
}

/// Pages, and where the search for the next begins.
struct Model {
    pages: Vec<Page>,
    hint: usize,
}

impl Model {
    fn blocks(&self) -> Vec<&[Page]> {
        self.pages.chunks(HUGE_PAGES).collect()
    }

    fn owner(block: &[Page]) -> Option<u8> {
        block.iter().find_map(|page| match page {
            Page::Free => None,
            Page::Huge(owner) | Page::Small(owner) => Some(*owner),
        })
    }

    fn is_free(block: &[Page]) -> bool {
        block.iter().all(|page| *page == Page::Free)
    }

    /// The first block like that, from the hint on and then from the start.
    fn find(&self, is: impl Fn(&[Page]) -> bool) -> Option<usize> {
        let nr = self.blocks().len();
        let mut order = (self.hint..nr).chain(0..self.hint.min(nr));
        order.find(|at| is(self.blocks()[*at]))
    }

    fn take_huge(&mut self, owner: u8) -> Option<usize> {
        let first = self.find(Self::is_free)? * HUGE_PAGES;
        self.pages[first..first + HUGE_PAGES].fill(Page::Huge(owner));
        Some(first)
    }

    fn take_run(&mut self, most: usize, owner: u8) -> Option<(usize, usize)> {
        if most == 0 {
            return None;
        }
        let has_room =
            |block: &[Page]| block.contains(&Page::Small(owner)) && block.contains(&Page::Free);
        let block = self.find(has_room).or_else(|| self.find(Self::is_free))?;
        self.hint = block;
        let end = (block + 1) * HUGE_PAGES;
        let first = (block * HUGE_PAGES..end).find(|at| self.pages[*at] == Page::Free)?;
        let run = (first..end).take_while(|at| self.pages[*at] == Page::Free);
        let nr = run.count().min(most);
        self.pages[first..first + nr].fill(Page::Small(owner));
        Some((first, nr))
    }

    fn put(&mut self, first: usize, nr: usize) -> Result<Option<u8>> {
        let block = first / HUGE_PAGES;
        let owner = Self::owner(self.blocks().get(block).ok_or(EINVAL)?).ok_or(EINVAL)?;
        let end = first.checked_add(nr).ok_or(EINVAL)?;
        let is_whole = first % HUGE_PAGES == 0 && nr == HUGE_PAGES;
        if self.pages[first] == Page::Huge(owner) && !is_whole || end > (block + 1) * HUGE_PAGES {
            return Err(EINVAL);
        }
        if self.pages[first..end].contains(&Page::Free) {
            return Err(EINVAL);
        }
        self.pages[first..end].fill(Page::Free);
        self.hint = self.hint.min(block);
        Ok(Self::is_free(self.blocks()[block]).then_some(owner))
    }

    fn split(&mut self, first: usize) -> Result {
        match self.pages.get(first) {
            Some(Page::Huge(owner)) if first % HUGE_PAGES == 0 => {
                let owner = *owner;
                self.pages[first..first + HUGE_PAGES].fill(Page::Small(owner));
                Ok(())
            }
            _ => Err(EINVAL),
        }
    }

    fn used(&self, is: impl Fn(u8) -> bool) -> usize {
        let is_used = |page: &&Page| match page {
            Page::Free => false,
            Page::Huge(owner) | Page::Small(owner) => is(*owner),
        };
        self.pages.iter().filter(is_used).count()
    }

    fn next_used(&self, from: usize, of: Option<u8>) -> Option<(usize, Size)> {
        let is_its = |owner| of.is_none_or(|of| of == owner);
        (from..self.pages.len()).find_map(|at| match self.pages[at] {
            Page::Small(owner) if is_its(owner) => Some((at, Size::Page)),
            Page::Huge(owner) if is_its(owner) && at % HUGE_PAGES == 0 => Some((at, Size::Huge)),
            _ => None,
        })
    }
}

fn sizes() -> impl Strategy<Value = Size> {
    prop_oneof![Just(Size::Page), Just(Size::Huge)]
}

/// A page of up to four blocks, or one that is in none; often near the end of a block.
fn pages() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => (0..5usize, 0..6usize).prop_map(|(block, at)| (block * HUGE_PAGES + at).saturating_sub(3)),
        4 => 0..5 * HUGE_PAGES,
        1 => super::edgy().prop_map(|page| page as usize),
    ]
}

fn numbers() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..4usize,
        4 => 0..HUGE_PAGES + 2,
        2 => HUGE_PAGES - 2..HUGE_PAGES + 2,
        1 => super::edgy().prop_map(|nr| nr as usize),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (sizes(), 0..OWNERS).prop_map(|(size, owner)| Op::Take(size, owner)),
        4 => (numbers(), 0..OWNERS).prop_map(|(most, owner)| Op::TakeRun(most, owner)),
        4 => (pages(), numbers()).prop_map(|(first, nr)| Op::Put(first, nr)),
        2 => (0..5usize).prop_map(Op::PutBlock),
        1 => pages().prop_map(Op::Split),
    ];
    prop::collection::vec(op, 0..40)
}

proptest! {
    #![proptest_config(seeds_in!("slots"))]

    #[test]
    fn answers_as_a_list_of_pages_does(blocks in 0..5usize, ops in ops(), from in pages()) {
        let mut slots = Slots::<u8>::new(blocks).unwrap();
        let mut model = Model { pages: vec![Page::Free; blocks * HUGE_PAGES], hint: 0 };
        prop_assert_eq!(slots.total(), model.pages.len());
        for op in ops {
            match op {
                Op::Take(Size::Huge, owner) => {
                    prop_assert_eq!(slots.take(Size::Huge, &owner), model.take_huge(owner));
                }
                Op::Take(Size::Page, owner) => {
                    let page = model.take_run(1, owner).map(|(first, _)| first);
                    prop_assert_eq!(slots.take(Size::Page, &owner), page);
                }
                Op::TakeRun(most, owner) => {
                    prop_assert_eq!(slots.take_run(most, &owner), model.take_run(most, owner));
                }
                Op::Put(first, nr) => {
                    prop_assert_eq!(slots.put(first, nr), model.put(first, nr));
                }
                Op::PutBlock(block) => {
                    let first = block * HUGE_PAGES;
                    prop_assert_eq!(slots.put(first, HUGE_PAGES), model.put(first, HUGE_PAGES));
                }
                Op::Split(first) => prop_assert_eq!(slots.split(first), model.split(first)),
            }
            prop_assert_eq!(slots.used(), model.used(|_| true));
            for owner in 0..OWNERS {
                prop_assert_eq!(slots.used_by(&owner), model.used(|of| of == owner));
            }
            let free: Vec<_> = model.blocks().into_iter().map(Model::is_free).collect();
            prop_assert_eq!(slots.has_free_block(), free.contains(&true));
            for block in 0..blocks + 1 {
                let is_free = free.get(block).copied().unwrap_or(false);
                prop_assert_eq!(slots.is_free(block), is_free);
            }
        }
        for of in [None, Some(0), Some(1), Some(2), Some(3)] {
            let mut at = 0;
            while let Some((page, size)) = slots.next_used(at, of.as_ref()) {
                prop_assert_eq!(Some((page, size)), model.next_used(at, of));
                at = page + if size == Size::Huge { HUGE_PAGES } else { 1 };
            }
            prop_assert_eq!(None, model.next_used(at, of));
            prop_assert_eq!(slots.next_used(from, of.as_ref()), model.next_used(from, of));
        }
    }
}

#[test]
fn no_memory_is_an_error() {
    let _none = kernel::alloc::Judged::by(|_| false);
    assert_eq!(Slots::<u8>::new(1).err(), Some(ENOMEM));
}
