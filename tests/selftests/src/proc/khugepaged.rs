// SPDX-License-Identifier: GPL-2.0

//! `khugepaged` makes huge pages of small ones behind everybody's back: within milliseconds of a
//! refused split the pages can be mapped by a huge entry again. What is looked at must hold still.

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
/// Between two rounds, after a failed allocation, and how much of memory a round takes.
const EAGER: [(&str, &str); 3] = [
    ("scan_sleep_millisecs", "50"),
    ("alloc_sleep_millisecs", "50"),
    ("pages_to_scan", "8192"),
];
const AN_HOUR: &str = "3600000";

/// Keeps `khugepaged` asleep for as long as this lives. Needs root, and does nothing without.
pub struct Asleep {
    was: Option<String>,
    _area: Area,
}

impl Asleep {
    pub fn now() -> Result<Asleep> {
        // Where no process had anything for it to do, the first one that has wakes it at once,
        // whatever its sleep is. So this one has something, always.
        let area = Area::huge(1)?;
        area.set_word(0, 0, 1);
        let was = fs::read_to_string(SLEEP)
            .ok()
            .filter(|_| fs::write(SLEEP, AN_HOUR).is_ok());
        if was.is_some() {
            // Writing wakes it for one last round.
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

/// Keeps `khugepaged` at work for as long as this lives. Needs root, and does nothing without.
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
