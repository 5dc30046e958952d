// SPDX-License-Identifier: GPL-2.0

//! The kernel's log, so that what the kernel complains of is counted against the case that
//! provoked it.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
};

use nix::libc;

/// What a healthy kernel does not say. `Bad rss` is how a lost page shows without DEBUG_VM.
const COMPLAINTS: [&str; 15] = [
    "BUG:",
    // Of the slab allocator, without a colon.
    "BUG kmalloc",
    "kernel BUG at",
    "WARNING:",
    "Oops",
    "general protection fault",
    "Bad page",
    "Bad rss-counter",
    "KASAN:",
    "UBSAN:",
    "INFO: task",
    "INFO: rcu",
    "soft lockup",
    "possible circular locking",
    "rust_kernel: panicked",
];

/// A reader of the log that starts at its present end.
pub struct Kmsg {
    file: File,
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
        Some(Kmsg { file })
    }

    /// What the kernel complained of since the last call.
    pub fn complaints(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => found.extend(complaint(&String::from_utf8_lossy(&record[..length]))),
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
    !line.contains("dmirror: case ") && COMPLAINTS.iter().any(|c| line.contains(c))
}

/// The message of a record, if it is a complaint.
fn complaint(record: &str) -> Option<String> {
    let message = record.split_once(';')?.1.lines().next()?;
    complains(message).then(|| message.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
