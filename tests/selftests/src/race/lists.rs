// SPDX-License-Identifier: GPL-2.0

//! The lists of workers that run together.

use super::worker::Worker;

/// Opening, closing and RELEASE are only in the list of all workers: they end the races between the others.
const WITH_ALL_ONLY: [u8; 2] = [2, 4];

/// Lists that crashed or leaked before K19, K20 and K24 were fixed, and similar ones: a page is zapped during failing
/// allocations, or during changes that split the mapping.
pub const FAILED_BEFORE: [&[u8]; 12] = [
    &[0, 1, 5, 10],
    &[0, 3, 5, 10],
    &[0, 5, 10, 12],
    &[0, 1, 3, 5, 9],
    &[0, 1, 3, 5, 6, 7, 8, 9, 10, 11],
    &[0, 5, 10],
    &[0, 3, 5, 9],
    &[0, 5, 8, 10],
    &[0, 1, 5, 9, 10],
    &[0, 5, 7, 10],
    &[0, 5, 10, 11],
    &[0, 2, 3, 5, 10],
];

pub fn name(list: &[u8]) -> String {
    list.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
}

/// Returns all lists of `size` workers.
fn of_size(size: usize) -> Vec<Vec<u8>> {
    let numbers = (0..Worker::ALL.len() as u8).filter(|n| !WITH_ALL_ONLY.contains(n));
    let mut lists: Vec<Vec<u8>> = vec![Vec::new()];
    for number in numbers {
        let longer = lists.iter().filter(|list| list.len() < size);
        let with: Vec<_> = longer.map(|list| [&list[..], &[number]].concat()).collect();
        lists.extend(with);
    }
    lists.retain(|list| list.len() == size);
    lists
}

/// Returns up to `most` lists, in an order that depends on the seed, out of all lists of two and of three workers,
/// sixty lists of four, and the list of all workers.
pub fn sample(most: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut four = of_size(4);
    random.shuffle(&mut four);
    four.truncate(60);
    let all = (0..Worker::ALL.len() as u8).collect();
    let mut lists = [of_size(2), of_size(3), four, vec![all]].concat();
    random.shuffle(&mut lists);
    lists.truncate(most);
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_lists_as_can_be() {
        assert_eq!((of_size(2).len(), of_size(3).len()), (55, 165));
        let lists = sample(usize::MAX, 7);
        assert_eq!(lists.len(), 55 + 165 + 60 + 1);
        assert_eq!(sample(5, 7), lists[..5]);
        assert_ne!(sample(5, 8), lists[..5]);
        assert_eq!(name(&[0, 5, 12]), "0,5,12");
    }

    #[test]
    fn lists_that_failed_have_workers_and_a_zap() {
        for list in FAILED_BEFORE {
            assert!(list.contains(&5));
            assert!(list.iter().all(|n| Worker::numbered(*n).is_some()));
        }
    }
}
