// SPDX-License-Identifier: GPL-2.0

//! Allocates so many anon_vmas that whole slab pages of them can be freed later.
//!
//! The kernel finds the mappings of an anonymous page by its anon_vma. Each VMA here has one of its own.

use std::{fs, thread, time::Duration};

use anyhow::Result;

use crate::area::Area;

/// The number of VMAs. There is not room for so many anon_vmas in the slab pages that are in use already.
const COUNT: usize = 500;

/// VMAs, each with an anon_vma of its own.
pub struct AnonVmas {
    _areas: Vec<Area>,
}

impl AnonVmas {
    pub fn new() -> Result<AnonVmas> {
        let one = |_| {
            let area = Area::small(1)?;
            area.set_word(0, 0, 1);
            Ok(area)
        };
        let areas = (0..COUNT).map(one).collect::<Result<_>>()?;
        Ok(AnonVmas { _areas: areas })
    }
}

/// Makes the kernel free the slab pages in which all anon_vmas are free. Does nothing without root.
pub fn free_pages() {
    for _ in 0..2 {
        let _ = fs::write("/sys/kernel/slab/anon_vma/shrink", "1");
        // The pages are freed when no reader can be accessing them any more.
        thread::sleep(Duration::from_millis(100));
    }
}
