// SPDX-License-Identifier: GPL-2.0

//! Reads the kernel log, so that a kernel report fails the case that caused it.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    sync::LazyLock,
};

use nix::libc;
use regex::RegexSet;

/// Lines that a healthy kernel does not log: the list that also decides whether a guest passed.
static COMPLAINTS: LazyLock<RegexSet> = LazyLock::new(|| {
    let lines = include_str!("../../../kernel-reports").lines();
    RegexSet::new(lines.filter(|line| !line.is_empty() && !line.starts_with('#')))
        .expect("tests/kernel-reports: a regular expression on each line")
});

/// Tells new kernel reports from repeated ones.
#[derive(Default)]
pub struct Complaints {
    /// The counters that are known to be negative, and their values. The kernel reports them again at each
    /// [`super::refresh_counters`].
    negative: HashMap<String, String>,
}

impl Complaints {
    /// Returns whether a line of the log is a kernel report, but not a negative counter that was reported before with
    /// the same value.
    pub fn are_more(&mut self, line: &str) -> bool {
        complains(line) && negative(line).is_none_or(|counter| self.has_changed(counter))
    }

    fn has_changed(&mut self, (name, value): (&str, &str)) -> bool {
        let before = self.negative.insert(name.into(), value.into());
        before.is_none_or(|before| before != value)
    }
}

/// Returns the counter that a line reports as negative, and its value.
fn negative(line: &str) -> Option<(&str, &str)> {
    line.split_once("vmstat_refresh: ")?.1.split_once(' ')
}

/// A reader of the kernel log, which starts at the present end of the log.
pub struct Kmsg {
    file: File,
    complaints: Complaints,
}

impl Kmsg {
    /// Opens the log. Returns `None` if this process may not read it.
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

    /// Returns the kernel reports since the last call.
    pub fn complaints(&mut self) -> Vec<String> {
        let mut lines = self.lines();
        lines.retain(|line| self.complaints.are_more(line));
        lines
    }

    /// Returns the first line of each message since the last call.
    pub fn lines(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => found.extend(message(&String::from_utf8_lossy(&record[..length]))),
                // Messages were overwritten before they were read. Continues with the oldest one that is left.
                Err(e) if e.raw_os_error() == Some(libc::EPIPE) => continue,
                Err(_) => break,
            }
        }
        found
    }
}

/// Writes a line to the kernel log, so that readers and scripts can tell what ran when.
pub fn mark(text: &str) {
    if let Ok(mut file) = OpenOptions::new().write(true).open("/dev/kmsg") {
        // One write, since each write makes a record.
        let _ = file.write_all(format!("<6>dmirror: {text}\n").as_bytes());
    }
}

/// Returns the line to [`mark`] before a case.
pub fn begins(case: &str) -> String {
    format!("case {case} begins")
}

/// Returns the case whose beginning a line of the log marks.
pub fn begun(line: &str) -> Option<&str> {
    line.split_once("dmirror: case ")?.1.strip_suffix(" begins")
}

/// Returns whether a line of the log is a kernel report.
pub fn complains(line: &str) -> bool {
    !line.contains("dmirror: case ") && COMPLAINTS.is_match(line)
}

/// Returns the first line of a record's message, without the record's properties.
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

    /// `scripts/selftest.sh` checks that the same examples fail a guest, by the gate (scripts/lib/gate.sh).
    #[test]
    fn complaints_are_those_of_the_gate() {
        let examples = include_str!("../../../runner/reports.txt");
        // Only the gate fails a guest for these.
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
