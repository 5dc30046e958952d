// SPDX-License-Identifier: GPL-2.0

//! `rust/mm/table.rs` against a list of words for each leaf.

use super::seeds_in;
use crate::layer::mm::{
    table::{
        Spare,
        Table,
        Word, //
    },
    HUGE_PAGES, //
};
use core::ops::Range;
use kernel::{
    alloc::{
        Flags,
        Judged, //
    },
    prelude::*, //
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// The pages of an address space: no page has this number.
const PAGES: usize = 1 << 52;

#[derive(Clone, Debug)]
enum Op {
    SetHuge(usize, usize),
    /// The word of the first page; those behind it count up, but for some that are missing.
    SetAll(usize, usize, Vec<bool>),
    Clear(Range<usize>),
}

enum Leaf {
    Huge(usize),
    Small(Vec<Option<usize>>),
}

#[derive(Default)]
struct Model(BTreeMap<usize, Leaf>);

impl Model {
    fn word(&self, page: usize) -> Option<usize> {
        match self.0.get(&(page / HUGE_PAGES))? {
            Leaf::Huge(word) => Some(*word),
            Leaf::Small(words) => words[page % HUGE_PAGES],
        }
    }

    /// Word, offset, and how many pages.
    fn run(&self, page: usize, most: usize) -> Option<(usize, usize, usize)> {
        let word = self.word(page)?;
        let offset = page % HUGE_PAGES;
        let rest = (0..HUGE_PAGES - offset).take(most);
        let (offset, nr) = match self.0[&(page / HUGE_PAGES)] {
            Leaf::Huge(_) => (offset, rest.count()),
            Leaf::Small(_) => {
                let follows = |at: &usize| {
                    let next = word.checked_add(*at);
                    next.is_some() && self.word(page + at) == next
                };
                (0, rest.take_while(follows).count())
            }
        };
        (nr > 0).then_some((word, offset, nr))
    }

    fn set_huge(&mut self, page: usize, word: usize, spare: &mut bool) -> Result {
        let key = page / HUGE_PAGES;
        if !self.0.contains_key(&key) && !core::mem::take(spare) {
            return Err(ENOMEM);
        }
        self.0.insert(key, Leaf::Huge(word));
        Ok(())
    }

    fn set_all(
        &mut self,
        page: usize,
        words: &[Option<usize>],
        stays: impl Fn(usize) -> bool,
        spare: &mut bool,
    ) -> Result {
        if words.iter().all(Option::is_none) {
            return Ok(());
        }
        let key = page / HUGE_PAGES;
        if !matches!(self.0.get(&key), Some(Leaf::Small(_))) {
            if !core::mem::take(spare) {
                return Err(ENOMEM);
            }
            self.0.insert(key, Leaf::Small(vec![None; HUGE_PAGES]));
        }
        let Some(Leaf::Small(leaf)) = self.0.get_mut(&key) else {
            unreachable!();
        };
        for (at, word) in words.iter().enumerate() {
            let Some(word) = word else { continue };
            let slot = leaf.get_mut(page % HUGE_PAGES + at).ok_or(EINVAL)?;
            if !slot.is_some_and(&stays) {
                *slot = Some(*word);
            }
        }
        Ok(())
    }

    /// A leaf is gone that is covered, or that has one word and is touched.
    fn clear(&mut self, pages: Range<usize>) {
        self.0.retain(|key, leaf| {
            let (first, end) = (key * HUGE_PAGES, (key + 1) * HUGE_PAGES);
            let (from, to) = (pages.start.max(first), pages.end.min(end));
            if from >= to {
                return true;
            }
            match leaf {
                Leaf::Small(words) if to - from < HUGE_PAGES => {
                    words[from - first..to - first].fill(None);
                    true
                }
                _ => false,
            }
        });
    }
}

/// Pages of the first leaves, or of the last ones; often near the ends of leaves.
fn pages() -> impl Strategy<Value = usize> {
    let near = (0..5usize, 0..6usize).prop_map(|(leaf, at)| leaf * HUGE_PAGES + at);
    let page = prop_oneof![near, 0..5 * HUGE_PAGES];
    (page, any::<bool>()).prop_map(|(page, is_last)| match is_last {
        true => PAGES - 1 - page,
        false => page,
    })
}

/// Not zero; some so large that counting up ends.
fn words() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 1..1000usize,
        1 => (0..600usize).prop_map(|by| usize::MAX - by),
    ]
}

