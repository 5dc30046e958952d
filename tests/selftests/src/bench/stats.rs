// SPDX-License-Identifier: GPL-2.0

//! Medians, quartiles, and confidence intervals of ratios.

use serde::Serialize;

/// The number of resamples of the bootstrap.
const DRAWS: usize = 1000;

/// Returns the value below which `share` of the sorted values lie, interpolated between two of them; NaN if there are
/// none.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = share * last as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// A median and its quartiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

/// Returns the median and the quartiles, or `None` if there are no values.
pub fn spread(values: &[f64]) -> Option<Spread> {
    let sorted = sorted(values);
    (!sorted.is_empty()).then(|| Spread {
        low: quantile(&sorted, 0.25),
        median: quantile(&sorted, 0.5),
        high: quantile(&sorted, 0.75),
    })
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

pub fn median(values: &[f64]) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// A ratio of medians, with its confidence interval of 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    pub low: f64,
    pub value: f64,
    pub high: f64,
}

impl Ratio {
    /// Returns whether the interval extends by at most `share` of the ratio to either side.
    pub fn is_narrow(&self, share: f64) -> bool {
        self.high - self.value <= share * self.value && self.value - self.low <= share * self.value
    }
}

/// Returns the ratio of two medians, or `None` if there are no values.
///
/// The values are pairs, one for each round. Whatever slows the machine down in a round slows both values of its pair,
/// so the bootstrap draws pairs, not single values.
pub fn ratio(pairs: &[(f64, f64)]) -> Option<Ratio> {
    if pairs.is_empty() {
        return None;
    }
    // A fixed seed, so that the same samples give the same interval.
    let mut random = fastrand::Rng::with_seed(pairs.len() as u64);
    let of = |pairs: &[(f64, f64)]| {
        let (above, below): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
        median(&above) / median(&below)
    };
    let mut drawn: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let draw: Vec<_> = (0..pairs.len())
                .map(|_| pairs[random.usize(..pairs.len())])
                .collect();
            of(&draw)
        })
        .collect();
    drawn.sort_by(f64::total_cmp);
    Some(Ratio {
        low: quantile(&drawn, 0.025),
        value: of(pairs),
        high: quantile(&drawn, 0.975),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&[0.0, 10.0], 0.9), 9.0);
        assert_eq!(quantile(&[5.0], 0.99), 5.0);
        assert!(median(&[]).is_nan());
        let spread = spread(&[5.0, 1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 3.0, 4.0));
        assert_eq!(super::spread(&[]), None);
    }

    #[test]
    fn equal_rounds_leave_no_doubt() {
        let ratio = ratio(&[(4.0, 2.0); 5]).unwrap();
        assert_eq!((ratio.low, ratio.value, ratio.high), (2.0, 2.0, 2.0));
        assert!(ratio.is_narrow(0.0));
        assert_eq!(super::ratio(&[]), None);
    }

    #[test]
    fn what_slows_both_does_not_widen_the_interval() {
        let machine = [1.0, 3.0, 1.5, 2.0, 5.0, 1.0, 2.5];
        let together: Vec<_> = machine.iter().map(|m| (3.0 * m, *m)).collect();
        assert!(ratio(&together).unwrap().is_narrow(0.01));
        let apart: Vec<_> = machine.iter().map(|m| (3.0 * m, 1.0)).collect();
        let apart = ratio(&apart).unwrap();
        assert!(!apart.is_narrow(0.05));
        assert!(apart.low <= apart.value && apart.value <= apart.high);
    }

    #[test]
    fn one_outlier_does_not_move_the_median() {
        let mut pairs = [(2.0, 1.0); 9];
        pairs[4] = (200.0, 1.0);
        assert_eq!(ratio(&pairs).unwrap().value, 2.0);
    }
}
