// SPDX-License-Identifier: GPL-2.0

//! The reasons why lines are not executed, from `reasons.toml`, which is written by hand.

use crate::lines::{File, Line};
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct All {
    #[serde(default)]
    reason: Vec<Reason>,
}

/// A reason for lines of a file that are not executed: those of a function, those with a text, or those with both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    file: String,
    /// As the report names it.
    function: Option<String>,
    /// Part of the line.
    line: Option<String>,
    why: String,
    /// The line is executed in some runs, for example because it takes a race.
    #[serde(default)]
    sometimes: bool,
}

impl Reason {
    fn is_of(&self, line: &Line) -> bool {
        (self.sometimes || !line.executed())
            && self
                .function
                .as_ref()
                .is_none_or(|function| line.function == *function)
            && self
                .line
                .as_ref()
                .is_none_or(|text| line.text.contains(text))
    }

    fn subject(&self) -> String {
        [Some(&self.file), self.function.as_ref(), self.line.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join(": ")
    }
}

/// Sets the reason of each line; the first entry that matches counts.
///
/// # Errors
///
/// An entry matches no line: the line is executed now, or was changed.
pub fn apply(path: &Path, files: &mut [File]) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    give(&text, files).with_context(|| path.display().to_string())
}

fn give(text: &str, files: &mut [File]) -> Result<()> {
    let all: All = toml::from_str(text)?;
    let mut idle = Vec::new();
    for reason in &all.reason {
        anyhow::ensure!(
            reason.function.is_some() || reason.line.is_some(),
            "an entry for all of {}; add function = or line =",
            reason.file
        );
        let mut found = false;
        for line in files
            .iter_mut()
            .filter(|file| file.path == reason.file)
            .flat_map(|file| &mut file.lines)
        {
            if reason.is_of(line) {
                found = true;
                line.reason.get_or_insert_with(|| reason.why.clone());
            }
        }
        if !found {
            idle.push(reason.subject());
        }
    }
    anyhow::ensure!(
        idle.is_empty(),
        "entries that match no line (executed now, or changed?); remove or correct them:\n{}",
        idle.join("\n")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<File> {
        let line = |number, text: &str, guests| Line {
            number,
            text: text.into(),
            function: "f".into(),
            guests,
            reason: None,
        };
        let lines = vec![line(1, "let a = 1;", 1), line(2, "return Err(ENOMEM);", 0)];
        vec![File {
            path: "src/a.rs".into(),
            core: false,
            lines,
        }]
    }

    #[test]
    fn a_reason_is_for_what_is_not_executed() {
        let mut files = files();
        give(
            "[[reason]]\nfile = \"src/a.rs\"\nfunction = \"f\"\nwhy = \"because\"\n",
            &mut files,
        )
        .unwrap();
        assert_eq!(files[0].lines[0].reason, None);
        assert_eq!(files[0].lines[1].reason.as_deref(), Some("because"));
    }

    #[test]
    fn a_reason_for_what_is_executed_is_an_error() {
        let text = "[[reason]]\nfile = \"src/a.rs\"\nline = \"let a\"\nwhy = \"because\"\n";
        let error = give(text, &mut files()).unwrap_err();
        assert!(error.to_string().contains("src/a.rs: let a"), "{error}");
        // Unless that happens sometimes.
        give(&format!("{text}sometimes = true\n"), &mut files()).unwrap();
    }

    #[test]
    fn a_reason_for_a_whole_file_is_an_error() {
        assert!(give(
            "[[reason]]\nfile = \"src/a.rs\"\nwhy = \"because\"\n",
            &mut files()
        )
        .is_err());
    }

    #[test]
    fn a_word_that_nobody_knows_is_an_error() {
        assert!(give(
            "[[reason]]\nfile = \"src/a.rs\"\nfunktion = \"f\"\nwhy = \"\"\n",
            &mut files()
        )
        .is_err());
    }
}
