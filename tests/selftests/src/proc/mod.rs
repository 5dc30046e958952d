// SPDX-License-Identifier: GPL-2.0

//! Interfaces of the kernel itself, which are the same with both drivers: what it reports about this process and the
//! machine, and settings that tests change.

pub mod affinity;
pub mod anon_vma;
pub mod cgroup;
pub mod fail;
pub mod fail_nth;
pub mod heap;
pub mod hugetlb;
pub mod khugepaged;
pub mod kmsg;
pub mod pagemap;
pub mod policy;
pub mod reap;
pub mod smaps;
pub mod sysfs;
pub mod uffd;

use std::fs;

use anyhow::{Context, Result};

use crate::device::PAGE_SIZE;

/// Returns the number after `key`, in a text of lines like `Key:   123 kB`.
fn field(text: &str, key: &str) -> Option<usize> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
}

/// Makes the kernel log which of its counters of pages are negative. That means that a mapping was removed once too
/// often; `/proc/vmstat` shows such a counter as zero. Does nothing without root.
pub fn refresh_counters() {
    let _ = fs::write("/proc/sys/vm/stat_refresh", "1");
}

/// Returns the number of resident anonymous pages of this process, including those on devices.
pub fn rss_anon() -> Result<usize> {
    status("RssAnon")
}

/// Returns the number of pages of system memory that can still be allocated, as the kernel estimates it.
pub fn available() -> Result<usize> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kb = field(&text, "MemAvailable").context("no MemAvailable in /proc/meminfo")?;
    Ok(kb * 1024 / PAGE_SIZE)
}

/// Returns the bytes of free memory, including the per-CPU lists of free pages.
pub fn free() -> Result<u64> {
    // Adds up the per-CPU counters at once, which the kernel does only from time to time. Needs root.
    let _ = fs::write("/proc/sys/vm/stat_refresh", "1");
    let pages = free_pages(&fs::read_to_string("/proc/zoneinfo")?);
    Ok(pages.context("no pages in /proc/zoneinfo")? * PAGE_SIZE as u64)
}

fn free_pages(zoneinfo: &str) -> Option<u64> {
    let number = |line: &str| {
        let line = line.trim_start();
        let text = line
            .strip_prefix("pages free ")
            .or(line.strip_prefix("count:"))?;
        text.trim().parse::<u64>().ok()
    };
    zoneinfo.lines().filter_map(number).reduce(|sum, n| sum + n)
}

/// Returns a size from `/proc/self/status`, which has it in kB, in pages.
pub fn status(key: &str) -> Result<usize> {
    let text = fs::read_to_string("/proc/self/status")?;
    let kb = field(&text, key).with_context(|| format!("no {key} in /proc/self/status"))?;
    Ok(kb * 1024 / PAGE_SIZE)
}

/// Returns whether there is memory in the movable zone, which has movable pages only.
pub fn has_movable_zone() -> Result<bool> {
    let zoneinfo = fs::read_to_string("/proc/zoneinfo").context("/proc/zoneinfo")?;
    Ok(present(&zoneinfo, "Movable") > 0)
}

/// Returns the number of present pages of a zone, on all nodes.
fn present(zoneinfo: &str, zone: &str) -> u64 {
    let mut is_in = false;
    let mut pages = 0;
    for line in zoneinfo.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["Node", _, "zone", name] => is_in = name == zone,
            ["present", number] if is_in => pages += number.parse().unwrap_or(0),
            _ => {}
        }
    }
    pages
}

/// Makes the kernel release what it keeps for later: pages on their way to the LRU, the page cache, and empty slabs of
/// all object caches. Needs root.
pub fn let_go() -> Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "3").context("drop_caches")?;
    for cache in fs::read_dir("/sys/kernel/slab").context("no object caches")? {
        // Some caches have a second name, and some have been removed by now.
        let _ = fs::write(cache?.path().join("shrink"), "1");
    }
    Ok(())
}

/// Returns whether this is a kernel with our patches, which fix bugs of the core: a huge device page that is zapped
/// while it migrates (K12 in docs/defects.md), and an anon_vma that is freed while device pages are evicted (K13).
/// Recognizes such a kernel by a function that another of our patches adds.
pub fn is_mended() -> bool {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    symbols
        .lines()
        .any(|line| line.split_whitespace().nth(2) == Some("dup_mm_for_tests"))
}

/// Empties the per-CPU lists of pages on their way to the LRU, which hold a reference on each page. Without root it
/// does nothing, and a count may be one too high.
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
    fn pages_that_cpus_keep_are_free() {
        let zoneinfo =
            "Node 0, zone DMA\n  pages free     2816\n        boost    0\n        min 17\n\
            cpu: 0\n              count:    36\n              high:     112\n\
            Node 0, zone Normal\n  pages free     4\n";
        assert_eq!(free_pages(zoneinfo), Some(2856));
        assert_eq!(free_pages(""), None);
    }

    #[test]
    fn pages_of_a_zone_are_added_up() {
        let zoneinfo = "Node 0, zone   Normal\n  pages free 4\n        present  7\n\
            Node 0, zone  Movable\n  pages free 0\n        present  0\n\
            Node 1, zone  Movable\n        present  5\n        managed  4\n";
        assert_eq!(present(zoneinfo, "Movable"), 5);
        assert_eq!(present(zoneinfo, "Normal"), 7);
        assert_eq!(present(zoneinfo, "DMA"), 0);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(rss_anon().unwrap() > 0);
        assert!(available().unwrap() > 0);
    }
}
