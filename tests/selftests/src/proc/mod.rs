// SPDX-License-Identifier: GPL-2.0

//! What the kernel itself says of this process, whichever driver moved its pages.

pub mod cgroup;
pub mod fail;
pub mod fail_nth;
pub mod khugepaged;
pub mod kmsg;
pub mod pagemap;
pub mod smaps;

use std::fs;

use anyhow::{Context, Result};

use crate::device::PAGE_SIZE;

/// The number after `key` in a file of lines `Key:   123 kB`.
fn field(text: &str, key: &str) -> Option<usize> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
}

/// Anonymous pages that this process is charged for, those on devices included.
pub fn rss_anon() -> Result<usize> {
    let text = fs::read_to_string("/proc/self/status")?;
    let kb = field(&text, "RssAnon").context("no RssAnon in /proc/self/status")?;
    Ok(kb * 1024 / PAGE_SIZE)
}

/// Pages of system memory that could still be had.
pub fn available() -> Result<usize> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kb = field(&text, "MemAvailable").context("no MemAvailable in /proc/meminfo")?;
    Ok(kb * 1024 / PAGE_SIZE)
}

/// Whether this is a kernel of ours, in which bugs of the core are mended: a huge device page that is
/// zapped while it migrates (K12), and an anon_vma that is freed while device pages are evicted (K13).
/// Another one of our patches adds the function by which it is told.
pub fn is_mended() -> bool {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    symbols
        .lines()
        .any(|line| line.split_whitespace().nth(2) == Some("dup_mm_for_tests"))
}

/// Empties the per-CPU lists of pages on their way to the LRU, each of which holds a reference.
/// Needs root; without it nothing happens, and a count may be one too high.
pub fn drain_lru() {
    let _ = fs::write("/proc/sys/vm/drop_caches", "1");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "RssAnonX:\t  1 kB\nRssAnon:\t     212 kB\nRssFile:\t 12 kB\n";
        assert_eq!(field(text, "RssAnon"), Some(212));
        assert_eq!(field(text, "Rss"), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(rss_anon().unwrap() > 0);
        assert!(available().unwrap() > 0);
    }
}
