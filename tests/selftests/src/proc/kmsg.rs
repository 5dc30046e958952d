// SPDX-License-Identifier: GPL-2.0

//! The kernel's log, so that what the kernel complains of is counted against the case that
//! provoked it.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
};

use nix::libc;

use crate::test::filter;

/// What a healthy kernel does not say: what GATE_REPORTS in `scripts/lib/gate.sh` has, as
/// [`filter::matches`] reads it. `Bad rss` is how a lost page shows without DEBUG_VM.
const COMPLAINTS: &[&str] = &[
    "BUG:",
    "kernel BUG at",
    "WARNING:",
    "Oops",
    "general protection fault",
    "Kernel panic",
    // Of the slab allocator, without a colon.
    "*BUG * (*",
    "pagealloc: memory corruption",
    "pagealloc: single bit error",
    "ODEBUG:",
    "trying to register non-static key",
    "KASAN:",
    "KCSAN:",
    "KMSAN:",
    "KFENCE:",
    "UBSAN:",
    "Unable to handle",
    "unable to handle",
    // Of lockdep.
    "possible circular locking",
    "possible recursive locking",
    "possible irq lock inversion",
    "inconsistent lock state",
    "suspicious RCU usage",
    "Invalid wait context",
    "bad unlock balance",
    "held lock freed",
    "lock held when returning to user space",
    "DEBUG_LOCKS_WARN_ON",
    "blocked for more than",
    "blocked in I/O wait",
    "rcu: INFO:",
    "detected stalls",
    "kthread starved",
    "soft lockup",
    "hard LOCKUP",
    "workqueue lockup",
    "scheduling while atomic",
    "sleeping function called",
    "Bad page state",
    "Bad page map",
    "Bad page cache",
    "Bad rss-counter",
    "non-zero pgtables_bytes",
    "page dumped because",
    "refcount_t:",
    "list_add corruption",
    "list_del corruption",
    "double free",
    "*kmemleak: * new*",
    "unreferenced object",
    // A counter of pages is negative: see [`super::refresh_counters`].
    "vmstat_refresh:",
    "rust_kernel: panicked",
    "panicked at",
    "Out of memory:",
    "segfault at",
    "trap int3",
    "trap invalid opcode",
];

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
    !line.contains("dmirror: case ") && COMPLAINTS.iter().any(|c| filter::matches(c, line))
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

    /// Lines that a pattern of the gate's is about; it has no more than these of regular expressions.
    fn examples(pattern: &str) -> Vec<String> {
        let plain = pattern
            .replace("\\(", "\u{1}")
            .replace("[^ ]+", "kmalloc-64")
            .replace("[0-9]+", "5")
            .replace(".*", ": x");
        let all = match plain.split_once('(') {
            Some((head, rest)) => {
                let (choice, tail) = rest.split_once(')').unwrap();
                let line = |word| format!("{head}{word}{tail}");
                choice.split('|').map(line).collect()
            }
            None => vec![plain],
        };
        all.iter()
            .map(|line| format!("[ 1.0] {} x", line.replace('\u{1}', "(")))
            .collect()
    }

    #[test]
    fn complaints_are_those_of_the_gate() {
        let gate = include_str!("../../../../scripts/lib/gate.sh");
        let list = gate.split_once("GATE_REPORTS=(").unwrap().1;
        let list = list.split_once("\n)").unwrap().0;
        let patterns: Vec<_> = list.split('\'').skip(1).step_by(2).collect();
        assert!(patterns.len() > 40, "{patterns:?}");
        for line in patterns.into_iter().flat_map(examples) {
            assert!(complains(&line), "{line}");
        }
    }
}
