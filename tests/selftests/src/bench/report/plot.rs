// SPDX-License-Identifier: GPL-2.0

//! The plot: the rates of C, Rust and the copy limit side by side, and the phases of the Rust driver's migrations.

use anyhow::{anyhow, Result};
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::super::{
    record::{Pages, Results, Row, Side, What},
    rows,
    stats::median,
};

const WIDTH: u32 = 1200;
const HEIGHT: u32 = 1020;

const C: RGBColor = RGBColor(0x8c, 0x8c, 0x8c);
const RUST: RGBColor = RGBColor(0xce, 0x42, 0x2b);
const LIMIT: RGBColor = RGBColor(0x2b, 0x5c, 0xa8);
const PHASES: [(&str, RGBColor); 5] = [
    ("setup", RGBColor(0x4c, 0x72, 0xb0)),
    ("copy", RGBColor(0xdd, 0x84, 0x52)),
    ("pages", RGBColor(0x55, 0xa8, 0x68)),
    ("finalize", RGBColor(0xc4, 0x4e, 0x52)),
    ("read back", RGBColor(0x81, 0x72, 0xb3)),
];

/// The bars above one label, beside each other or stacked.
struct Group {
    label: [String; 2],
    values: Vec<f64>,
}

/// Returns the rates of migrations and CPU faults, in GB/s.
fn speeds(results: &Results, pages: Pages) -> Vec<Group> {
    let shown = [What::ToDevice, What::ToSystem, What::FaultInOrder];
    let rows = results.rows().into_iter();
    rows.filter(|row| row.pages == pages && shown.contains(&row.what))
        .map(|row| {
            let speed = |times: &[f64]| match median(times) {
                time if time > 0.0 => row.bytes as f64 / time,
                _ => 0.0,
            };
            let copies: f64 = (row.limit().iter())
                .map(|what| Row::new(*what, Pages::Huge, row.bytes))
                .map(|copy| median(&results.times(copy, Side::Limit)))
                .sum();
            Group {
                label: [short(row.what).into(), rows::size(row.bytes)],
                values: vec![
                    speed(&results.times(row, Side::C)),
                    speed(&results.times(row, Side::Rust)),
                    speed(&[copies]),
                ],
            }
        })
        .collect()
}

fn short(what: What) -> &'static str {
    match what {
        What::FaultInOrder => "faults",
        what => what.text(),
    }
}

/// Returns the time of each phase, in microseconds for each MiB.
fn phases(results: &Results) -> Vec<Group> {
    let there = [
        What::PhaseSetup,
        What::PhaseCopy,
        What::PhasePages,
        What::PhaseFinalize,
        What::PhaseReadback,
    ];
    let back = [
        What::PhaseSetupBack,
        What::PhaseCopyBack,
        What::PhasePagesBack,
        What::PhaseFinalizeBack,
    ];
    let mut groups = Vec::new();
    for (name, whats) in [("to device", &there[..]), ("to system", &back[..])] {
        for first in results.rows().iter().filter(|row| row.what == whats[0]) {
            let mib = first.bytes as f64 / rows::MIB as f64;
            let value = |what: &What| {
                let row = Row {
                    what: *what,
                    ..*first
                };
                median(&results.times(row, Side::Rust)) / 1e3 / mib
            };
            groups.push(Group {
                label: [
                    name.into(),
                    format!("{}, {}", first.pages, rows::size(first.bytes)),
                ],
                values: whats.iter().map(value).collect(),
            });
        }
    }
    groups
}

type Area<'a, 'b> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws the groups. Each is one unit wide.
fn draw(
    area: &Area<'_, '_>,
    title: &str,
    groups: &[Group],
    colours: &[(&str, RGBColor)],
    stacked: bool,
) -> Result<()> {
    let wrong = |error: &dyn std::fmt::Display| anyhow!("{error}");
    let height = |group: &Group| match stacked {
        true => group.values.iter().sum::<f64>(),
        false => group.values.iter().copied().fold(0.0, f64::max),
    };
    let top = groups.iter().map(height).fold(f64::MIN_POSITIVE, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .y_label_area_size(55)
        // The labels are below zero, and the legend is on the right.
        .build_cartesian_2d(0.0..1.12 * groups.len().max(1) as f64, -0.2 * top..top)
        .map_err(|e| wrong(&e))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .disable_x_axis()
        .light_line_style(WHITE)
        .y_label_formatter(&|y| match *y >= 0.0 {
            true => format!("{y}"),
            false => String::new(),
        })
        .draw()
        .map_err(|e| wrong(&e))?;
    for (index, (name, colour)) in colours.iter().enumerate() {
        let bars: Vec<_> = (groups.iter().enumerate())
            .filter(|(_, group)| index < group.values.len())
            .map(|(at, group)| {
                let (left, right, low) = match stacked {
                    true => (0.25, 0.75, group.values[..index].iter().sum()),
                    false => {
                        let width = 0.8 / colours.len() as f64;
                        let left = 0.1 + index as f64 * width;
                        (left, left + width, 0.0)
                    }
                };
                let at = at as f64;
                Rectangle::new(
                    [(at + left, low), (at + right, low + group.values[index])],
                    colour.filled(),
                )
            })
            .collect();
        let colour = *colour;
        chart
            .draw_series(bars)
            .map_err(|e| wrong(&e))?
            .label(*name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    let style = TextStyle::from(("sans-serif", 12)).pos(Pos::new(HPos::Center, VPos::Top));
    for (at, group) in groups.iter().enumerate() {
        for (line, label) in group.label.iter().enumerate() {
            let below = -top * (0.03 + 0.08 * line as f64);
            let text = Text::new(label.as_str(), (at as f64 + 0.5, below), style.clone());
            chart.plotting_area().draw(&text).map_err(|e| wrong(&e))?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 13))
        .draw()
        .map_err(|e| wrong(&e))
}

pub fn svg(results: &Results) -> Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&WHITE).map_err(|e| anyhow!("{e}"))?;
        let areas = root.split_evenly((3, 1));
        let sides = [("C", C), ("Rust", RUST), ("copies", LIMIT)];
        for (area, pages) in areas.iter().zip([Pages::Huge, Pages::Small]) {
            let title = format!("Migration of {pages} pages, GB/s: more is better");
            draw(area, &title, &speeds(results, pages), &sides, false)?;
        }
        let title = "Where the time of rust_dmirror goes, µs for each MiB: less is better";
        draw(&areas[2], title, &phases(results), &PHASES, true)?;
        root.present().map_err(|e| anyhow!("{e}"))?;
    }
    // Adds the licence that every file must have.
    Ok(text.replacen(
        "<svg ",
        "<!-- SPDX-License-Identifier: GPL-2.0 -->\n<svg ",
        1,
    ))
}

#[cfg(test)]
mod tests {
    use super::{super::judge, *};

    #[test]
    fn every_side_is_drawn() {
        let text = svg(&judge::tests::results(&[400; 5], &[200; 5])).unwrap();
        assert!(text.starts_with("<!-- SPDX"));
        for word in ["to device", "2 MiB", "copies", "#CE422B"] {
            assert!(text.contains(word), "{word} is not in it");
        }
        // Without samples, empty charts are drawn.
        svg(&Results::default()).unwrap();
    }
}
