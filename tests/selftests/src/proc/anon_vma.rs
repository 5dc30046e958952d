// SPDX-License-Identifier: GPL-2.0

//! The objects by which the kernel finds who maps an anonymous page, one for each VMA: so many that the
//! pages they are in can be had back.

use std::{fs, thread, time::Duration};

use anyhow::Result;

use crate::area::Area;

/// More than there is room for in the pages that are in use already.
const COUNT: usize = 500;

/// VMAs with an anon_vma each.
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

/// Has the kernel give back pages in which no anon_vma is used any more. Needs root, or nothing happens.
pub fn free_pages() {
    for _ in 0..2 {
        let _ = fs::write("/sys/kernel/slab/anon_vma/shrink", "1");
        // The pages go when nobody can be reading in them.
        thread::sleep(Duration::from_millis(100));
    }
}
