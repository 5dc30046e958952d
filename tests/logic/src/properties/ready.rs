// SPDX-License-Identifier: GPL-2.0

//! `src/spare/ready.rs` against a list of folios. The worker runs in `set_most()`, which flushes its queue.

use super::{
    edgy,
    seeds_in, //
};
use crate::{
    layer::mm::{
        lock::Beneficiary,
        system::{
            alive,
            left,
            set_next, //
        }, //
    },
    spare::ready::{
        MaxReady,
        Ready, //
    }, //
};
use kernel::prelude::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    /// By a VMA where a kept folio may be mapped, or not.
    Take(bool),
    SetMost(usize),
    /// The huge pages that the page allocator has next, and whether they are fit.
    Memory(Vec<bool>),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let memory = prop::collection::vec(prop::bool::weighted(0.7), 0..80);
    let op = prop_oneof![
        6 => prop::bool::weighted(0.9).prop_map(Op::Take),
        3 => prop_oneof![0..5usize, Just(64)].prop_map(Op::SetMost),
        2 => memory.prop_map(Op::Memory),
    ];
    prop::collection::vec(op, 0..60)
}

proptest! {
    #![proptest_config(seeds_in!("ready"))]

    #[test]
    fn folios_are_kept_up_to_the_limit(ops in ops(), first in 0..5usize) {
        set_next([]);
        let ready = Ready::new(MaxReady::new(first as u64).unwrap()).unwrap();
        let (mut most, mut kept, mut memory) = (first, Vec::new(), std::collections::VecDeque::new());
        let mut is_queued = false;
        for op in ops {
            match op {
                Op::Take(may_be_kept) => {
                    let taken = ready.take(Beneficiary(&may_be_kept)).map(|folio| folio.is_fit());
                    let mut expected = None;
                    if may_be_kept && most > 0 {
                        is_queued = true;
                        match kept.iter().position(|is_fit| *is_fit) {
                            Some(at) => expected = Some(kept.remove(at)),
                            // The oldest makes room.
                            None if kept.len() >= most => drop(kept.remove(0)),
                            None => {}
                        }
                    }
                    prop_assert_eq!(taken, expected);
                }
                Op::SetMost(new) => {
                    ready.set_most(MaxReady::new(new as u64).unwrap());
                    most = new;
                    while is_queued && kept.len() < most && !memory.is_empty() {
                        kept.extend(memory.pop_front());
                    }
                    is_queued = false;
                    kept.drain(..kept.len().saturating_sub(most));
                }
                Op::Memory(pages) => {
                    set_next(pages.clone());
                    memory = pages.into();
                }
            }
            prop_assert_eq!(ready.count(), kept.len());
            prop_assert_eq!(ready.most().get(), most);
            prop_assert_eq!((left(), alive()), (memory.len(), kept.len()));
        }
        set_next([]);
        drop(ready);
        prop_assert_eq!(alive(), 0);
    }

    #[test]
    fn limits_are_numbers_up_to_64(most in edgy()) {
        let expected = (most <= 64).then_some(most as usize).ok_or(EINVAL);
        prop_assert_eq!(MaxReady::new(most).map(MaxReady::get), expected);
    }
}
