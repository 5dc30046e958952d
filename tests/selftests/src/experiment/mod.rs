// SPDX-License-Identifier: GPL-2.0

//! `dmirror experiment`: makes the table of `make experiment` on the host, from the output of the guests.

mod counts;

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{ensure, Context, Result};
use clap::Args;

use crate::table;
use counts::{Expected, Split, STAGES};

#[derive(Args)]
pub struct Options {
    /// The table of expectations
    expected: PathBuf,
    /// The list of runs, one per line, with fields separated by tabs: kernel, driver, program, condition, output file,
    /// kernel reports, expected kernel reports, and yes if these match
    runs: PathBuf,
    /// The file to which the verdicts are written, one per line: what was checked, 1 if it matches or 0, and what was
    /// expected and seen
    verdicts: PathBuf,
}

/// The conditions under which programs run, with their titles in the table.
const CONDITIONS: [(&str, &str); 5] = [
    ("clean", "CLEAN SPLIT"),
    ("refused", "REFUSED SPLIT"),
    ("put", "REFUSED, WITH THE REJECTED PUT"),
    ("zapped", "ZAPPED BEFORE, AS PACKAGED"),
    ("fixed", "ZAPPED BEFORE, WITH OUR FIX"),
];

/// A run of one program, under one condition, with one driver, on one kernel.
struct Run {
    kernel: String,
    driver: String,
    program: String,
    condition: String,
    splits: Vec<Split>,
    ended: &'static str,
    said: String,
    wanted: String,
    as_wanted: bool,
}

/// A cell of the table, and what is expected there.
struct Check {
    what: String,
    expected: String,
    seen: String,
    ok: bool,
}

impl Check {
    fn new<T: PartialEq>(what: &str, expected: T, seen: T, show: impl Fn(&T) -> String) -> Check {
        Check {
            what: what.to_string(),
            expected: show(&expected),
            seen: show(&seen),
            ok: expected == seen,
        }
    }
}

fn or_dash<T: Display>(value: &Option<T>) -> String {
    value.as_ref().map_or("-".into(), T::to_string)
}

/// Returns how the program ended, according to the guest; `nothing` if the guest did not print that.
fn ended(text: &str) -> &'static str {
    let Some(line) = text
        .lines()
        .rfind(|l| l.starts_with("experiment: the program "))
    else {
        return "nothing";
    };
    match line {
        l if l.ends_with(" status 0") => "passed",
        l if l.contains(" ended with status ") => "failed",
        l if l.contains("cannot be killed") => "stuck",
        _ => "hung",
    }
}

impl Run {
    fn read(line: &str, base: &Path) -> Result<Run> {
        let fields: Vec<_> = line.split('\t').collect();
        ensure!(fields.len() == 8, "not a run: {line}");
        // A guest that ended early left no output, so its run does not match.
        let bytes = fs::read(base.join(fields[4])).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        Ok(Run {
            kernel: fields[0].into(),
            driver: fields[1].into(),
            program: fields[2].into(),
            condition: fields[3].into(),
            splits: counts::splits(&text).with_context(|| fields[4].to_string())?,
            ended: ended(&text),
            said: fields[5].into(),
            wanted: fields[6].into(),
            as_wanted: fields[7] == "yes",
        })
    }

    /// Returns the name of its column in the table of expectations.
    fn column(&self) -> String {
        match self.condition.as_str() {
            "put" => format!("put-{}", self.kernel),
            condition => condition.to_string(),
        }
    }

    fn checks(&self, expected: &Expected, clean: &Split) -> Vec<Check> {
        let none = Split::default();
        let split = self.splits.first().unwrap_or(&none);
        let mut checks = Vec::new();
        for (index, (stage, title)) in STAGES.iter().enumerate() {
            checks.push(Check::new(
                title,
                expected.split.stages[index],
                split.stages[index],
                or_dash,
            ));
            if *stage == "after_folio_split" {
                let (wanted, returned) = (expected.split.returned, split.returned);
                checks.push(Check::new("  it returned", wanted, returned, or_dash));
            }
        }
        // Only the first split is refused. Later splits by the program must be clean.
        let later = self.splits.iter().skip(1);
        let (good, all) = (later.clone().filter(|s| *s == clean).count(), later.count());
        checks.push(Check {
            what: "later splits, as clean".into(),
            expected: "all".into(),
            seen: format!("{good} of {all}"),
            ok: good == all,
        });
        let wanted = expected.program.iter().find(|(d, _)| *d == self.driver);
        let wanted = wanted.map_or("?", |(_, how)| how.as_str());
        checks.push(Check {
            what: "the program".into(),
            expected: wanted.into(),
            seen: self.ended.into(),
            ok: match wanted {
                "broken" => self.ended != "passed",
                _ => self.ended == wanted,
            },
        });
        checks.push(Check {
            what: "the kernel said".into(),
            expected: self.wanted.replace("; ", "\n"),
            seen: self.said.replace("; ", "\n"),
            ok: self.as_wanted,
        });
        checks
    }
}

