// SPDX-License-Identifier: GPL-2.0

//! The table, for terminals and as Markdown.

use comfy_table::{presets, Table};

use super::{
    super::{
        record::Side,
        rows::Unit,
        stats::{Ratio, Spread},
    },
    judge::{Judged, Verdict},
    part::Part,
};
use crate::table;

const HEADS: [&str; 12] = [
    "operation",
    "pages",
    "size",
    "C",
    "Rust",
    "C / Rust (95 %)",
    "target",
    "met",
    "copy limit",
    "Rust / limit (95 %)",
    "≤ 1.25",
    "Rust / limit, TLB emptied (95 %)",
];

/// Formats a median and its quartiles: as a rate, as a time if nothing is moved, or as bytes.
fn speed(row: &Judged, time: Option<Spread>) -> String {
    let Some(time) = time else {
        return String::new();
    };
    match row.row.unit() {
        // Bytes per nanosecond are GB/s. The longest time is the lowest rate.
        Unit::Rate(bytes) => format!(
            "{:.2} ({:.2}–{:.2}) GB/s",
            bytes / time.median,
            bytes / time.high,
            bytes / time.low
        ),
        Unit::Time => format!(
            "{:.1} ({:.1}–{:.1}) µs",
            time.median / 1e3,
            time.low / 1e3,
            time.high / 1e3
        ),
        Unit::Memory => format!(
            "{:.0} ({:.0}–{:.0}) KiB",
            time.median / 1024.0,
            time.low / 1024.0,
            time.high / 1024.0
        ),
    }
}

fn interval(ratio: Option<Ratio>) -> String {
    ratio
        .map(|r| format!("{:.2} ({:.2}–{:.2})", r.value, r.low, r.high))
        .unwrap_or_default()
}

fn cells(row: &Judged) -> Vec<String> {
    vec![
        row.row.what.text().into(),
        row.row.pages_text(),
        row.row.size(),
        speed(row, row.c),
        speed(row, row.rust),
        interval(row.ratio),
        format!("{}×", row.target),
        row.met.text().into(),
        speed(row, row.limit),
        interval(row.over_limit),
        row.limit_met.text().into(),
        interval(row.over_cold),
    ]
}

fn rows(part: &Part) -> Table {
    let mut table = table::new(&HEADS);
    for row in &part.rows {
        table.add_row(cells(row));
    }
    table
}

/// Returns how many targets were met, of those for which there is something to compare with.
fn summary(part: &Part) -> String {
    let verdicts: Vec<_> = (part.rows.iter())
        .flat_map(|row| [row.met, row.limit_met])
        .filter(|verdict| *verdict != Verdict::None)
        .collect();
    let count = |wanted| verdicts.iter().filter(|v| **v == wanted).count();
    let rounds = part.rows.iter().map(|row| row.rounds);
    let repeated = |side| match part.repeated.iter().filter(|of| **of == side).count() {
        0 => String::new(),
        n => format!("; failed and was repeated: {n} × {side:?}"),
    };
    let repeated = [Side::C, Side::Rust, Side::Limit].map(repeated).concat();
    format!(
        "{} targets: {} met, {} not met, {} unclear; {} to {} rounds{repeated}",
        verdicts.len(),
        count(Verdict::Met),
        count(Verdict::NotMet),
        count(Verdict::Unclear),
        rounds.clone().min().unwrap_or(0),
        rounds.max().unwrap_or(0)
    )
}

pub fn text(parts: &[Part]) -> String {
    let part = |part: &Part| {
        let table = rows(part).to_string().replace("**", "");
        format!("{}\n{table}\n{}\n\n", part.title, summary(part))
    };
    parts.iter().map(part).collect()
}

pub fn markdown(conditions: &str, parts: &[Part]) -> String {
    let mut text = format!(
        "<!-- SPDX-License-Identifier: GPL-2.0 -->\n\
        <!-- Made by `make bench`; not to be edited. -->\n\n\
        # rust_dmirror beside the C driver, test_hmm\n\n\
        {conditions}\n\n\
        Both drivers are loaded in one boot and measured in turns, each time in a new process. Figures are medians of \
        rounds with their quartiles; a ratio has the interval that a bootstrap over rounds gives it. A target is met, \
        or not, if the whole interval is on that side of it. The copy limit is what the kernel's own copy routines take \
        for the same bytes, as often as the ABI demands them copied, from and to buffers that the CPU has just touched: \
        to the device a page copy and a copy to the user, back a page copy, for an access one copy. A migration unmaps \
        pages before it copies them, which empties a TLB, QEMU's all of it: the last column holds it against copies that \
        begin like that, every 2 MiB.\n"
    );
    for part in parts {
        let mut table = rows(part);
        table.load_preset(presets::ASCII_MARKDOWN);
        text += &format!("\n## {}\n\n{}.\n\n", part.title, summary(part));
        if let Some(machine) = &part.machine {
            text += &format!(
                "Linux {}, {} × {}, {} MiB, clock {}.\n\n",
                machine.kernel, machine.cpus, machine.cpu, machine.memory_mib, machine.clocksource
            );
        }
        text += &format!("{table}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{super::judge, *};

    fn part(rust: u64) -> Part {
        let results = judge::tests::results(&[400; 5], &[rust; 5]);
        Part {
            title: "Time".into(),
            machine: None,
            rows: judge::all(&results),
            repeated: vec![Side::C],
            samples: Vec::new(),
            results,
        }
    }

    #[test]
    fn what_is_not_met_is_shown_as_such() {
        let slow = [part(300)];
        let text = markdown("Somewhere.", &slow);
        assert!(text.contains(
            "2 targets: 0 met, 2 not met, 0 unclear; 5 to 5 rounds; failed and was repeated: 1 × C"
        ));
        let row = text.lines().find(|l| l.contains("to device")).unwrap();
        assert_eq!(row.matches("**no**").count(), 2, "{row}");
        assert!(row.contains("1.33 (1.33–1.33)"), "{row}");
        let fast = [part(160)];
        let text = super::text(&fast);
        assert!(text.contains("2 targets: 2 met, 0 not met"));
        assert_eq!(text.matches(" yes ").count(), 2, "{text}");
    }

    #[test]
    fn rates_are_bytes_by_time() {
        let rows = part(100).rows;
        assert!(speed(&rows[0], rows[0].rust).starts_with("20971.52 "));
    }
}
