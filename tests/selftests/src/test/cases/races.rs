// SPDX-License-Identifier: GPL-2.0

//! Threads on one huge page that crashed the kernel, or leaked a folio, before its fixes for K19, K20 and K24.

use std::time::Duration;

use anyhow::Result;

use crate::{
    race::{race, FAILED_BEFORE},
    test::{
        case::{Case, Ctx, OnC},
        core_bug::CoreBug,
    },
};

const ON_C: OnC = OnC::Skip("K12, K19, K20, K24, T1, T6: the kernel does not survive");

macro_rules! cases {
    ($($index:literal $name:literal $about:literal;)*) => {
        pub const CASES: &[Case] = &[
            $(Case::new($name, $about, ON_C, |ctx| failed_before(ctx, $index))
                .meets(CoreBug::ZAPPED_TWICE_BY_LUCK).races(),)*
        ];
    };
}

cases! {
    0 "race.0_1_5_10" "K20: zaps beside migrations that find no huge page, both directions";
    1 "race.0_3_5_10" "K19: zaps beside CPU reads of what could not come back huge";
    2 "race.0_5_10_12" "K19: the same with CPU writes";
    3 "race.0_1_3_5_9" "K19: zaps beside CPU reads of what mprotect has split";
    4 "race.ten" "K24: another folio is mapped where one was zapped: ten workers";
    5 "race.0_5_10" "K20: zaps beside migrations to the device that find no huge page";
    6 "race.0_3_5_9" "K19: as race.0_1_3_5_9, where pages come back by faults only";
    7 "race.0_5_8_10" "K3, K20: the same memory shared by fork now and then";
    8 "race.0_1_5_9_10" "K20: failing allocations and split mappings";
    9 "race.0_5_7_10" "K24: device writes put folios where others were zapped";
    10 "race.0_5_10_11" "K24: exclusive pages, too";
    11 "race.0_2_3_5_10" "K12, K13: evictions beside all that";
}

/// How long each goes on.
const DURATION: Duration = Duration::from_millis(1500);

fn failed_before(_ctx: &Ctx, index: usize) -> Result<()> {
    race(FAILED_BEFORE[index], DURATION)
}