/// Returns what is expected of all runs of a row; if that differs, by driver or by program.
fn common(checks: &[&Check], runs: &[&Run]) -> String {
    let pairs = || checks.iter().zip(runs);
    let differ = pairs().any(|(c, _)| c.expected != checks[0].expected);
    let by_driver = pairs().all(|(c, r)| {
        pairs().all(|(other, run)| run.driver != r.driver || other.expected == c.expected)
    });
    let mut lines: Vec<String> = Vec::new();
    for (check, run) in pairs() {
        let line = match (differ, by_driver) {
            (false, _) => check.expected.clone(),
            (true, true) => format!("{}: {}", run.driver, check.expected),
            (true, false) => format!("{}:\n{}", run.program, check.expected),
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// Prints the table and writes the verdicts. Returns the exit code, 0 if all match.
pub fn run(options: &Options) -> Result<u8> {
    let read = |path: &Path| {
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let expected = read(&options.expected)?;
    let clean = counts::expected(&expected, "clean")?.split;
    let base = options.runs.parent().unwrap_or(Path::new("."));
    let runs = read(&options.runs)?
        .lines()
        .map(|line| Run::read(line, base))
        .collect::<Result<Vec<_>>>()?;
    ensure!(!runs.is_empty(), "there are no runs");

    let mut kernels: Vec<&str> = Vec::new();
    for run in &runs {
        if !kernels.contains(&run.kernel.as_str()) {
            kernels.push(&run.kernel);
        }
    }
    // The columns are the programs that ran under the first condition. Not all of them can run under the others.
    let programs = |kernel: &str| -> Vec<(&str, &str)> {
        runs.iter()
            .filter(|r| r.kernel == kernel && r.condition == CONDITIONS[0].0)
            .map(|r| (r.driver.as_str(), r.program.as_str()))
            .collect()
    };
    let mut heads: Vec<String> = vec!["refs/maps/order".into()];
    for kernel in &kernels {
        heads.push(format!("{kernel}:\nexpected"));
        heads.extend(programs(kernel).iter().map(|(d, p)| format!("{d}\n{p}")));
    }
    let mut body: Vec<Vec<String>> = Vec::new();
    let mut verdicts = String::new();
    let (mut good, mut all) = (0, 0);
    for (condition, title) in CONDITIONS {
        let mut section: Vec<Vec<String>> = Vec::new();
        for kernel in &kernels {
            let runs: Vec<_> = runs
                .iter()
                .filter(|r| r.kernel == *kernel && r.condition == condition)
                .collect();
            let mut columns = Vec::new();
            for run in &runs {
                let expected = counts::expected(&expected, &run.column())?;
                columns.push(run.checks(&expected, &clean));
            }
            ensure!(!columns.is_empty(), "no run under {condition} on {kernel}");
            section.resize_with(columns[0].len(), Vec::new);
            for (index, row) in section.iter_mut().enumerate() {
                let checks: Vec<_> = columns.iter().map(|c| &c[index]).collect();
                if row.is_empty() {
                    row.push(format!("  {}", checks[0].what));
                }
                row.push(common(&checks, &runs));
                for (driver, program) in programs(kernel) {
                    let is_it = |run: &&&Run| run.driver == driver && run.program == program;
                    let Some((check, run)) = checks.iter().zip(&runs).find(|(_, run)| is_it(run))
                    else {
                        row.push(String::new());
                        continue;
                    };
                    all += 1;
                    good += usize::from(check.ok);
                    let mark = if check.ok { "" } else { " <-- !" };
                    row.push(format!("{}{mark}", check.seen));
                    verdicts += &format!(
                        "{kernel}, {}, {}, {condition}: {}\t{}\texpected {}, seen {}\n",
                        run.driver,
                        run.program,
                        check.what.trim(),
                        u8::from(check.ok),
                        check.expected.replace('\n', "; "),
                        check.seen.replace('\n', "; ")
                    );
                }
            }
        }
        body.push(vec![title.to_string()]);
        body.extend(section);
    }
    let mut table = table::new(&heads.iter().map(String::as_str).collect::<Vec<_>>());
    table.add_rows(body);
    println!("{table}");
    println!("{good} of {all} are as expected");
    fs::write(&options.verdicts, verdicts)
        .with_context(|| format!("cannot write {}", options.verdicts.display()))?;
    Ok(u8::from(good != all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let say = |how: &str| ended(&format!("ok 1\nexperiment: the program {how}\n"));
        assert_eq!(say("ended with status 0"), "passed");
        assert_eq!(say("ended with status 10"), "failed");
        assert_eq!(say("hung, and could be killed"), "hung");
        assert_eq!(say("hung, and cannot be killed"), "stuck");
        assert_eq!(ended("ok 1\n"), "nothing");
    }

    #[test]
    fn broken_is_anything_but_passed() {
        let line = "plain\tc\tdmirror\tput\tmissing\t\t\tyes";
        let mut run = Run::read(line, Path::new("/nonexistent")).unwrap();
        let expected = Expected {
            program: vec![("c".into(), "broken".into())],
            ..Expected::default()
        };
        for (ended, ok) in [("passed", false), ("failed", true), ("stuck", true)] {
            run.ended = ended;
            let checks = run.checks(&expected, &Split::default());
            let program = checks.iter().find(|c| c.what == "the program").unwrap();
            assert_eq!(program.ok, ok, "{ended}");
        }
    }

    #[test]
    fn a_run_without_a_trace_matches_nothing() {
        let line = "own\tc\thmm-tests\tclean\tmissing\t\t\tyes";
        let run = Run::read(line, Path::new("/nonexistent")).unwrap();
        let mut expected = Expected::default();
        expected.split.stages[0] = counts::splits(
            "migrate_device_stage: stage=before_get pfn=0x1 order=9 refs=1 mapcount=0 ret=0",
        )
        .unwrap()[0]
            .stages[0];
        let checks = run.checks(&expected, &Split::default());
        assert!(!checks[0].ok);
        assert_eq!((&*checks[0].expected, &*checks[0].seen), ("1/0/9", "-"));
    }
}
