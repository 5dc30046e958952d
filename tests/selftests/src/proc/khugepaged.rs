// SPDX-License-Identifier: GPL-2.0

//! Settings of `khugepaged`, which collapses small pages to huge ones at any time.
//!
//! Within milliseconds of a refused split, it can have the pages mapped by a huge entry again. It must therefore sleep
//! while a test examines mappings.

use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use anyhow::Result;

use crate::area::Area;

const SLEEP: &str = "/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs";
const DIRECTORY: &str = "/sys/kernel/mm/transparent_hugepage/khugepaged";
/// The pause between two rounds, the pause after a failed allocation, and the number of pages that a round scans.
const EAGER: [(&str, &str); 3] = [
    ("scan_sleep_millisecs", "50"),
    ("alloc_sleep_millisecs", "50"),
    ("pages_to_scan", "8192"),
];
const AN_HOUR: &str = "3600000";

/// Keeps `khugepaged` asleep until it is dropped. Does nothing without root.
pub struct Asleep {
    was: Option<String>,
    _area: Area,
}

impl Asleep {
    pub fn now() -> Result<Asleep> {
        // If no process has memory for it to scan, the first one that gets some wakes it at once, whatever the length
        // of its sleep. Therefore this process always has some.
        let area = Area::huge(1)?;
        area.set_word(0, 0, 1);
        let was = fs::read_to_string(SLEEP)
            .ok()
            .filter(|_| fs::write(SLEEP, AN_HOUR).is_ok());
        if was.is_some() {
            // The write wakes it for one last round.
            sleep(Duration::from_millis(200));
        }
        Ok(Asleep { was, _area: area })
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        if let Some(was) = &self.was {
            let _ = fs::write(SLEEP, was.trim());
        }
    }
}

/// Makes `khugepaged` run with short pauses until it is dropped. Does nothing without root.
pub struct Busy {
    was: Vec<(PathBuf, String)>,
}

impl Busy {
    pub fn now() -> Busy {
        let mut was = Vec::new();
        for (name, value) in EAGER {
            let path = Path::new(DIRECTORY).join(name);
            if let Ok(before) = fs::read_to_string(&path) {
                if fs::write(&path, value).is_ok() {
                    was.push((path, before));
                }
            }
        }
        Busy { was }
    }

    pub fn is_busy(&self) -> bool {
        self.was.len() == EAGER.len()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for (path, before) in &self.was {
            let _ = fs::write(path, before.trim());
        }
    }
}
