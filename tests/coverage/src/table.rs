// SPDX-License-Identifier: GPL-2.0

//! The report as Markdown, `tests/coverage.md`.

use crate::{
    lines::{File, Total},
    scope::Scope,
};
use std::fmt::{self, Write};

const HEAD: &str = "\
<!-- SPDX-License-Identifier: GPL-2.0 -->
<!-- Written by make coverage; the reasons are in tests/coverage/reasons.toml. -->

# Lines that the suites execute

A line counts if it has code in the module of the kernel `coverage` (`own` with debug information) or of Debian's
kernel; it is executed if any instruction of it was, in any guest. Tests are not counted: modules with `#[kunit_tests]`, and
what KUnit cases need. A QEMU plugin records the instructions when they are translated, which is when they are about to run
(`tests/coverage/src/plugin.rs`): what follows an instruction that faults in the middle of a block counts, and of two lines that the
compiler made one instruction of, without a jump, each does. A generic function that nobody uses has no code.
";

/// `conditions` says in a line what ran.
pub fn write(out: &mut impl Write, files: &[File], scope: &Scope, conditions: &str) -> fmt::Result {
    writeln!(out, "{HEAD}\n{conditions}")?;
    for directory in scope.directories() {
        let of = || {
            files
                .iter()
                .filter(|file| !file.core && scope.directory(&file.path) == Some(directory))
        };
        table(out, &format!("`{directory}/`"), of())?;
    }
    let core = || files.iter().filter(|file| file.core);
    table(
        out,
        "The core, as far as `tests/coverage/scope.toml` names it",
        core(),
    )?;
    writeln!(out, "\n## Not executed")?;
    for file in files.iter().filter(|file| !file.core) {
        missed(out, file)?;
    }
    Ok(())
}

fn table<'a>(
    out: &mut impl Write,
    title: &str,
    files: impl Iterator<Item = &'a File> + Clone,
) -> fmt::Result {
    writeln!(out, "\n## {title}\n")?;
    writeln!(
        out,
        "| file | lines | executed | % | not executed, with a reason | functions | entered |"
    )?;
    writeln!(out, "| --- | --: | --: | --: | --: | --: | --: |")?;
    let mut row = |name: &str, total: Total| {
        let Total {
            lines,
            executed,
            explained,
            functions,
            entered,
            ..
        } = total;
        let percent = total.percent();
        writeln!(
            out,
            "| {name} | {lines} | {executed} | {percent} | {explained} | {functions} | {entered} |"
        )
    };
    for file in files.clone() {
        row(&format!("`{}`", file.path), Total::of([file].into_iter()))?;
    }
    row("**all**", Total::of(files))
}

/// The lines of a file that were not executed, grouped by function.
fn missed(out: &mut impl Write, file: &File) -> fmt::Result {
    if file.lines.iter().all(|line| line.executed()) {
        return Ok(());
    }
    writeln!(
        out,
        "\n### `{}`\n\n| function | line | | reason |\n| --- | --: | --- | --- |",
        file.path
    )?;
    let mut last = None;
    for line in file.lines.iter().filter(|line| !line.executed()) {
        let function = match last {
            Some(name) if name == &line.function => String::new(),
            _ if line.function.is_empty() => "–".into(),
            _ => code(&line.function),
        };
        last = Some(&line.function);
        let reason = line.reason.as_deref().unwrap_or_default();
        writeln!(
            out,
            "| {function} | {} | {} | {reason} |",
            line.number,
            code(&line.text)
        )?;
    }
    Ok(())
}

/// A cell ends at a bar, in code as well.
fn code(text: &str) -> String {
    let ticks = if text.contains('`') { "``" } else { "`" };
    format!("{ticks}{}{ticks}", text.replace('|', "\\|"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Line;

    #[test]
    fn missed_lines_are_grouped() {
        let line = |number, function: &str, guests| Line {
            number,
            function: function.into(),
            text: "a | b".into(),
            guests,
            reason: (number == 2).then(|| "because".into()),
        };
        let lines = vec![
            line(1, "f", 1),
            line(2, "f", 0),
            line(3, "f", 0),
            line(5, "g", 0),
        ];
        let mut out = String::new();
        missed(
            &mut out,
            &File {
                path: "src/a.rs".into(),
                lines,
                core: false,
            },
        )
        .unwrap();
        let rows: Vec<_> = out.lines().skip(5).collect();
        assert_eq!(
            rows,
            [
                "| `f` | 2 | `a \\| b` | because |",
                "|  | 3 | `a \\| b` |  |",
                "| `g` | 5 | `a \\| b` |  |"
            ]
        );
    }

    #[test]
    fn a_file_without_missed_lines_is_left_out() {
        let lines = vec![Line {
            number: 1,
            guests: 1,
            ..Line::default()
        }];
        let mut out = String::new();
        missed(
            &mut out,
            &File {
                lines,
                ..File::default()
            },
        )
        .unwrap();
        assert_eq!(out, "");
    }
}
