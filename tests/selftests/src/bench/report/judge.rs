// SPDX-License-Identifier: GPL-2.0

//! Decides whether a row has reached its target. The interval of the ratio decides, not the ratio alone.

use serde::Serialize;

use super::super::{
    record::{Pages, Results, Row, Side, What},
    stats::{self, Ratio, Spread},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Met,
    NotMet,
    /// The target is inside the interval, or there are too few rounds.
    Unclear,
    /// There is nothing to compare with.
    None,
}

impl Verdict {
    pub fn text(self) -> &'static str {
        match self {
            Verdict::Met => "yes",
            Verdict::NotMet => "**no**",
            Verdict::Unclear => "unclear",
            Verdict::None => "",
        }
    }

    /// Returns the verdict on a ratio of this number of rounds. `is_met` returns whether a value reaches the target.
    fn of(ratio: Option<Ratio>, rounds: usize, is_met: impl Fn(f64) -> bool) -> Verdict {
        match ratio {
            None => Verdict::None,
            Some(_) if rounds < LEAST => Verdict::Unclear,
            Some(ratio) if is_met(ratio.low) && is_met(ratio.high) => Verdict::Met,
            Some(ratio) if is_met(ratio.low) || is_met(ratio.high) => Verdict::Unclear,
            Some(_) => Verdict::NotMet,
        }
    }
}

/// The number of rounds that an interval needs.
const LEAST: usize = 3;

/// A row of the table. Times are in nanoseconds.
#[derive(Serialize)]
pub struct Judged {
    pub row: Row,
    pub rounds: usize,
    pub c: Option<Spread>,
    pub rust: Option<Spread>,
    /// The time of C divided by that of Rust: how many times as fast Rust is.
    pub ratio: Option<Ratio>,
    pub target: f64,
    pub met: Verdict,
    /// The time of the copies alone.
    pub limit: Option<Spread>,
    /// The time of Rust divided by that of the copies: how many times as long it takes.
    pub over_limit: Option<Ratio>,
    /// The same for copies that begin with an empty TLB.
    pub over_cold: Option<Ratio>,
    pub limit_target: Option<f64>,
    pub limit_met: Verdict,
}

/// Returns the rows that are compared, in the order of the table.
pub fn all(results: &Results) -> Vec<Judged> {
    results
        .rows()
        .into_iter()
        .filter(|row| row.what.is_compared())
        .map(|row| judge(results, row))
        .collect()
}

/// Returns the time of the Rust driver and the sum of the copies, for each round that has all of them.
fn beside_copies(results: &Results, row: Row, copies: &[What]) -> Vec<(f64, f64)> {
    let mut pairs: Vec<(f64, f64)> = Vec::new();
    for what in copies {
        let copy = Row::new(*what, Pages::Huge, row.bytes);
        let more = results.pairs((row, Side::Rust), (copy, Side::Limit));
        pairs = match pairs.is_empty() {
            true => more,
            // One child measures all copies, so the rounds are the same.
            false => (pairs.into_iter().zip(more))
                .map(|((rust, copies), (_, copy))| (rust, copies + copy))
                .collect(),
        };
    }
    pairs
}

fn judge(results: &Results, row: Row) -> Judged {
    let pairs = results.pairs((row, Side::C), (row, Side::Rust));
    let ratio = stats::ratio(&pairs);
    let target = row.target();
    let beside = beside_copies(results, row, row.limit());
    let over_limit = stats::ratio(&beside);
    let copies: Vec<_> = beside.iter().map(|(_, copies)| *copies).collect();
    let limit_target = row.limit_target();
    Judged {
        row,
        rounds: results.times(row, Side::Rust).len(),
        c: stats::spread(&results.times(row, Side::C)),
        rust: stats::spread(&results.times(row, Side::Rust)),
        ratio,
        target,
        met: Verdict::of(ratio, pairs.len(), |value| value >= target),
        limit: stats::spread(&copies),
        over_limit,
        over_cold: stats::ratio(&beside_copies(results, row, row.cold_limit())),
        limit_target,
        limit_met: match limit_target {
            Some(target) => Verdict::of(over_limit, beside.len(), |value| value <= target),
            None => Verdict::None,
        },
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::bench::record::Samples;

    /// Returns five rounds with these times of C and Rust. Page copies take 100 and copies to the user 50; with an
    /// empty TLB, 120 and 80.
    pub fn results(c: &[u64], rust: &[u64]) -> Results {
        let mut results = Results::default();
        let bytes = 2 << 20;
        let row = |what| Row::new(what, Pages::Huge, bytes);
        for round in 0..5 {
            for (what, side, ns) in [
                (What::ToDevice, Side::C, c[round]),
                (What::ToDevice, Side::Rust, rust[round]),
                (What::CopyPages, Side::Limit, 100),
                (What::CopyToUser, Side::Limit, 50),
                (What::CopyPagesCold, Side::Limit, 120),
                (What::CopyToUserCold, Side::Limit, 80),
            ] {
                results.add(&Samples {
                    row: row(what),
                    side,
                    round: round as u32 + 1,
                    ns: vec![ns],
                });
            }
        }
        results
    }

    fn one(c: &[u64], rust: &[u64]) -> Judged {
        let mut rows = all(&results(c, rust));
        assert_eq!(rows.len(), 1);
        rows.remove(0)
    }

    #[test]
    fn what_is_fast_enough_is_met() {
        let seen = one(&[400, 410, 420, 400, 400], &[160; 5]);
        assert_eq!((seen.met, seen.target), (Verdict::Met, 2.0));
        assert_eq!(seen.limit.unwrap().median, 150.0);
        assert_eq!(seen.limit_met, Verdict::Met);
        assert_eq!(seen.over_cold.unwrap().value, 0.8);
        assert_eq!(seen.rounds, 5);
    }

    #[test]
    fn what_is_too_slow_is_not_met() {
        let seen = one(&[400; 5], &[210, 215, 220, 210, 210]);
        assert!(seen.ratio.unwrap().value > 1.8);
        assert_eq!(seen.met, Verdict::NotMet);
        assert_eq!(seen.limit_met, Verdict::NotMet);
        assert_eq!(seen.met.text(), "**no**");
    }

    #[test]
    fn an_interval_around_the_target_is_no_answer() {
        let seen = one(&[400; 5], &[180, 190, 199, 210, 220]);
        assert!(seen.ratio.unwrap().value > 2.0);
        assert_eq!(seen.met, Verdict::Unclear);
    }

    #[test]
    fn two_rounds_are_no_answer() {
        let ratio = stats::ratio(&[(9.0, 1.0); 2]);
        assert_eq!(Verdict::of(ratio, 2, |v| v >= 2.0), Verdict::Unclear);
        assert_eq!(Verdict::of(None, 0, |v| v >= 2.0), Verdict::None);
    }
}
