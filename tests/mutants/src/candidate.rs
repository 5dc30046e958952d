// SPDX-License-Identifier: GPL-2.0

//! A mutant that could be made: where it is, what it changes, and how that is woven in.

use std::{collections::HashMap, fmt, ops::Range};

use anyhow::{ensure, Result};
use serde::{Deserialize, Serialize};

/// What a mutant changes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Of `if`, `while`, a match guard: negated, `&&` for `||`, an operand dropped.
    Condition,
    /// `<` for `<=`, `==` for `!=`, `min` for `max`.
    Boundary,
    /// Another value than the computed one.
    Return,
    /// Left out.
    Statement,
    /// Not taken, or released at once.
    Guard,
    /// Two locks in the other order.
    LockOrder,
    /// One more or one less.
    OffByOne,
    /// The field beside it.
    Counter,
    /// `&` for `|`.
    Bits,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Condition => "condition",
            Kind::Boundary => "comparison",
            Kind::Return => "returned value",
            Kind::Statement => "deleted statement",
            Kind::Guard => "deleted guard",
            Kind::LockOrder => "lock order",
            Kind::OffByOne => "off by one",
            Kind::Counter => "wrong counter",
            Kind::Bits => "bit operation",
        })
    }
}

/// How the text at a span is changed; each form is a text before it and one behind it, so that forms nest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Form {
    /// An expression becomes another one.
    Replace(String),
    /// A condition becomes its opposite; evaluated once, whatever it is.
    Negate,
    /// A statement is left out.
    Unless,
    /// The guard that an expression makes is not made.
    NoGuard,
    /// It is made, and dropped at once.
    ShortGuard,
    /// At the beginning of a function, whose span is empty: it returns this.
    Return(String),
    /// Two `let` statements: the second one first; patterns, names, and both statements.
    Swap {
        patterns: String,
        names: String,
        swapped: String,
    },
}

impl Form {
    /// What is written before the original text.
    pub fn before(&self, number: usize) -> String {
        let on = format!("crate::mutant::on({number})");
        match self {
            Form::Replace(text) => format!("(if {on} {{ {text} }} else {{ "),
            Form::Negate => format!("({on} != ("),
            Form::Unless => format!("if !{on} {{ "),
            Form::NoGuard => format!("(if {on} {{ None }} else {{ Some("),
            Form::ShortGuard => format!("crate::mutant::short({on}, "),
            Form::Return(text) => format!(" if {on} {{ return {text}; }}"),
            Form::Swap {
                patterns,
                names,
                swapped,
            } => format!("let ({patterns}) = if {on} {{ {swapped} ({names}) }} else {{ "),
        }
    }

    /// What is written behind it.
    pub fn behind(&self) -> String {
        match self {
            Form::Replace(_) => " })".into(),
            Form::Negate => "))".into(),
            Form::Unless => " }".into(),
            Form::NoGuard => ") })".into(),
            Form::ShortGuard => ")".into(),
            Form::Return(_) => String::new(),
            Form::Swap { names, .. } => format!(" ({names}) }};"),
        }
    }
}

/// A mutant that could be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Candidate {
    /// Stays the same while other code changes: see [`identify`].
    pub id: String,
    pub file: String,
    pub line: usize,
    /// With the type that it is of.
    pub function: String,
    pub kind: Kind,
    pub original: String,
    pub replacement: String,
    #[serde(skip)]
    pub edit: Option<Edit>,
}

#[derive(Clone, Debug)]
pub struct Edit {
    /// Bytes of the file.
    pub span: Range<usize>,
    pub form: Form,
}

impl Candidate {
    /// In a line, for people.
    pub fn describe(&self) -> String {
        let short = |text: &str| match text.char_indices().nth(70) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text.to_string(),
        };
        format!(
            "{}:{} {}: {}: {} → {}",
            self.file,
            self.line,
            self.function,
            self.kind,
            short(&self.original),
            short(&self.replacement)
        )
    }
}

/// Gives each candidate its id: a hash of file, function, kind and both texts, and of how many the same
/// there were before it. Lines and other functions are no part of it.
///
/// # Errors
///
/// Two with the same hash.
pub fn identify(candidates: &mut [Candidate]) -> Result<()> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut ids = HashMap::new();
    for candidate in candidates {
        let key = format!(
            "{}\0{}\0{}\0{}\0{}",
            candidate.file,
            candidate.function,
            candidate.kind,
            candidate.original,
            candidate.replacement
        );
        let nth = seen.entry(key.clone()).or_insert(0);
        candidate.id = format!("{:010x}", hash(&format!("{key}\0{nth}")) & 0xff_ffff_ffff);
        *nth += 1;
        let other = ids.insert(candidate.id.clone(), candidate.describe());
        ensure!(
            other.is_none(),
            "two mutants have the id {}: {other:?}",
            candidate.id
        );
    }
    Ok(())
}

/// FNV-1a: short, and the same on every machine, which the standard library does not promise of its own.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{fields::Fields, find::find};

    fn ids(text: &str, function: &str) -> BTreeSet<String> {
        let mut all = find("a.rs", text, &Fields::default()).unwrap();
        identify(&mut all).unwrap();
        let of = all.into_iter().filter(|c| c.function == function);
        of.map(|candidate| candidate.id).collect()
    }

    #[test]
    fn ids_outlive_what_changes_elsewhere() {
        let text = "fn f() { if a < b { g(1); g(1); } k(); }";
        let before = ids(text, "f");
        // The same text twice is two mutants.
        assert_eq!(before.iter().filter(|id| !id.is_empty()).count(), 10);
        assert_eq!(ids(&format!("fn e() {{ g(1); }}\n\n{text}"), "f"), before);
        let more = ids(&text.replace("{ if", "{ h(); if"), "f");
        assert!(before.is_subset(&more) && more.len() == before.len() + 1);
        assert!(before.is_disjoint(&ids(&text.replace("fn f", "fn e"), "e")));
    }
}
