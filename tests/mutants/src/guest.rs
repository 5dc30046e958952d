// SPDX-License-Identifier: GPL-2.0

//! What goes to the guest and what comes back: `dmirror mutants` in tests/selftests is the other side.

use std::collections::{BTreeMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};

/// What a guest is to try.
#[derive(Serialize, Deserialize)]
pub struct Plan {
    pub mutants: Vec<Entry>,
    /// How long some work took that takes nothing but a processor, when it was noted how long the rest takes.
    pub spin: f64,
}

/// A mutant, and the suites and cases that try it.
#[derive(Serialize, Deserialize)]
pub struct Entry {
    pub number: usize,
    /// For people.
    pub text: String,
    /// Of KUnit.
    pub suites: Vec<Part>,
    pub cases: Vec<Part>,
    pub stress: bool,
    /// How many cases reach it as well, for which there is no time.
    pub left: usize,
}

/// A suite or a case.
#[derive(Clone, Serialize, Deserialize)]
pub struct Part {
    pub name: String,
    /// Seconds.
    pub limit: u64,
}

/// What one part of the suites reached, while no mutant was active.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reach {
    /// `load`, `kunit NAME`, `case NAME`, `stress` or `unload`.
    pub by: String,
    pub seconds: f64,
    /// What fails without a mutant says nothing of one.
    pub passed: bool,
    pub reached: Vec<usize>,
}

/// The same with ids, which stay when the tests change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reached {
    pub by: String,
    pub seconds: f64,
    pub passed: bool,
    pub ids: HashSet<String>,
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
    /// The machine was too busy to tell.
    Unsure(usize),
    /// The guest ends on purpose, since this mutant left something behind, or its time is over.
    Last(String),
}

/// What a guest printed.
#[derive(Default, Debug, PartialEq)]
pub struct Output {
    pub verdicts: Vec<Verdict>,
    /// The mutant whose trial did not end, because the kernel died or ran out of memory, and what ran then.
    pub unfinished: Option<(usize, String)>,
    /// Why the guest ended on purpose.
    pub last: Option<String>,
}

/// Reads it; lines that are no events are not ours.
pub fn read(output: &str) -> (Output, Vec<Reach>) {
    let mut all = Output::default();
    let mut reach = BTreeMap::new();
    let mut order = 0;
    for line in output.lines() {
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
            Event::Unsure(number) => {
                all.unfinished = all.unfinished.filter(|(of, _)| *of != number)
            }
            Event::Last(why) => all.last = Some(why),
        }
    }
    (all, reach.into_values().collect())
}

/// A mutant that is to be tried: its number, its id, and a text for people.
pub struct Picked {
    pub number: usize,
    pub id: String,
    pub text: String,
}

/// Which of the cases that reach a mutant are tried, by the time that they take without one: those that
/// are within so many seconds, or those that are not.
#[derive(Clone, Copy)]
pub enum Share {
    First(f64),
    Rest(f64),
}

/// The plan for these mutants; those that nothing reached come back as verdicts.
pub fn plan(picked: &[Picked], reach: &[Reached], share: Share) -> (Plan, Vec<Verdict>) {
    let mut mutants = Vec::new();
    let mut unreached = Vec::new();
    let mut by: Vec<&Reached> = reach.iter().filter(|part| part.passed).collect();
    by.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let others = |id: &str| -> Vec<(f64, Part)> {
        let not_of = by.iter().filter(|r| !r.ids.contains(id));
        not_of.filter_map(|r| part(r, "case ")).collect()
    };
    for one in picked {
        let by: Vec<_> = by.iter().filter(|r| r.ids.contains(&one.id)).collect();
        if by.is_empty() {
            unreached.push(Verdict {
                number: one.number,
                noticed: false,
                by: String::new(),
                what: "not reached".into(),
                seconds: 0.0,
            });
            continue;
        }
        let of =
            |kind: &str| -> Vec<(f64, Part)> { by.iter().filter_map(|r| part(r, kind)).collect() };
        // What a module is loaded with may show anywhere; first where it is looked at.
        let mut cases = families_in_turns(of("case "));
        if by.iter().any(|r| r.by == "load") {
            cases.extend(families_in_turns(others(&one.id)));
        }
        let suites: Vec<Part> = of("kunit ").into_iter().map(|(_, part)| part).collect();
        let (first, rest) = within(cases, share);
        let (suites, cases, left, stress) = match share {
            Share::First(_) => (
                suites,
                first,
                rest.len(),
                by.iter().any(|r| r.by == "stress"),
            ),
            Share::Rest(_) => (Vec::new(), rest, 0, false),
        };
        mutants.push(Entry {
            number: one.number,
            text: one.text.clone(),
            suites,
            cases,
            stress,
            left,
        });
    }
    let spin = reach.iter().find(|part| part.by == "spin");
    let spin = spin.map_or(f64::MAX, |part| part.seconds);
    (Plan { mutants, spin }, unreached)
}

/// A part of the suites, if it is of a kind, and the time that it takes.
fn part(reached: &Reached, kind: &str) -> Option<(f64, Part)> {
    let name = reached.by.strip_prefix(kind)?.to_string();
    let limit = limit(reached.seconds);
    Some((reached.seconds, Part { name, limit }))
}