fn ranges() -> impl Strategy<Value = Range<usize>> {
    prop_oneof![
        4 => (pages(), 0..4usize).prop_map(|(start, nr)| start..start + nr),
        4 => (pages(), 0..3 * HUGE_PAGES).prop_map(|(start, nr)| start..start + nr),
        2 => (0..5usize, 0..4usize).prop_map(|(leaf, nr)| leaf * HUGE_PAGES..(leaf + nr) * HUGE_PAGES),
        1 => (pages(), pages()).prop_map(|(start, end)| start..end),
        1 => pages().prop_map(|start| start..usize::MAX),
    ]
}

/// Each with memory for a leaf, or without.
fn ops() -> impl Strategy<Value = Vec<(Op, bool)>> {
    let missing = prop_oneof![
        prop::collection::vec(prop::bool::weighted(0.1), 0..8),
        (0..HUGE_PAGES + 2).prop_map(|nr| vec![false; nr]),
        (0..4usize).prop_map(|nr| vec![true; nr]),
    ];
    let op = prop_oneof![
        2 => (pages(), words()).prop_map(|(page, word)| Op::SetHuge(page, word)),
        4 => (pages(), words(), missing)
            .prop_map(|(page, word, missing)| Op::SetAll(page, word, missing)),
        4 => ranges().prop_map(Op::Clear),
    ];
    prop::collection::vec((op, prop::bool::weighted(0.7)), 0..30)
}

/// Words that stay, here.
fn stays(word: usize) -> bool {
    word % 7 == 0
}

proptest! {
    #![proptest_config(seeds_in!("table"))]

    #[test]
    fn answers_as_a_list_of_words_does(
        ops in ops(),
        asked in prop::collection::vec((pages(), prop_oneof![0..600usize, Just(usize::MAX)]), 0..40),
    ) {
        let mut table = Table::default();
        let mut model = Model::default();
        for (op, has_spare) in ops {
            let mut spare = has_spare.then(|| Spare::new().unwrap());
            let mut model_spare = has_spare;
            match op {
                Op::SetHuge(page, word) => {
                    let done = table.set_huge(page, Word::new(word).unwrap(), &mut spare);
                    prop_assert_eq!(done, model.set_huge(page, word, &mut model_spare));
                }
                Op::SetAll(page, word, missing) => {
                    let next = |(at, is_missing): (usize, &bool)| match is_missing {
                        true => None,
                        false => Some(word.saturating_add(at)),
                    };
                    let words: Vec<_> = missing.iter().enumerate().map(next).collect();
                    let made = words.iter().map(|word| word.and_then(Word::new));
                    let done = table.set_all(page, made, |word| stays(word.get()), &mut spare);
                    prop_assert_eq!(done, model.set_all(page, &words, stays, &mut model_spare));
                }
                Op::Clear(pages) => {
                    table.clear(pages.clone());
                    model.clear(pages);
                }
            }
            prop_assert_eq!(spare.is_some(), model_spare);
            for (page, most) in &asked {
                let hit = table.run(*page, *most).map(|hit| (hit.word.get(), hit.offset, hit.nr));
                prop_assert_eq!(hit, model.run(*page, *most));
            }
        }
        for key in model.0.keys() {
            for page in key * HUGE_PAGES..(key + 1) * HUGE_PAGES {
                let hit = table.run(page, 1).map(|hit| hit.word.get());
                prop_assert_eq!(hit, model.word(page));
            }
        }
    }
}

/// Who has used up what its cgroup may have is given memory all the same, without being killed for it.
#[test]
fn spares_are_charged_where_that_is_possible() {
    let is_charged = |flags: Flags| flags.contains(__GFP_ACCOUNT);
    let may_kill = |flags: Flags| flags.contains(__GFP_DIRECT_RECLAIM);
    let all = Judged::by(move |flags| {
        assert!(is_charged(flags) && !may_kill(flags) && flags.contains(__GFP_NOWARN));
        true
    });
    assert!(Spare::new().is_ok());
    drop(all);
    let uncharged = Judged::by(move |flags| !is_charged(flags));
    assert!(Spare::new().is_ok());
    drop(uncharged);
    for allocation in 0..2 {
        let mut done = 0;
        let _some = Judged::by(move |flags| {
            let is_allowed = !is_charged(flags) && done < allocation;
            done += usize::from(is_allowed);
            is_allowed
        });
        assert_eq!(Spare::new().err(), Some(ENOMEM));
    }
}
