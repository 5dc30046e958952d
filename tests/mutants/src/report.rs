// SPDX-License-Identifier: GPL-2.0

//! The table of a run: tests/mutants.md.

use std::{collections::BTreeMap, fmt::Write};

use anyhow::{bail, Result};
use serde::{Deserialize, Serialize};

use crate::{candidate::Candidate, guest::Verdict};

/// A mutant that was tried, in the file of results.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tried {
    #[serde(flatten)]
    pub candidate: Candidate,
    /// Cases that reach it, by which it was not tried.
    #[serde(default)]
    pub left: usize,
    pub verdict: Verdict,
}

/// The figures of a group.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Figures {
    pub tried: usize,
    pub noticed: usize,
    /// Survived, with a reason.
    pub explained: usize,
}

impl Figures {
    fn add(&mut self, tried: &Tried, reasons: &BTreeMap<String, String>) {
        self.tried += 1;
        if tried.verdict.noticed {
            self.noticed += 1;
        } else if reasons.contains_key(&tried.candidate.id) {
            self.explained += 1;
        }
    }

    /// Percent noticed, of those that could be.
    pub fn share(&self) -> f64 {
        match self.tried - self.explained {
            0 => 100.0,
            possible => 100.0 * self.noticed as f64 / possible as f64,
        }
    }

    fn row(&self, name: &str) -> String {
        format!(
            "| {name} | {} | {} | {} | {} | {:.0} % |\n",
            self.tried,
            self.noticed,
            self.tried - self.noticed - self.explained,
            self.explained,
            self.share()
        )
    }
}

const HEADS: &str = "tried | noticed | survived | equivalent | noticed of the others";

/// Each reason must be of a mutant that there is.
pub fn check_reasons(reasons: &BTreeMap<String, String>, all: &[Candidate]) -> Result<()> {
    let unknown: Vec<_> = reasons
        .keys()
        .filter(|id| !all.iter().any(|candidate| candidate.id == **id))
        .map(|id| id.as_str())
        .collect();
    if !unknown.is_empty() {
        bail!(
            "tests/mutants/equivalent.toml has reasons for mutants that are no more: {}; remove them",
            unknown.join(", ")
        );
    }
    Ok(())
}

pub fn figures(all: &[Tried], reasons: &BTreeMap<String, String>) -> Figures {
    let mut figures = Figures::default();
    all.iter().for_each(|tried| figures.add(tried, reasons));
    figures
}

pub fn markdown(all: &[Tried], reasons: &BTreeMap<String, String>, seed: u64) -> Result<String> {
    let total = figures(all, reasons);
    let mut out = String::new();
    write!(
        out,
        "<!-- SPDX-License-Identifier: GPL-2.0 -->\n# Mutants\n\n\
         Written by `make mutants MUTANTS={} SEED={seed}`. A mutant is one small change of `src/` or `rust/`; it is noticed if\n\
         the tests of the pure logic, KUnit, a case of the companion, ten seconds of stress, the kernel's log or `rmmod` is not as it\n\
         should be. Equivalent are those\n\
         that [`tests/mutants/equivalent.toml`](mutants/equivalent.toml) gives a reason for.\n\n\
         | | {HEADS} |\n| --- | ---: | ---: | ---: | ---: | ---: |\n{}\n",
        total.tried,
        total.row("all")
    )?;
    let table = |out: &mut String, head: &str, name: &dyn Fn(&Tried) -> String| -> Result<()> {
        let mut groups: BTreeMap<String, Figures> = BTreeMap::new();
        for tried in all {
            groups.entry(name(tried)).or_default().add(tried, reasons);
        }
        writeln!(
            out,
            "| {head} | {HEADS} |\n| --- | ---: | ---: | ---: | ---: | ---: |"
        )?;
        for (name, figures) in groups {
            out.push_str(&figures.row(&name));
        }
        out.push('\n');
        Ok(())
    };
    table(&mut out, "kind", &|t| t.candidate.kind.to_string())?;
    table(&mut out, "file", &|t| format!("`{}`", t.candidate.file))?;
    let mut by: BTreeMap<&str, usize> = BTreeMap::new();
    for tried in all.iter().filter(|tried| tried.verdict.noticed) {
        *by.entry(part(&tried.verdict.by)).or_default() += 1;
    }
    let by: Vec<_> = by.iter().map(|(part, nr)| format!("{part} {nr}")).collect();
    writeln!(
        out,
        "Noticed first by: {}.\n\n## Survivors\n",
        by.join(", ")
    )?;
    writeln!(
        out,
        "| id | where | kind | change | reached by | reason |\n| --- | --- | --- | --- | --- | --- |"
    )?;
    let mut survivors: Vec<_> = all.iter().filter(|tried| !tried.verdict.noticed).collect();
    survivors.sort_by_key(|tried| (&tried.candidate.file, tried.candidate.line));
    for tried in survivors {
        let Candidate {
            id,
            file,
            line,
            function,
            kind,
            original,
            replacement,
            ..
        } = &tried.candidate;
        let reason = reasons.get(id).map_or("", |reason| reason);
        writeln!(
            out,
            "| {id} | `{file}:{line}` `{function}` | {kind} | {} → {} | {} | {} |",
            code(original),
            code(replacement),
            cell(&seen(tried)),
            cell(reason),
        )?;
    }
    Ok(out)
}

/// What looked at a survivor.
pub fn seen(tried: &Tried) -> String {
    match tried.left {
        0 => tried.verdict.what.clone(),
        left => format!("{}; not tried by {left} more cases", tried.verdict.what),
    }
}

/// The suite that something belongs to.
fn part(by: &str) -> &str {
    by.split(' ').next().unwrap_or(by)
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn code(text: &str) -> String {
    let short = match text.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    };
    format!("`{}`", cell(&short).replace('`', "'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candidate::Kind;

    fn tried(id: &str, noticed: bool) -> Tried {
        Tried {
            candidate: Candidate {
                id: id.into(),
                file: "src/a.rs".into(),
                line: 1,
                function: "f".into(),
                kind: Kind::Condition,
                original: "a || b".into(),
                replacement: "a && b".into(),
                edit: None,
            },
            left: 0,
            verdict: Verdict {
                number: 1,
                noticed,
                by: "case x".into(),
                what: String::new(),
                seconds: 1.0,
            },
        }
    }

    #[test]
    fn equivalent_mutants_are_not_held_against_the_suites() {
        let all = [tried("a", true), tried("b", false), tried("c", false)];
        let reasons = BTreeMap::from([("b".to_string(), "the same".to_string())]);
        let figures = figures(&all, &reasons);
        assert_eq!(
            (figures.tried, figures.noticed, figures.explained),
            (3, 1, 1)
        );
        assert_eq!(figures.share(), 50.0);
        let text = markdown(&all, &reasons, 3).unwrap();
        assert!(text.contains("| all | 3 | 1 | 1 | 1 | 50 % |"), "{text}");
        assert!(text.contains("`a \\|\\| b`") && text.contains("the same"));
        assert!(text.contains("case 1"));
    }

    #[test]
    fn a_reason_for_nothing_is_an_error() {
        let all = [tried("a", true).candidate];
        let reasons = |id: &str| BTreeMap::from([(id.to_string(), String::new())]);
        assert!(check_reasons(&reasons("a"), &all).is_ok());
        assert!(check_reasons(&reasons("z"), &all).is_err());
    }
}
