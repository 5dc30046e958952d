// SPDX-License-Identifier: GPL-2.0

//! The sizes in `/proc/self/smaps`: what is mapped, and how much of it by huge entries.
//!
//! Device-private pages count as resident there. Pages that are mapped by a huge entry also count as `AnonHugePages`,
//! on the device as in system memory. The sizes therefore show a split, and a lost page.

use std::fs;

use anyhow::{Context, Result};

use crate::page::PAGE_SIZE;

/// The sums of the sizes over all VMAs of a range, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Smaps {
    pub rss: usize,
    pub anon_huge: usize,
    pub swap: usize,
}

/// Returns the sizes for a range. A VMA counts only if all of it is in the range.
pub fn of(addr: usize, size: usize) -> Result<Smaps> {
    let text = fs::read_to_string("/proc/self/smaps").context("/proc/self/smaps")?;
    Ok(sum(&text, addr, addr + size))
}

fn sum(text: &str, start: usize, end: usize) -> Smaps {
    let mut total = Smaps::default();
    let mut inside = false;
    for line in text.lines() {
        if let Some((from, to)) = vma(line) {
            inside = start <= from && to <= end;
        } else if inside {
            let Some((key, rest)) = line.split_once(':') else {
                continue;
            };
            let slot = match key {
                "Rss" => &mut total.rss,
                "AnonHugePages" => &mut total.anon_huge,
                "Swap" => &mut total.swap,
                _ => continue,
            };
            let kb: usize = rest
                .split_whitespace()
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0);
            *slot += kb * 1024 / PAGE_SIZE;
        }
    }
    total
}

/// Returns the address range, if this is the first line of a VMA.
fn vma(line: &str) -> Option<(usize, usize)> {
    let (from, to) = line.split_once(' ')?.0.split_once('-')?;
    Some((
        usize::from_str_radix(from, 16).ok()?,
        usize::from_str_radix(to, 16).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
7f0000200000-7f0000400000 rw-p 00000000 00:00 0
Size:               2048 kB
Rss:                2048 kB
AnonHugePages:      2048 kB
Swap:                  0 kB
SwapPss:               0 kB
VmFlags: rd wr mr mw me ac hg
7f0000400000-7f0000500000 rw-p 00000000 00:00 0
Rss:                   8 kB
Swap:                  4 kB
7f0000800000-7f0000900000 rw-p 00000000 00:00 0                          [heap]
Rss:                  64 kB
";

    #[test]
    fn a_range_is_summed_over_its_vmas() {
        let seen = sum(TEXT, 0x7f00_0020_0000, 0x7f00_0050_0000);
        let wanted = Smaps {
            rss: 514,
            anon_huge: 512,
            swap: 1,
        };
        assert_eq!(seen, wanted);
    }

    #[test]
    fn others_are_left_out() {
        assert_eq!(sum(TEXT, 0x7f00_0080_0000, 0x7f00_0090_0000).rss, 16);
        assert_eq!(sum(TEXT, 0x1000, 0x2000), Smaps::default());
    }
}
