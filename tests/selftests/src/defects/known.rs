// SPDX-License-Identifier: GPL-2.0

//! The known defects of the C driver and of the core, and the guests that show them.

use std::{cmp::Reverse, fmt::Write};

use anyhow::{ensure, Result};

use crate::{
    device::Driver,
    test::{
        core_bug_cases, defects,
        shown::{How, Kernel, Shown},
        Case, CoreBugs, OnC,
    },
};

/// A case that shows a known defect: of the C driver, or of a core without our patches.
pub struct Known {
    pub case: &'static Case,
    /// The id of the defect, in docs/defects.md.
    pub id: &'static str,
    /// The driver with which the defect shows.
    pub driver: Driver,
    pub shown: Shown,
}

pub fn of_c() -> impl Iterator<Item = Known> {
    defects().map(|case| Known {
        case,
        id: case.name.split('.').next().unwrap_or_default(),
        driver: Driver::C,
        shown: match case.on_c {
            OnC::Shows(shown) => shown,
            _ => unreachable!("a unit test says that all of these have it"),
        },
    })
}

pub fn of_core(which: CoreBugs) -> impl Iterator<Item = Known> {
    core_bug_cases(which).into_iter().filter_map(|case| {
        let bug = case.core_bug?;
        Some(Known {
            case,
            id: bug.id,
            driver: Driver::Rust,
            shown: bug.shown?,
        })
    })
}

impl Known {
    /// Returns the name of the guest that shows it. Cases after which the kernel continues to work share a guest.
    pub fn guest(&self) -> String {
        let (name, shown) = (self.case.name, &self.shown);
        match (
            self.driver,
            shown.destructive(),
            shown.coherent,
            shown.kernel,
        ) {
            (Driver::Rust, true, ..) => format!("defects-core-{name}"),
            (Driver::Rust, ..) => "defects-core".into(),
            (_, true, ..) => format!("defects-c-{name}"),
            (_, _, true, _) => "defects-c-coherent".into(),
            (_, _, _, Kernel::Stock) => "defects-c-stock".into(),
            (_, _, _, Kernel::Own) => "defects-c-own".into(),
        }
    }
}

pub fn kernel_name(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Stock => "stock",
        Kernel::Own => "own",
    }
}

fn driver_name(driver: Driver) -> &'static str {
    match driver {
        Driver::Rust => "rust",
        Driver::C => "c",
    }
}

/// Returns the list of guests, one per line, for `dmirror defects plan`.
pub fn plan(which: CoreBugs) -> Result<String> {
    let mut guests: Vec<(String, Vec<Known>)> = Vec::new();
    for known in of_c().chain(of_core(which)) {
        let name = known.guest();
        match guests.iter_mut().find(|(guest, _)| *guest == name) {
            Some((_, all)) => all.push(known),
            None => guests.push((name, vec![known])),
        }
    }
    // The longest ones first: guests run two at a time, and the short ones then run beside the last long one.
    guests.sort_by_key(|(_, all)| Reverse(all.len()));
    let mut text = String::new();
    for (name, all) in guests {
        let first = &all[0];
        let same = |known: &Known| {
            let shown = &known.shown;
            (known.driver, shown.kernel, shown.coherent, shown.append)
        };
        ensure!(
            all.iter().all(|known| same(known) == same(first)),
            "{name}: its cases want different kernels"
        );
        let yes = |yes| if yes { "yes" } else { "no" };
        let names: Vec<_> = all.iter().map(|known| known.case.name).collect();
        writeln!(
            text,
            "{name}\t{}\t{}\t{}\t{}\t{}\t{}",
            driver_name(first.driver),
            kernel_name(first.shown.kernel),
            yes(first.shown.coherent),
            yes(first.shown.how == How::Breaks),
            names.join(","),
            first.shown.append
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_kernel_is_nobody_elses() {
        let mut alone: Vec<_> = of_c()
            .chain(of_core(CoreBugs::All))
            .filter(|known| known.shown.destructive())
            .map(|known| known.guest())
            .collect();
        let all = alone.len();
        alone.sort();
        alone.dedup();
        assert!(all > 0 && alone.len() == all);
        let plan = plan(CoreBugs::All).unwrap();
        assert!(plan.lines().count() > all);
        assert!(plan.lines().all(|line| line.split('\t').count() == 7));
    }
}
