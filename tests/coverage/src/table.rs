// SPDX-License-Identifier: GPL-2.0

//! The report as Markdown, `tests/coverage.md`.

use crate::{
    lines::{File, Total},
    scope::Scope,
};
use std::fmt::{self, Write};

const HEAD: &str = "\
<!-- SPDX-License-Identifier: GPL-2.0 -->
<!-- Written by make coverage. Reasons come from tests/coverage/reasons.toml. -->

# Lines that the suites execute

`make coverage` boots the guests of `make test` and `make test-all` under a QEMU plugin
(`tests/coverage/src/plugin.rs`), which records the address of each instruction that runs. Debug information maps
addresses to lines.

- A line counts if the module has an instruction for it: on the kernel `coverage`, which is `own` with debug
  information, or on Debian's kernel. A generic function that nothing instantiates has none.
- A line is executed if any of its instructions ran in any guest. No line says whether a condition was both true and false.
- For `coverage`, rustc runs no LLVM passes. With them, half of the lines have no instruction of their own,
  among them most that return an error. Debian's kernel runs the module as it is built for use.
- Tests do not count: modules with `#[kunit_tests]`, and the helpers of KUnit cases.
- QEMU translates a block of instructions when it is about to run, and the plugin records the block then. If an
  instruction in the middle of a block faults, those behind it count although they did not run. In the
  kernel only accesses with an exception table entry may fault, and user accesses are in their own helpers.
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
