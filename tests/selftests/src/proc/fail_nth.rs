// SPDX-License-Identifier: GPL-2.0

//! Makes the n-th allocation of this thread fail, by `/proc/thread-self/fail-nth`.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::Path,
};

use anyhow::{ensure, Context, Result};

const DEBUGFS: &str = "/sys/kernel/debug";

/// Settings by which allocations that may sleep can fail as well, and failures are not logged.
const SETTINGS: &[(&str, &str)] = &[
    ("failslab/ignore-gfp-wait", "N"),
    ("failslab/verbose", "0"),
    ("fail_page_alloc/ignore-gfp-wait", "N"),
    ("fail_page_alloc/ignore-gfp-highmem", "N"),
    ("fail_page_alloc/min-order", "0"),
    ("fail_page_alloc/verbose", "0"),
];

const NTH: &str = "/proc/thread-self/fail-nth";
/// More than the number of allocations of any operation, so that none fails.
const NEVER: u64 = 1_000_000;

/// Makes allocations of this thread fail, one at a time.
pub struct FailNth(());

impl FailNth {
    /// Applies [`SETTINGS`]. Returns `None` if the kernel does not support this.
    pub fn new() -> Result<Option<FailNth>> {
        for (file, value) in SETTINGS {
            let path = Path::new(DEBUGFS).join(file);
            if !path.exists() {
                return Ok(None);
            }
            fs::write(&path, value).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(Path::new(NTH).exists().then_some(FailNth(())))
    }

    /// Runs `part` and makes its n-th allocation fail, counted from 1. Also returns whether one failed.
    pub fn run<T>(&self, n: u64, part: impl FnOnce() -> T) -> Result<(T, bool)> {
        let (done, left) = self.with(n, part)?;
        Ok((done, left == 0))
    }

    /// Runs `part`. Also returns the number of its allocations that could fail.
    pub fn count<T>(&self, part: impl FnOnce() -> T) -> Result<(T, u64)> {
        let (done, left) = self.with(NEVER, part)?;
        ensure!(left > 0, "more than {NEVER} allocations");
        Ok((done, NEVER - left))
    }

    fn with<T>(&self, n: u64, part: impl FnOnce() -> T) -> Result<(T, u64)> {
        // Opened twice because the file cannot seek, and in advance because opening it allocates.
        let mut write = OpenOptions::new().write(true).open(NTH).context(NTH)?;
        let mut read = File::open(NTH)?;
        write.write_all(n.to_string().as_bytes())?;
        let done = part();
        let mut left = [0; 16];
        let len = read.read(&mut left)?;
        write.write_all(b"0")?;
        let left = std::str::from_utf8(&left[..len])?.trim().parse()?;
        Ok((done, left))
    }
}
