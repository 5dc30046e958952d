// SPDX-License-Identifier: GPL-2.0

//! `src/policy/behind.rs` against a look at all that was seen at once.

use super::seeds_in;
use crate::policy::behind::Behind;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: usize,
    nr: usize,
    folio: usize,
    is_large: bool,
}

/// Pieces in order, with gaps; neighbours may be of one folio, or a folio may be met again.
fn seen() -> impl Strategy<Value = Vec<Seen>> {
    let piece = (0..3usize, 1..20usize, 0..4usize);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| {
        let mut end = 0;
        let place = |(gap, nr, folio): (usize, usize, usize)| {
            let at = end + gap;
            end = at + nr;
            // Those with even numbers are large.
            let is_large = folio % 2 == 0;
            Seen {
                at,
                nr,
                folio,
                is_large,
            }
        };
        pieces.into_iter().map(place).collect()
    })
}

/// Where the first is that does not belong to the first large folio, behind that.
fn next(seen: &[Seen]) -> Option<usize> {
    let first = seen.iter().position(|piece| piece.is_large)?;
    let mut end = seen[first].at;
    let mut same = 0;
    for piece in &seen[first..] {
        if piece.folio != seen[first].folio || piece.at != end {
            break;
        }
        end += piece.nr;
        same += 1;
    }
    seen.get(first + same).map(|piece| piece.at)
}

proptest! {
    #![proptest_config(seeds_in!("behind"))]

    #[test]
    fn it_goes_on_behind_the_first_large_folio(seen in seen()) {
        let mut behind = Behind::default();
        for piece in &seen {
            behind.see(piece.at, piece.nr, piece.folio, piece.is_large);
        }
        prop_assert_eq!(behind.is_any(), !seen.is_empty());
        prop_assert_eq!(behind.next(), next(&seen));
        // So that going on from there ends.
        prop_assert!(behind.next().is_none_or(|next| next > 0));
    }
}
