// SPDX-License-Identifier: GPL-2.0

//! The kernel's log, so that what the kernel complains of is counted against the case that
//! provoked it.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    sync::LazyLock,
};

use nix::libc;
use regex::RegexSet;

/// What a healthy kernel does not say: the list that decides whether a guest passed.
static COMPLAINTS: LazyLock<RegexSet> = LazyLock::new(|| {
    let lines = include_str!("../../../kernel-reports").lines();
    RegexSet::new(lines.filter(|line| !line.is_empty() && !line.starts_with('#')))
        .expect("tests/kernel-reports: a regular expression on each line")
});

/// What a kernel complains of, told from what it repeats.
#[derive(Default)]
pub struct Complaints {
    /// The counters that are known to be negative, with their values: the kernel says so each time it is asked
    /// ([`super::refresh_counters`]).
    negative: HashMap<String, String>,
}

impl Complaints {
    /// Whether a line of the log is a complaint that was not made before.
    pub fn are_more(&mut self, line: &str) -> bool {
        complains(line) && negative(line).is_none_or(|counter| self.has_changed(counter))
    }

    fn has_changed(&mut self, (name, value): (&str, &str)) -> bool {
        let before = self.negative.insert(name.into(), value.into());
        before.is_none_or(|before| before != value)
    }
}

/// A counter that the kernel says is negative, and its value.
fn negative(line: &str) -> Option<(&str, &str)> {
    line.split_once("vmstat_refresh: ")?.1.split_once(' ')
}

/// A reader of the log that starts at its present end.
pub struct Kmsg {
    file: File,
    complaints: Complaints,
}

impl Kmsg {
    /// `None` where one may not read the log.
    pub fn open() -> Option<Kmsg> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .ok()?;
        file.seek(SeekFrom::End(0)).ok()?;
        Some(Kmsg {
            file,
            complaints: Complaints::default(),
        })
    }

    /// What the kernel complained of since the last call.
    pub fn complaints(&mut self) -> Vec<String> {
        let mut lines = self.lines();
        lines.retain(|line| self.complaints.are_more(line));
        lines
    }

    /// The first line of each message since the last call.
    pub fn lines(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => found.extend(message(&String::from_utf8_lossy(&record[..length]))),
                // Overwritten before it was read: go on with what is there.
                Err(e) if e.raw_os_error() == Some(libc::EPIPE) => continue,
                Err(_) => break,
            }
        }
        found
    }
}

/// Leaves a line in the log; people and scripts that read it then know what came when.
pub fn mark(text: &str) {
    if let Ok(mut file) = OpenOptions::new().write(true).open("/dev/kmsg") {
        // Each write is a record of its own.
        let _ = file.write_all(format!("<6>dmirror: {text}\n").as_bytes());
    }
}

/// The line before a case, for [`mark`].
pub fn begins(case: &str) -> String {
    format!("case {case} begins")
}

/// The case that a line of the log announces.
pub fn begun(line: &str) -> Option<&str> {
    line.split_once("dmirror: case ")?.1.strip_suffix(" begins")
}

/// Whether a line of the log is a complaint of the kernel's.
pub fn complains(line: &str) -> bool {
    !line.contains("dmirror: case ") && COMPLAINTS.is_match(line)
}

/// The message of a record, without its properties.
fn message(record: &str) -> Option<String> {
    let message = record.split_once(';')?.1.lines().next()?;
    Some(message.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(record: &str) -> Option<String> {
        message(record).filter(|message| complains(message))
    }

    #[test]
    fn complaints_are_told_from_news() {
        let record = "4,339,5140900,-;BUG: Bad rss-counter state mm:0 type:MM_ANONPAGES val:512\n";
        assert!(complaint(record).unwrap().starts_with("BUG: Bad rss"));
        assert_eq!(
            complaint("6,1,1,-;added new 256 MB chunk\n SUBSYSTEM=x\n"),
            None
        );
        assert_eq!(complaint("6,1,1,-;dmirror: case WARNING: begins\n"), None);
        assert_eq!(complaint("nonsense"), None);
    }

    #[test]
    fn a_negative_counter_is_told_once_for_each_value() {
        let mut complaints = Complaints::default();
        let mut is_new =
            |value| complaints.are_more(&format!("[ 1.0] vmstat_refresh: nr_x {value}"));
        assert!(is_new(-512));
        assert!(!is_new(-512));
        assert!(is_new(-1024));
        assert!(complaints.are_more("vmstat_refresh: nr_y -1024"));
        assert!(complaints.are_more("BUG: x") && complaints.are_more("BUG: x"));
    }

    /// The same examples turn the gate red: `scripts/selftest.sh`.
    #[test]
    fn complaints_are_those_of_the_gate() {
        let examples = include_str!("../../../runner/reports.txt");
        // For the gate alone: what it sees beside a report.
        let gate_only = ["Call Trace:", "not ok "];
        for line in examples.lines() {
            let expected = !gate_only.iter().any(|text| line.contains(text));
            assert_eq!(complains(line), expected, "{line}");
        }
        for line in include_str!("../../../runner/clean.txt").lines() {
            assert!(!complains(line), "{line}");
        }
    }
}
