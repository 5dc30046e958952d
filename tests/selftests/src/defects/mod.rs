// SPDX-License-Identifier: GPL-2.0

//! `dmirror defects`: which guests `make defects` needs, and the table of what was seen in them.

mod log;

use std::{cmp::Reverse, collections::HashMap, fs, path::PathBuf};

use anyhow::{ensure, Context, Result};
use clap::{Args, Subcommand};

use crate::test::{
    defects,
    shown::{How, Kernel, Seen, Shown},
    Case, OnC,
};
use log::{Results, RESULT_PASSED};

#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A line for each guest with the C driver: its name, the kernel, yes if it needs coherent
    /// memory, yes if an oops is to end it, the cases, and the kernel's arguments
    Plan,
    /// The table of what was seen
    Table {
        /// Where the guests' logs are
        #[arg(long)]
        vm: PathBuf,
        /// The guest with our driver
        #[arg(long)]
        rust: String,
        /// The kernels, for people
        #[arg(long)]
        kernels: String,
        /// Where the table goes
        #[arg(long)]
        table: PathBuf,
        /// Where a line goes for each thing checked: what, 0 or 1, and what was seen
        #[arg(long)]
        verdicts: PathBuf,
    },
}

pub fn run(options: &Options) -> Result<u8> {
    match &options.what {
        What::Plan => plan(),
        What::Table {
            vm,
            rust,
            kernels,
            table,
            verdicts,
        } => {
            let seen = read(vm, rust)?;
            fs::write(table, markdown(kernels, &seen)).context("the table")?;
            let (text, good) = judge(&seen);
            fs::write(verdicts, text).context("the verdicts")?;
            Ok(u8::from(!good))
        }
    }
}

fn shown(case: &Case) -> Shown {
    match case.on_c {
        OnC::Shows(shown) => shown,
        _ => unreachable!("a unit test says that all of these have it"),
    }
}

/// What a case wants of its guest; cases that leave the kernel alive share one.
fn guest(case: &Case) -> String {
    let shown = shown(case);
    match (shown.destructive(), shown.coherent, shown.kernel) {
        (true, ..) => format!("defects-c-{}", case.name),
        (_, true, _) => "defects-c-coherent".into(),
        (_, _, Kernel::Stock) => "defects-c-stock".into(),
        (_, _, Kernel::Own) => "defects-c-own".into(),
    }
}

fn plan() -> Result<u8> {
    let mut guests: Vec<(String, Vec<&Case>)> = Vec::new();
    for case in defects() {
        let name = guest(case);
        match guests.iter_mut().find(|(guest, _)| *guest == name) {
            Some((_, cases)) => cases.push(case),
            None => guests.push((name, vec![case])),
        }
    }
    // The longest first: what is short then fits beside what is left of them.
    guests.sort_by_key(|(_, cases)| Reverse(cases.len()));
    for (name, cases) in guests {
        let first = shown(cases[0]);
        let same = |s: &Shown| (s.kernel, s.coherent, s.append);
        ensure!(
            cases.iter().all(|c| same(&shown(c)) == same(&first)),
            "{name}: its cases want different kernels"
        );
        let yes = |yes| if yes { "yes" } else { "no" };
        let names: Vec<_> = cases.iter().map(|case| case.name).collect();
        println!(
            "{name}\t{}\t{}\t{}\t{}\t{}",
            kernel_name(first.kernel),
            yes(first.coherent),
            yes(first.how == How::Breaks),
            names.join(","),
            first.append
        );
    }
    Ok(0)
}

fn kernel_name(kernel: Kernel) -> &'static str {
    match kernel {
        Kernel::Stock => "stock",
        Kernel::Own => "own",
    }
}

/// A case, what was seen of it on C, and how it ended on our driver.
struct Row {
    case: &'static Case,
    shown: Shown,
    c: Seen,
    rust: String,
}

impl Row {
    fn id(&self) -> &str {
        self.case.name.split('.').next().unwrap_or_default()
    }

    /// T1 to T23, then K1 to K11.
    fn order(&self) -> (Reverse<char>, u32) {
        let mut chars = self.id().chars();
        let letter = chars.next().unwrap_or_default();
        (Reverse(letter), chars.as_str().parse().unwrap_or(0))
    }

    fn c_as_known(&self) -> bool {
        self.shown.is(&self.c)
    }
}

fn read(vm: &std::path::Path, rust: &str) -> Result<Vec<Row>> {
    let mut guests: HashMap<String, Results> = HashMap::new();
    let ours = Results::read(&vm.join(rust))?;
    let mut rows = Vec::new();
    for case in defects() {
        let name = guest(case);
        if !guests.contains_key(&name) {
            guests.insert(name.clone(), Results::read(&vm.join(&name))?);
        }
        rows.push(Row {
            case,
            shown: shown(case),
            c: guests[&name].seen(case.name),
            rust: ours.verdict(case.name),
        });
    }
    rows.sort_by_key(Row::order);
    Ok(rows)
}

/// The table holds what is known where that is what was seen: it changes only if a result does.
fn markdown(kernels: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "<!-- SPDX-License-Identifier: GPL-2.0 -->\n\
        <!-- Made by `make defects`; not to be edited. -->\n\n\
        # What the C driver gets wrong, seen beside this one\n\n\
        {kernels}\n\n\
        | id | what is done | kernel | C driver, test_hmm | rust_dmirror |\n\
        | --- | --- | --- | --- | --- |\n"
    );
    let mut last = "";
    for row in rows {
        let id = if row.id() == last { "" } else { row.id() };
        last = row.id();
        let c = match row.c_as_known() {
            true => row.shown.text(),
            false => row.c.text(),
        };
        let mut kernel = kernel_name(row.shown.kernel).to_string();
        if row.shown.coherent {
            kernel += ", coherent memory";
        }
        if !row.shown.append.is_empty() {
            kernel = format!("{kernel}, {}", row.shown.append);
        }
        let cells = [&id.to_uppercase(), row.case.about, &kernel, &c, &row.rust];
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "/")).collect();
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

fn judge(rows: &[Row]) -> (String, bool) {
    let mut text = String::new();
    let mut all = true;
    for row in rows {
        for (driver, good, seen) in [
            ("c", row.c_as_known(), row.c.text()),
            ("rust", row.rust == RESULT_PASSED, row.rust.clone()),
        ] {
            all &= good;
            let known = match (driver, good) {
                ("c", false) => format!("; known: {}", row.shown.text()),
                _ => String::new(),
            };
            text += &format!(
                "{driver}, {}\t{}\t{seen}{known}\n",
                row.case.name,
                u8::from(good)
            );
        }
    }
    (text, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_kernel_is_nobody_elses() {
        let mut alone: Vec<_> = defects()
            .filter(|case| shown(case).destructive())
            .map(guest)
            .collect();
        let all = alone.len();
        alone.dedup();
        assert!(all > 0 && alone.len() == all);
        assert_eq!(plan().unwrap(), 0);
    }
}
