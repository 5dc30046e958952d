// SPDX-License-Identifier: GPL-2.0

//! Reads the table that the benchmark of `hmm-tests` prints:
//!
//! ```text
//! === Single THP Size (2.0 MB) ===
//!                      | With THP        | Without THP     | Improvement
//! Sys->Dev Migration   | 1.234 ms        | 5.678 ms        | 78.3%
//! ```
//!
//! Before each run, the guest prints the driver and the round: `#run c 3`. The output of a run that failed follows the
//! words `# hmm-tests failed`, and is ignored.

use anyhow::{Context, Result};

use super::super::record::{Line, Pages, Row, Samples, Side, What};

pub fn lines(text: &str) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut run = None;
    let mut bytes = None;
    let mut failed = false;
    for line in text.lines() {
        if line.starts_with("#run ") {
            failed = false;
        } else if line.starts_with("# hmm-tests failed") {
            failed = true;
        }
        if failed {
            continue;
        }
        let line = line.trim().trim_start_matches("# ");
        if let Some(words) = line.strip_prefix("#run ") {
            run = Some(side_and_round(words).with_context(|| format!("the line {line}"))?);
            bytes = None;
        } else if let Some(title) = line.strip_prefix("=== ") {
            bytes = size(title);
        }
        let what = match line.split('|').next().map(str::trim) {
            Some("Sys->Dev Migration") => What::HmmToDevice,
            Some("Dev->Sys Migration") => What::HmmToSystem,
            _ => continue,
        };
        let (side, round) = run.context("a result before any run")?;
        let bytes = bytes.with_context(|| format!("no size before {line}"))?;
        let times = line.split('|').skip(1);
        for (pages, time) in [Pages::Huge, Pages::Small].into_iter().zip(times) {
            let ms: f64 = time
                .trim()
                .trim_end_matches(" ms")
                .parse()
                .with_context(|| format!("the time in {line}"))?;
            lines.push(Line::Samples(Samples {
                row: Row::new(what, pages, bytes),
                side,
                round,
                ns: vec![(ms * 1e6).round() as u64],
            }));
        }
    }
    Ok(lines)
}

fn side_and_round(words: &str) -> Option<(Side, u32)> {
    let (side, round) = words.split_once(' ')?;
    let side = match side {
        "c" => Side::C,
        "rust" => Side::Rust,
        _ => return None,
    };
    Some((side, round.trim().parse().ok()?))
}

/// Returns the bytes in a title, such as `Single THP Size (2.0 MB) ===`.
fn size(title: &str) -> Option<u64> {
    let (_, rest) = title.rsplit_once('(')?;
    let (mib, _) = rest.split_once(" MB)")?;
    Some((mib.parse::<f64>().ok()? * f64::from(1 << 20)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
#run c 1
TAP version 13
# #  RUN           hmm.hmm_device_private.benchmark_thp_migration ...

=== Small Buffer (0.5 MB) ===
                     | With THP        | Without THP     | Improvement
---------------------------------------------------------------------
Sys->Dev Migration   | 0.412 ms        | 1.500 ms        | 72.5%
Dev->Sys Migration   | 0.300 ms        | 0.900 ms        | 66.7%
S->D Throughput      | 1.19 GB/s      | 0.33 GB/s      | 264.1%
#run rust 1
=== Small Buffer (0.5 MB) ===
Sys->Dev Migration   | 0.206 ms        | 0.750 ms        | 72.5%
";

    #[test]
    fn times_are_found() {
        let lines = lines(TEXT).unwrap();
        assert_eq!(lines.len(), 6);
        assert_eq!(
            lines[1],
            Line::Samples(Samples {
                row: Row::new(What::HmmToDevice, Pages::Small, 1 << 19),
                side: Side::C,
                round: 1,
                ns: vec![1_500_000],
            })
        );
        let Line::Samples(last) = &lines[4] else {
            panic!("{:?}", lines[4]);
        };
        assert_eq!((last.side, &last.ns[..]), (Side::Rust, &[206_000][..]));
    }

    #[test]
    fn what_failed_does_not_count() {
        let failed = TEXT.lines().skip(1).map(|line| format!("#   {line}\n"));
        let failed = format!(
            "# hmm-tests failed with the driver c, round 1:\n{}",
            failed.collect::<String>()
        );
        assert_eq!(lines(&failed).unwrap(), []);
        let text = format!("{failed}{TEXT}{failed}{TEXT}");
        assert_eq!(lines(&text).unwrap().len(), 2 * lines(TEXT).unwrap().len());
    }

    #[test]
    fn a_result_of_nobody_is_an_error() {
        assert!(super::lines("=== A (2.0 MB) ===\nSys->Dev Migration | 1 ms | 2 ms |").is_err());
        assert!(super::lines("#run d 1\n").is_err());
    }
}
