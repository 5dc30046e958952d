// SPDX-License-Identifier: GPL-2.0

//! Reads and sets, in debugfs, how many huge pages of system memory a device keeps ready.

use std::{fs, path::PathBuf, thread::sleep, time::Duration};

use anyhow::{Context, Result};

use crate::{device::Driver, ledger, skip::Skip};

const DEVICE: &str = "/sys/kernel/debug/rust_dmirror/hmm_dmirror0";
const PAUSE: Duration = Duration::from_millis(10);
const PATIENCE: u32 = 100;

/// A changed number of pages to keep. Dropping it restores the old one.
pub struct Ready {
    file: PathBuf,
    was: String,
}

impl Ready {
    pub fn keep(most: u64) -> Result<Ready> {
        let file = PathBuf::from(DEVICE).join("huge_ready");
        if !file.exists() {
            return Err(Skip(format!("there is no {}", file.display())).into());
        }
        let was = fs::read_to_string(&file)?;
        let ready = Ready { file, was };
        ready.set(&most.to_string())?;
        Ok(ready)
    }

    /// Keeps none, for cases in which they would hide what is tested. The C driver never keeps any.
    pub fn none(driver: Driver) -> Result<Option<Ready>> {
        match driver {
            Driver::Rust => Ready::keep(0).map(Some),
            Driver::C => Ok(None),
        }
    }

    pub fn set(&self, text: &str) -> Result<()> {
        fs::write(&self.file, text).with_context(|| format!("writing `{text}` to huge_ready"))
    }

    pub fn most(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.file)?.trim().into())
    }

    /// Returns how many there are now.
    pub fn count(&self) -> Result<u64> {
        let stats = PathBuf::from(DEVICE).join("stats");
        ledger::number(&fs::read_to_string(stats)?, "huge_ready")
    }

    /// Waits until there are `count`, and returns how many there are in the end.
    pub fn wait(&self, count: u64) -> Result<u64> {
        for _ in 0..PATIENCE {
            if self.count()? == count {
                break;
            }
            sleep(PAUSE);
        }
        self.count()
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        let _ = fs::write(&self.file, &self.was);
    }
}
