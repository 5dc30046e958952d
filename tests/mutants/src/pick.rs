// SPDX-License-Identifier: GPL-2.0

//! A sample that is spread evenly: each file has its turn, and in each file each kind.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;

use crate::candidate::Candidate;

/// All candidates in an order in which any beginning is an even sample; the same for the same seed.
pub fn order(candidates: &[Candidate], seed: u64) -> Vec<&Candidate> {
    let mut rng = Rng::with_seed(seed);
    let mut files: BTreeMap<&str, BTreeMap<_, Vec<&Candidate>>> = BTreeMap::new();
    for candidate in candidates {
        let kinds = files.entry(&candidate.file).or_default();
        kinds.entry(candidate.kind).or_default().push(candidate);
    }
    let mut queues: Vec<VecDeque<&Candidate>> = files
        .into_values()
        .map(|kinds| {
            let mut kinds: Vec<_> = kinds.into_values().collect();
            rng.shuffle(&mut kinds);
            kinds.iter_mut().for_each(|kind| rng.shuffle(kind));
            in_turns(kinds.into_iter().map(VecDeque::from).collect())
        })
        .collect();
    rng.shuffle(&mut queues);
    in_turns(queues).into()
}

/// The first of each, then the second of each, and so on.
pub fn in_turns<T>(mut queues: Vec<VecDeque<T>>) -> VecDeque<T> {
    let mut all = VecDeque::new();
    while !queues.is_empty() {
        all.extend(queues.iter_mut().filter_map(VecDeque::pop_front));
        queues.retain(|queue| !queue.is_empty());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidate::Kind;

    fn candidates() -> Vec<Candidate> {
        let one = |file: &str, kind, n: usize| Candidate {
            id: format!("{file}{kind}{n}"),
            file: file.into(),
            line: n,
            function: String::new(),
            kind,
            original: String::new(),
            replacement: String::new(),
            edit: None,
        };
        let mut all = Vec::new();
        for (file, most) in [("a.rs", 50), ("b.rs", 3), ("c.rs", 20)] {
            all.extend((0..most).map(|n| one(file, Kind::OffByOne, n)));
            all.extend((0..2).map(|n| one(file, Kind::Guard, n)));
        }
        all
    }

    #[test]
    fn files_and_kinds_take_turns() {
        let all = candidates();
        let order = order(&all, 7);
        assert_eq!(order.len(), all.len());
        let of = |file: &str, most: usize| order[..most].iter().filter(|c| c.file == file).count();
        for file in ["a.rs", "b.rs", "c.rs"] {
            assert_eq!(of(file, 6), 2);
            let first: Vec<_> = order.iter().filter(|c| c.file == file).take(4).collect();
            assert_eq!(first.iter().filter(|c| c.kind == Kind::Guard).count(), 2);
        }
        // When the small files are used up, the others go on.
        assert_eq!(of("b.rs", all.len()), 5);
    }

    #[test]
    fn the_seed_decides() {
        let all = candidates();
        let ids = |seed| -> Vec<_> { order(&all, seed).iter().map(|c| c.id.clone()).collect() };
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
    }
}
