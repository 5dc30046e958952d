// SPDX-License-Identifier: GPL-2.0

//! Whether a row reached what it is to reach. A median alone decides nothing: its interval does.

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
    /// The target is inside the interval, or the rounds are too few for one.
    Unclear,
    /// There is nothing to hold it against.
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

    /// `at_least`, or at most if it is turned round.
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

/// Rounds that make an interval.
const LEAST: usize = 3;

/// A row of the table. Times are in nanoseconds.
#[derive(Serialize)]
pub struct Judged {
    pub row: Row,
    pub rounds: usize,
    pub c: Option<Spread>,
    pub rust: Option<Spread>,
    /// C to Rust: how many times as fast.
    pub ratio: Option<Ratio>,
    pub target: f64,
    pub met: Verdict,
    /// The copies alone.
    pub limit: Option<Spread>,
    /// Rust to those: how many times as long.
    pub over_limit: Option<Ratio>,
    /// Rust to those that begin with an empty TLB.
    pub over_cold: Option<Ratio>,
    pub limit_target: Option<f64>,
    pub limit_met: Verdict,
}

/// The rows that are compared, in the order of the table.
pub fn all(results: &Results) -> Vec<Judged> {
    results
        .rows()
        .into_iter()
        .filter(|row| row.what.is_compared())
        .map(|row| judge(results, row))
        .collect()
}

/// Pairs of our time and the sum of the copies, of each round that has all of them.
fn beside_copies(results: &Results, row: Row, copies: &[What]) -> Vec<(f64, f64)> {
    let mut pairs: Vec<(f64, f64)> = Vec::new();
    for what in copies {
        let copy = Row::new(*what, Pages::Huge, row.bytes);
        let more = results.pairs((row, Side::Rust), (copy, Side::Limit));
        pairs = match pairs.is_empty() {
            true => more,
            // Both copies are measured by one child, so the rounds are the same.
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

    /// Five rounds: C and Rust as given, page copies of 100 and copies to the user of 50; cold, of 120 and 80.
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
