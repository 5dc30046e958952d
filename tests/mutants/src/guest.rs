// SPDX-License-Identifier: GPL-2.0

//! What goes to the guest and what comes back: `dmirror mutants` in tests/selftests is the other side.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a guest is to try.
#[derive(Serialize)]
pub struct Plan {
    pub mutants: Vec<Entry>,
}

/// One mutant, and what reached it when no mutant was active.
#[derive(Serialize)]
pub struct Entry {
    pub number: usize,
    /// For people.
    pub text: String,
    pub kunit: bool,
    pub cases: Vec<Case>,
    pub stress: bool,
}

#[derive(Serialize)]
pub struct Case {
    pub name: String,
    /// Seconds.
    pub limit: u64,
}

/// What one part of the suites reached, while no mutant was active.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reach {
    /// `load`, `kunit`, `stress`, `unload`, or `case NAME`.
    pub by: String,
    pub seconds: f64,
    /// What fails without a mutant says nothing of one.
    pub passed: bool,
    pub reached: Vec<usize>,
}

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub number: usize,
    pub noticed: bool,
    /// By what, as in [`Reach::by`].
    pub by: String,
    pub what: String,
    pub seconds: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Event {
    Reach(Reach),
    Begin(usize),
    Doing(String),
    Verdict(Verdict),
    /// The guest ends on purpose, since this mutant left something behind, or its time is over.
    Last(String),
}

/// What a guest printed.
#[derive(Default, Debug, PartialEq)]
pub struct Output {
    pub verdicts: Vec<Verdict>,
    /// Begun without an end: the mutant, and what was being done.
    pub unfinished: Option<(usize, String)>,
    /// Why the guest ended on purpose.
    pub last: Option<String>,
    /// Came to its own end.
    pub is_finished: bool,
}

/// Reads it; lines that are no events are not ours.
pub fn read(output: &str) -> (Output, Vec<Reach>) {
    let mut all = Output::default();
    let mut reach = BTreeMap::new();
    let mut order = 0;
    for line in output.lines() {
        all.is_finished |= line.starts_with("#@ finished");
        let Ok(event) = serde_json::from_str(line.trim_end()) else {
            continue;
        };
        match event {
            Event::Reach(one) => {
                order += 1;
                reach.insert(order, one);
            }
            Event::Begin(number) => all.unfinished = Some((number, "load".into())),
            Event::Doing(what) => {
                if let Some((_, doing)) = &mut all.unfinished {
                    *doing = what;
                }
            }
            Event::Verdict(verdict) => {
                all.unfinished = None;
                all.verdicts.push(verdict);
            }
            Event::Last(why) => all.last = Some(why),
        }
    }
    (all, reach.into_values().collect())
}

/// The plan for these mutants; those that nothing reached come back as verdicts.
pub fn plan(picked: &[(usize, String)], reach: &[Reach]) -> (Plan, Vec<Verdict>) {
    let mut mutants = Vec::new();
    let mut unreached = Vec::new();
    let mut by: Vec<&Reach> = reach.iter().filter(|part| part.passed).collect();
    by.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    for (number, text) in picked {
        let by: Vec<_> = by.iter().filter(|r| r.reached.contains(number)).collect();
        if by.is_empty() {
            unreached.push(Verdict {
                number: *number,
                noticed: false,
                by: String::new(),
                what: "not reached".into(),
                seconds: 0.0,
            });
            continue;
        }
        let has = |part: &str| by.iter().any(|r| r.by == part);
        let case = |r: &&&Reach| {
            Some(Case {
                name: r.by.strip_prefix("case ")?.to_string(),
                limit: limit(r.seconds),
            })
        };
        mutants.push(Entry {
            number: *number,
            text: text.clone(),
            kunit: has("kunit"),
            cases: by.iter().filter_map(case).collect(),
            stress: has("stress"),
        });
    }
    (Plan { mutants }, unreached)
}

/// How long a case may take, in seconds: what it usually takes tenfold, and a pause of the machine.
fn limit(usual: f64) -> u64 {
    (usual * 10.0 + 5.0).ceil().min(90.0) as u64
}

/// What is said of a guest that ended without a report of its kernel.
pub const HUNG: &str = "the kernel hung";

/// What a mutant that ended its guest is called, by what the kernel said last.
pub fn died(
    number: usize,
    doing: &str,
    console: &str,
    is_report: impl Fn(&str) -> bool,
) -> Verdict {
    let mark = format!("dmirror: mutant {number} begins");
    let since = console.rfind(&mark).map_or("", |at| &console[at..]);
    let report = since.lines().skip(1).find(|line| is_report(line));
    let what = match report {
        Some(line) => format!("the kernel died: {}", without_time(line)),
        None => HUNG.into(),
    };
    Verdict {
        number,
        noticed: true,
        by: doing.into(),
        what,
        seconds: 0.0,
    }
}

fn without_time(line: &str) -> &str {
    line.split_once("] ").map_or(line, |(_, text)| text).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(by: &str, seconds: f64, passed: bool, reached: &[usize]) -> Reach {
        Reach {
            by: by.into(),
            seconds,
            passed,
            reached: reached.to_vec(),
        }
    }

    #[test]
    fn the_quickest_case_comes_first_and_failed_ones_not_at_all() {
        let reach = [
            reach("kunit", 3.0, true, &[1]),
            reach("case slow", 2.0, true, &[1, 2]),
            reach("case quick", 0.1, true, &[2]),
            reach("case red", 0.1, false, &[2, 3]),
        ];
        let picked = [1, 2, 3].map(|n| (n, String::new()));
        let (plan, unreached) = plan(&picked, &reach);
        assert_eq!(unreached.len(), 1);
        assert_eq!((unreached[0].number, unreached[0].noticed), (3, false));
        assert!(plan.mutants[0].kunit && !plan.mutants[1].kunit && !plan.mutants[1].stress);
        let names: Vec<_> = plan.mutants[1]
            .cases
            .iter()
            .map(|c| (&*c.name, c.limit))
            .collect();
        assert_eq!(names, [("quick", 6), ("slow", 25)]);
    }

    #[test]
    fn what_was_under_way_is_known() {
        let text = "#@ begin mutants\n{\"begin\":4}\n{\"doing\":\"kunit\"}\n\
            {\"verdict\":{\"number\":4,\"noticed\":true,\"by\":\"kunit\",\"what\":\"x\",\"seconds\":1.0}}\n\
            # noise\n{\"begin\":5}\n{\"doing\":\"case a\"}\n{\"doi";
        let (output, _) = read(text);
        assert_eq!(output.verdicts.len(), 1);
        assert_eq!(output.unfinished, Some((5, "case a".into())));
        assert_eq!(output.last, None);
        let console =
            "[ 1.0] Oops: of before\n[ 2.0] dmirror: mutant 5 begins\n[ 2.1] Oops: 0000\n";
        let verdict = died(5, "case a", console, |line| line.contains("Oops"));
        assert_eq!(verdict.what, "the kernel died: Oops: 0000");
        assert_eq!(died(5, "", console, |_| false).what, "the kernel hung");
    }
}
