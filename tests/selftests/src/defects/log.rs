// SPDX-License-Identifier: GPL-2.0

//! Reads the logs of a guest: the results of its cases, and the kernel reports during each.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    proc::kmsg::{self, Complaints},
    test::shown::{last_words, without_line_numbers, End, Seen},
};

pub const RESULT_PASSED: &str = "passed";

/// The result line of a case, and the diagnostics before it.
#[derive(Default)]
struct Case {
    line: String,
    said: Vec<String>,
}

#[derive(Default)]
pub struct Results {
    cases: HashMap<String, Case>,
    /// The headlines of the kernel reports during each case.
    complaints: HashMap<String, Vec<String>>,
}

impl Results {
    /// Reads the results of the guest whose logs are in `dir`.
    pub fn read(dir: &Path) -> Result<Results> {
        let text = |name| {
            let path = dir.join(name);
            let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Results {
            cases: cases(&text("output.log")?),
            complaints: complaints(&text("console.log")?),
        })
    }

    /// Returns the result of a case that shows a defect.
    pub fn seen(&self, name: &str) -> Seen {
        let kernel = self.complaints.get(name).cloned().unwrap_or_default();
        let Some(case) = self.cases.get(name) else {
            return Seen {
                end: End::None,
                said: String::new(),
                kernel,
            };
        };
        let end = case.said.iter().rev().find_map(|line| End::parse(line));
        let said = case.said.iter().filter(|line| End::parse(line).is_none());
        Seen {
            end: end.unwrap_or(End::None),
            said: said.cloned().collect::<Vec<_>>().join("\n"),
            kernel,
        }
    }

    /// Returns the result, as text, of a case that must pass.
    pub fn verdict(&self, name: &str) -> String {
        let Some(case) = self.cases.get(name) else {
            return "nothing: the guest ended".into();
        };
        match case.line.split_once(" # ") {
            Some((_, directive)) => directive.to_string(),
            None if case.line.starts_with("ok ") => RESULT_PASSED.into(),
            None => format!(
                "failed: {}",
                last_words(case.said.iter().map(String::as_str))
            ),
        }
    }
}

fn cases(output: &str) -> HashMap<String, Case> {
    let mut found = HashMap::new();
    let mut said = Vec::new();
    for line in output.lines() {
        if let Some(text) = line.strip_prefix("# ") {
            said.push(text.to_string());
            continue;
        }
        let result = line.strip_prefix("not ").unwrap_or(line);
        if let Some(name) = result.strip_prefix("ok ").and_then(|r| r.split(' ').nth(1)) {
            let said = std::mem::take(&mut said);
            let line = line.to_string();
            found.insert(name.to_string(), Case { line, said });
        }
    }
    found
}

/// Returns the headlines of the kernel reports after the beginning of each case, without addresses and line numbers.
fn complaints(console: &str) -> HashMap<String, Vec<String>> {
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    let mut lines = console.lines();
    let mut case = None;
    let mut complaints = Complaints::default();
    while let Some(line) = lines.next() {
        if line.contains("dmirror-guest: ") {
            case = None;
        } else if let Some(name) = kmsg::begun(line) {
            case = Some(name);
        } else if let (Some(name), true) = (case, complaints.are_more(line)) {
            let report = lines.clone().take_while(|l| kmsg::begun(l).is_none());
            let headline = headline(message(line), report.map(message));
            let all = found.entry(name.to_string()).or_default();
            if !all.contains(&headline) {
                all.push(headline);
            }
        }
    }
    found
}

/// Returns a line of the kernel log without its time and its task.
fn message(line: &str) -> &str {
    let mut rest = line;
    while let Some(inner) = rest.strip_prefix('[') {
        rest = inner
            .split_once(']')
            .map_or("", |(_, rest)| rest.trim_start());
    }
    rest
}

/// Returns the first words of a kernel report, and the function of the driver that it names, if any.
fn headline<'a>(first: &str, rest: impl Iterator<Item = &'a str>) -> String {
    let end = [
        "+0x",
        ", address",
        " for address",
        ", probably",
        " on CPU",
        " (",
        ": 0000 ",
    ]
    .iter()
    .filter_map(|mark| first.find(mark))
    .min();
    let words = first[..end.unwrap_or(first.len())].trim_end();
    let words = &*without_line_numbers(words);
    if words.contains("dmirror_") || !first.starts_with("BUG:") && !first.starts_with("Oops") {
        return words.to_string();
    }
    // Only the trace of this oops is searched.
    let mut trace =
        rest.take_while(|line| !line.contains("end trace") && !line.starts_with("BUG:"));
    match trace.find_map(function) {
        Some(function) => format!("{words} in {function}"),
        None => words.to_string(),
    }
}

/// Returns the function of the driver that a line of a call trace names. Ignores lines with a question mark, which are
/// not reliable.
fn function(line: &str) -> Option<&str> {
    let line = line.trim();
    let name = line.strip_prefix("RIP: 0010:").unwrap_or(line);
    // Without a suffix that the compiler may have added.
    let name = name.split_once("+0x")?.0.split('.').next()?;
    name.starts_with("dmirror_").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\
[    5.1] dmirror: case t1.x begins
[    5.2][  T70] BUG: unable to handle page fault for address: ffff88
[    5.2] RIP: 0010:memcpy_orig+0x31/0x120
[    5.2]  ? dmirror_left_over+0x1/0x2
[    5.2]  dmirror_do_read.isra.0+0xb1/0x120 [test_hmm]
[    5.2] ---[ end trace 0000000000000000 ]---
[    5.2] BUG: scheduling while atomic
[    5.3] dmirror: case t2.x begins
[    5.4] WARNING: lib/test_hmm.c:296 at dmirror_do_fault+0x1c6/0x1d0, CPU#1: dmirror/92
[    5.5] dmirror: case t3.x begins
[    5.6] added new 256 MB chunk
";

    #[test]
    fn headlines_have_neither_addresses_nor_line_numbers() {
        let found = complaints(CONSOLE);
        let read = "BUG: unable to handle page fault in dmirror_do_read";
        assert_eq!(found["t1.x"], [read, "BUG: scheduling while atomic"]);
        let fault = "WARNING: lib/test_hmm.c at dmirror_do_fault";
        assert_eq!(found["t2.x"], [fault]);
        assert!(!found.contains_key("t3.x"));
    }

    #[test]
    fn a_case_without_a_line_did_not_end() {
        let output = "KTAP version 1\n1..3\n# noise\n# seen: failed\nok 1 t1.x # XFAIL expected\n\
            # seen: hang\nnot ok 2 t2.x # TIMEOUT after 5 s\n# half\n";
        let results = Results {
            cases: cases(output),
            complaints: complaints(CONSOLE),
        };
        let one = results.seen("t1.x");
        assert_eq!((one.end, one.said.as_str()), (End::Failed, "noise"));
        assert!(!one.kernel.is_empty());
        assert_eq!(results.seen("t2.x").end, End::Hung);
        let three = results.seen("t3.x");
        assert!(three.end == End::None && three.kernel.is_empty());
    }

    #[test]
    fn only_a_plain_ok_is_passed() {
        let output = "ok 1 a\n# why\nnot ok 2 b\nok 3 c # SKIP no memory\n";
        let results = Results {
            cases: cases(output),
            ..Results::default()
        };
        assert_eq!(results.verdict("a"), RESULT_PASSED);
        assert_eq!(results.verdict("b"), "failed: why");
        assert_eq!(results.verdict("c"), "SKIP no memory");
        assert!(results.verdict("d").starts_with("nothing"));
    }
}
