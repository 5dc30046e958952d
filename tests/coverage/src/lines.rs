// SPDX-License-Identifier: GPL-2.0

//! From rows and executed addresses to lines of files.

use crate::{
    image::{Image, Row},
    scope::Scope,
    source::Source,
};
use anyhow::{Context as _, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

/// A line that has code.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Line {
    pub number: u32,
    /// Without the indentation.
    pub text: String,
    /// Empty outside of functions.
    pub function: String,
    /// How many guests executed it.
    pub guests: usize,
    /// Why it is not executed, from `reasons.toml`.
    pub reason: Option<String>,
}

impl Line {
    pub fn executed(&self) -> bool {
        self.guests != 0
    }
}

/// A file with its lines, ascending.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct File {
    /// From the top of the repository, or of the kernel's source.
    pub path: String,
    /// Of the kernel.
    pub core: bool,
    pub lines: Vec<Line>,
}

#[derive(Default)]
struct Seen {
    guests: BTreeSet<usize>,
    functions: BTreeSet<String>,
}

/// The lines of all images, and the guests that executed each.
#[derive(Default)]
pub struct Gathered(BTreeMap<String, BTreeMap<u32, Seen>>);

/// Rows of one image whose files are below `top`, without that.
pub struct Rows<'a> {
    image: &'a Image,
    rows: Vec<(String, Row)>,
}

impl<'a> Rows<'a> {
    /// Returns the rows of files for which `wanted` is true. Only units for which `units` is true are read: those of
    /// a whole kernel take time.
    pub fn of(
        image: &'a Image,
        top: &Path,
        units: impl Fn(&str) -> bool,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let below = |file: &str| {
            Path::new(file)
                .strip_prefix(top)
                .ok()?
                .to_str()
                .map(str::to_owned)
        };
        let units = |unit: &str| units(&below(unit).unwrap_or_else(|| unit.to_owned()));
        let rows = image.rows(units)?.into_iter().filter_map(|row| {
            let file = below(&row.file)?;
            wanted(&file).then_some((file, row))
        });
        Ok(Self {
            image,
            rows: rows.collect(),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Gathered {
    /// Adds the lines of the rows, as not executed.
    pub fn declare(&mut self, rows: &Rows<'_>) {
        for (file, row) in &rows.rows {
            let seen = self
                .0
                .entry(file.clone())
                .or_default()
                .entry(row.line)
                .or_default();
            // Rust's functions are read from the source.
            if !file.ends_with(".rs") {
                seen.functions.extend(rows.image.function(row.start));
            }
        }
    }

    /// Marks the lines of which any instruction is at one of `addresses`, which are ascending.
    pub fn execute(&mut self, rows: &Rows<'_>, addresses: &[u64], guest: usize) {
        for (file, row) in &rows.rows {
            let first = addresses.partition_point(|&address| address < row.start);
            if addresses
                .get(first)
                .is_some_and(|&address| address < row.end)
            {
                let seen = self
                    .0
                    .entry(file.clone())
                    .or_default()
                    .entry(row.line)
                    .or_default();
                seen.guests.insert(guest);
            }
        }
    }

    /// Returns the files of a tree, with their text. Tests, and functions outside of the scope, are left out.
    pub fn files(self, top: &Path, core: bool, scope: &Scope) -> Result<Vec<File>> {
        let mut files = Vec::new();
        for (path, seen) in self.0 {
            let whole = top.join(&path);
            let text =
                std::fs::read_to_string(&whole).with_context(|| whole.display().to_string())?;
            let source = match path.ends_with(".rs") {
                true => Some(Source::parse(&text).with_context(|| path.clone())?),
                false => None,
            };
            let mut lines = Vec::new();
            let text: Vec<_> = text.lines().collect();
            for (number, seen) in seen {
                let function = match &source {
                    Some(source) if source.is_test(number) => continue,
                    Some(source) => source
                        .function(number)
                        .map(|function| function.name.clone()),
                    None => seen.functions.into_iter().next(),
                };
                let function = function.unwrap_or_default();
                let Some(text) = text.get(number as usize - 1) else {
                    anyhow::bail!("{path} has no line {number}; was it changed after it was built?")
                };
                if scope.has(&path, &function) {
                    let text = text.trim().to_owned();
                    lines.push(Line {
                        number,
                        text,
                        function,
                        guests: seen.guests.len(),
                        reason: None,
                    });
                }
            }
            if !lines.is_empty() {
                files.push(File { path, core, lines });
            }
        }
        Ok(files)
    }
}

/// Sums over files.
#[derive(Default, Clone, Copy, Debug, PartialEq)]
pub struct Total {
    pub lines: usize,
    pub executed: usize,
    /// Not executed, and there is a reason.
    pub explained: usize,
    pub functions: usize,
    /// With at least one executed line.
    pub entered: usize,
}

impl Total {
    pub fn of<'a>(files: impl Iterator<Item = &'a File>) -> Self {
        let mut total = Self::default();
        for file in files {
            let mut functions = BTreeMap::new();
            for line in &file.lines {
                total.lines += 1;
                total.executed += usize::from(line.executed());
                total.explained += usize::from(!line.executed() && line.reason.is_some());
                if !line.function.is_empty() {
                    *functions.entry(&line.function).or_insert(false) |= line.executed();
                }
            }
            total.functions += functions.len();
            total.entered += functions.values().filter(|&&entered| entered).count();
        }
        total
    }

    /// Rounded down: only all is 100.
    pub fn percent(&self) -> String {
        let tenths = (self.executed * 1000)
            .checked_div(self.lines)
            .unwrap_or(1000);
        format!("{}.{}", tenths / 10, tenths % 10)
    }

    pub fn missed(&self) -> usize {
        self.lines - self.executed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_entered_if_one_line_is() {
        let line = |function: &str, guests| Line {
            function: function.into(),
            guests,
            ..Line::default()
        };
        let file = File {
            lines: vec![line("a", 0), line("a", 2), line("b", 0)],
            ..File::default()
        };
        let total = Total::of([&file].into_iter());
        assert_eq!(
            (total.lines, total.executed, total.functions, total.entered),
            (3, 1, 2, 1)
        );
        assert_eq!(total.percent(), "33.3");
    }

    #[test]
    fn almost_all_is_not_all() {
        let total = Total {
            lines: 10000,
            executed: 9999,
            ..Total::default()
        };
        assert_eq!(total.percent(), "99.9");
    }
}
