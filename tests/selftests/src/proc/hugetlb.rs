// SPDX-License-Identifier: GPL-2.0

//! The pool of hugetlb pages of one size.

use std::{fs, path::PathBuf};

use anyhow::{ensure, Context, Result};

use crate::{area::HUGE, device::PAGE_SIZE, skip::Skip};

const NO_LARGE: &str =
    "no hugetlb pages of 1 GiB: boot with hugepagesz=1G hugepages=2, and a CPU with pdpe1gb";

/// A pool with a number of free hugetlb pages. Dropping it restores the size of the pool.
pub struct Pool {
    dir: PathBuf,
    before: usize,
}

impl Pool {
    /// Provides at least `nr` free hugetlb pages, of `pages` small pages each. Those of 1 GiB must have been allocated
    /// at boot; if there are too few, the case is skipped.
    pub fn with(pages: usize, nr: usize) -> Result<Pool> {
        let kib = pages * PAGE_SIZE / 1024;
        let dir = PathBuf::from(format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB"));
        let is_small = pages == HUGE;
        if !dir.exists() {
            let why = match is_small {
                true => "this kernel has no hugetlb",
                false => NO_LARGE,
            };
            return Err(Skip(why.into()).into());
        }
        let pool = Pool {
            before: number(&dir, "nr_hugepages")?,
            dir,
        };
        if is_small {
            let wanted = pool.before + nr;
            fs::write(pool.dir.join("nr_hugepages"), wanted.to_string()).context("nr_hugepages")?;
        }
        let free = number(&pool.dir, "free_hugepages")?;
        if !is_small && free < nr {
            return Err(Skip(NO_LARGE.into()).into());
        }
        ensure!(
            free >= nr,
            "{free} free hugetlb pages of {kib} KiB instead of {nr}"
        );
        Ok(pool)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join("nr_hugepages"), self.before.to_string());
    }
}

fn number(dir: &std::path::Path, name: &str) -> Result<usize> {
    let text = fs::read_to_string(dir.join(name)).with_context(|| name.to_string())?;
    text.trim().parse().with_context(|| name.to_string())
}