/// Cases of one family, by the name before the dot, are alike: each family has its turn.
fn families_in_turns(cases: Vec<(f64, Part)>) -> Vec<(f64, Part)> {
    let mut families: Vec<(String, VecDeque<(f64, Part)>)> = Vec::new();
    for case in cases {
        let family = case.1.name.split('.').next().unwrap_or_default();
        match families.iter_mut().find(|(name, _)| name == family) {
            Some((_, of_family)) => of_family.push_back(case),
            None => families.push((family.to_string(), VecDeque::from([case]))),
        }
    }
    crate::pick::in_turns(families.into_iter().map(|(_, cases)| cases).collect()).into()
}

/// Cuts them where the time is over; there is one in the first part at least.
fn within(cases: Vec<(f64, Part)>, share: Share) -> (Vec<Part>, Vec<Part>) {
    let (Share::First(most) | Share::Rest(most)) = share;
    let mut sum = 0.0;
    let ends = |(seconds, _): &(f64, Part)| {
        sum += seconds;
        sum > most
    };
    let nr = cases
        .iter()
        .position(ends)
        .map_or(cases.len(), |at| at.max(1));
    let mut first: Vec<Part> = cases.into_iter().map(|(_, part)| part).collect();
    let rest = first.split_off(nr);
    (first, rest)
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
    // That is said of a machine that stands still, too.
    let hangs = [
        "soft lockup",
        "blocked for more than",
        "detected stalls",
        "self-detected stall",
    ];
    let what = match report.filter(|line| !hangs.iter().any(|words| line.contains(words))) {
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

    fn reach(by: &str, seconds: f64, passed: bool, ids: &[usize]) -> Reached {
        Reached {
            by: by.into(),
            seconds,
            passed,
            ids: ids.iter().map(ToString::to_string).collect(),
        }
    }

    fn picked(number: usize) -> Picked {
        Picked {
            number,
            id: number.to_string(),
            text: String::new(),
        }
    }

    fn names(parts: &[Part]) -> Vec<&str> {
        parts.iter().map(|part| &*part.name).collect()
    }

    #[test]
    fn the_quickest_case_comes_first_and_failed_ones_not_at_all() {
        let reach = [
            reach("kunit a", 3.0, true, &[1]),
            reach("kunit b", 1.0, true, &[1]),
            reach("case slow", 2.0, true, &[1, 2]),
            reach("case quick", 0.1, true, &[2]),
            reach("case red", 0.1, false, &[2, 3]),
        ];
        let (plan, unreached) = plan(&[1, 2, 3].map(picked), &reach, Share::First(60.0));
        assert_eq!(unreached.len(), 1);
        assert_eq!((unreached[0].number, unreached[0].noticed), (3, false));
        assert_eq!(names(&plan.mutants[0].suites), ["b", "a"]);
        assert!(plan.mutants[1].suites.is_empty() && !plan.mutants[1].stress);
        assert_eq!(names(&plan.mutants[1].cases), ["quick", "slow"]);
        let limits: Vec<_> = plan.mutants[1].cases.iter().map(|c| c.limit).collect();
        assert_eq!(limits, [6, 25]);
    }

    #[test]
    fn what_is_loaded_may_show_anywhere() {
        let reach = [
            reach("load", 0.1, true, &[1]),
            reach("case a.1", 0.1, true, &[]),
            reach("case b.1", 0.2, true, &[1]),
        ];
        let (plan, _) = plan(&[picked(1)], &reach, Share::First(60.0));
        assert_eq!(names(&plan.mutants[0].cases), ["b.1", "a.1"]);
    }

    #[test]
    fn families_take_turns_and_what_takes_long_comes_later() {
        let reach = [
            reach("kunit a", 3.0, true, &[1]),
            reach("case a.1", 0.1, true, &[1]),
            reach("case a.2", 0.2, true, &[1]),
            reach("case b.1", 3.0, true, &[1]),
            reach("case c.1", 0.3, true, &[1]),
            reach("stress", 0.3, true, &[1]),
        ];
        let of = |share| plan(&[picked(1)], &reach, share).0.mutants.remove(0);
        let first = of(Share::First(1.0));
        assert_eq!(names(&first.cases), ["a.1", "c.1"]);
        assert_eq!((first.suites.len(), first.stress, first.left), (1, true, 2));
        let rest = of(Share::Rest(1.0));
        assert_eq!(names(&rest.cases), ["b.1", "a.2"]);
        assert_eq!((rest.suites.len(), rest.stress, rest.left), (0, false, 0));
        // One at least.
        assert_eq!(names(&of(Share::First(0.0)).cases), ["a.1"]);
    }

    #[test]
    fn what_was_under_way_is_known() {
        let (output, _) = read("{\"begin\":4}\n{\"unsure\":4}\n");
        assert!(output.verdicts.is_empty() && output.unfinished.is_none());
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
        let console =
            "dmirror: mutant 5 begins\nwatchdog: BUG: soft lockup - CPU#1 stuck for 43s!\n";
        let verdict = died(5, "case a", console, |line| line.contains("BUG"));
        assert_eq!(verdict.what, "the kernel hung");
    }
}
