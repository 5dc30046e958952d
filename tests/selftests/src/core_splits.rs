// SPDX-License-Identifier: GPL-2.0

//! Reads and sets, in debugfs, whether the core splits huge pages while they migrate.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context, Result};

use crate::{check_eq, ledger, skip::Skip};

const DEVICE: &str = "/sys/kernel/debug/rust_dmirror/hmm_dmirror0";

/// The two ways to migrate without a huge destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splits {
    /// The collector splits before the migration, and faults ask a worker to split. The driver asks no more of a kernel
    /// without the fixes of K19, K20 and K24 (docs/defects.md).
    Before,
    /// The core splits during the migration, and faults split mappings.
    WhileMigrating,
}

pub const BOTH: [Splits; 2] = [Splits::Before, Splits::WhileMigrating];

/// The chosen way. Dropping it restores the old one.
pub struct CoreSplits {
    was: String,
}

impl CoreSplits {
    pub fn set(splits: Splits) -> Result<CoreSplits> {
        let file = Path::new(DEVICE).join("core_splits");
        if !file.exists() {
            return Err(Skip(format!("there is no {}", file.display())).into());
        }
        let was = fs::read_to_string(&file)?;
        let text = match splits {
            Splits::Before => "0",
            Splits::WhileMigrating => "1",
        };
        fs::write(&file, text).with_context(|| format!("writing `{text}` to core_splits"))?;
        Ok(CoreSplits { was })
    }

    /// Returns the number of folios that the worker has split for faults so far.
    pub fn by_worker() -> Result<u64> {
        let stats = fs::read_to_string(Path::new(DEVICE).join("stats"))?;
        ledger::number(&stats, "split_by_worker")
    }

    /// Waits until the worker has counted `count` splits. A fault may find a small page before the worker counts.
    pub fn wait_for_worker(count: u64) -> Result<()> {
        for _ in 0..200 {
            if CoreSplits::by_worker()? >= count {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        check_eq!(
            CoreSplits::by_worker()?,
            count,
            "folios split by the worker"
        );
        Ok(())
    }
}

impl Drop for CoreSplits {
    fn drop(&mut self) {
        let _ = fs::write(Path::new(DEVICE).join("core_splits"), &self.was);
    }
}
