// SPDX-License-Identifier: GPL-2.0

//! Which mutants a compiler's errors are about: those are dropped, and the rest is woven again.

use std::{collections::BTreeMap, ops::Range};

use serde::Deserialize;

use crate::{candidate::Kind, weave::Woven};

#[derive(Deserialize)]
struct Diagnostic {
    message: String,
    level: String,
    #[serde(default)]
    code: Option<Code>,
    #[serde(default)]
    spans: Vec<Span>,
    #[serde(default)]
    children: Vec<Diagnostic>,
}

/// What cargo makes of it.
#[derive(Deserialize)]
struct Message {
    message: Diagnostic,
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

#[derive(Deserialize)]
struct Span {
    file_name: String,
    byte_start: usize,
    byte_end: usize,
    is_primary: bool,
    #[serde(default)]
    expansion: Option<Box<Expansion>>,
}

#[derive(Deserialize)]
struct Expansion {
    span: Span,
}

/// What came of a log: mutants with the error for which each is dropped, and errors of none.
#[derive(Default)]
pub struct Blamed {
    pub dropped: BTreeMap<usize, String>,
    pub unexplained: Vec<String>,
}

/// Reads what `rustc --error-format=json` or `cargo --message-format=json` wrote, among whatever else a build says.
pub fn blame(log: &str, woven: &[Woven]) -> Blamed {
    let mut blamed = Blamed::default();
    let diagnostics = log.lines().filter_map(|line| -> Option<Diagnostic> {
        if line.starts_with("{\"reason\"") {
            let message: Message = serde_json::from_str(line).ok()?;
            return Some(message.message);
        }
        let line = &line[line.find("{\"$message_type\"")?..];
        serde_json::from_str(line).ok()
    });
    for diagnostic in diagnostics.filter(|d| d.level == "error") {
        let guilty = guilty(&diagnostic, woven);
        let code = diagnostic.code.as_ref().map_or("", |code| &code.code);
        let text = format!("{code} {}", diagnostic.message).trim().to_string();
        if guilty.is_empty() && !diagnostic.spans.is_empty() {
            let place = diagnostic.spans.iter().find(|span| span.is_primary);
            let place = place.map(|s| format!("{}, byte {}", s.file_name, s.byte_start));
            let place = place.unwrap_or_default();
            blamed.unexplained.push(format!("{text} ({place})"));
        }
        for number in guilty {
            blamed.dropped.entry(number).or_insert_with(|| text.clone());
        }
    }
    blamed
}

/// What an error is about, the most likely first: text that was written for a mutant at the error's
/// place, or at another place that the compiler shows; a `return` that may be left out between those, so
/// that a value is used after it was moved; the innermost mutant around it.
fn guilty(diagnostic: &Diagnostic, woven: &[Woven]) -> Vec<usize> {
    let mut primary = Vec::new();
    let mut others = Vec::new();
    collect(diagnostic, &mut primary, &mut others);
    let all: Vec<_> = primary.iter().chain(&others).copied().collect();
    for spans in [&primary, &others] {
        let within: Vec<_> = spans
            .iter()
            .filter_map(|span| innermost(span, woven, |woven| &woven.before))
            .collect();
        if !within.is_empty() {
            return within;
        }
    }
    let leaving = leaving(&all, woven);
    if !leaving.is_empty() {
        return leaving;
    }
    let around = all
        .iter()
        .filter_map(|span| innermost(span, woven, |woven| &woven.whole))
        .take(1);
    let around: Vec<_> = around.collect();
    if !around.is_empty() {
        return around;
    }
    // An error that spans mutants, such as a type that cannot be inferred any more.
    let inside = |span: &&Span| {
        let of_file = woven.iter().filter(|w| is_of(w, span));
        of_file
            .filter(|w| span.byte_start <= w.whole.start && w.whole.end <= span.byte_end)
            .map(|w| w.number)
            .collect::<Vec<_>>()
    };
    all.iter().flat_map(inside).collect()
}

/// Statements between the places of an error that end a function or a round of a loop, unless they are
/// left out.
fn leaving(spans: &[&Span], woven: &[Woven]) -> Vec<usize> {
    let leaves = |woven: &&Woven| {
        let words = ["return", "break", "continue"];
        let original = &woven.candidate.original;
        woven.candidate.kind == Kind::Statement && words.iter().any(|w| original.starts_with(w))
    };
    let is_between = |woven: &&Woven| {
        let of_file = spans.iter().filter(|span| is_of(woven, span));
        let first = of_file.clone().map(|span| span.byte_start).min();
        let last = of_file.map(|span| span.byte_end).max();
        first.is_some_and(|first| first <= woven.whole.start)
            && last.is_some_and(|last| woven.whole.end <= last)
    };
    let between = woven.iter().filter(leaves).filter(is_between);
    between.map(|woven| woven.number).collect()
}

fn collect<'d>(
    diagnostic: &'d Diagnostic,
    primary: &mut Vec<&'d Span>,
    others: &mut Vec<&'d Span>,
) {
    for span in &diagnostic.spans {
        let mut span = span;
        loop {
            match span.is_primary {
                true => primary.push(span),
                false => others.push(span),
            }
            match &span.expansion {
                Some(expansion) => span = &expansion.span,
                None => break,
            }
        }
    }
    for child in &diagnostic.children {
        let mut spans = Vec::new();
        collect(child, &mut spans, others);
        others.extend(spans);
    }
}

fn is_of(woven: &Woven, span: &Span) -> bool {
    span.file_name
        .ends_with(&format!("/{}", woven.candidate.file))
        || span.file_name == woven.candidate.file
}

fn innermost(
    span: &Span,
    woven: &[Woven],
    range: impl Fn(&Woven) -> &Range<usize>,
) -> Option<usize> {
    let around = woven.iter().filter(|woven| {
        let range = range(woven);
        is_of(woven, span) && range.start <= span.byte_start && span.byte_end <= range.end
    });
    let smallest = around.min_by_key(|woven| range(woven).len())?;
    Some(smallest.number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{candidate::Candidate, fields::Fields, find::find, weave};

    const TEXT: &str = "fn f() { if a < b { c(); } }";

    fn woven() -> (String, Vec<Woven>) {
        let found: Vec<Candidate> = find("src/a.rs", TEXT, &Fields::default()).unwrap();
        weave::file(TEXT, &found, 1)
    }

    fn error(text: &str, what: &str) -> String {
        let at = text.find(what).unwrap();
        format!(
            "make: noise\n  {{\"$message_type\":\"diagnostic\",\"message\":\"mismatched types\",\"code\":{{\"code\":\"E0308\"}},\
             \"level\":\"error\",\"spans\":[{{\"file_name\":\"/x/src/a.rs\",\"byte_start\":{at},\"byte_end\":{},\"is_primary\":true}}]}}\n",
            at + what.len()
        )
    }

    #[test]
    fn an_error_is_of_the_text_that_it_is_in() {
        let (text, woven) = woven();
        let number = |original: &str, replacement: &str| {
            let is = |w: &&Woven| {
                w.candidate.original == original && w.candidate.replacement == replacement
            };
            woven.iter().find(is).unwrap().number
        };
        let dropped = |what| blame(&error(&text, what), &woven).dropped;
        let one = dropped("a <= b");
        assert_eq!(
            one.into_iter().collect::<Vec<_>>(),
            [(number("a < b", "a <= b"), "E0308 mismatched types".into())]
        );
        // In what was there before: the innermost.
        assert!(dropped("a < b").contains_key(&number("a < b", "a <= b")));
        assert!(dropped("c();").contains_key(&number("c();", "nothing")));
    }

    #[test]
    fn cargo_hands_errors_on() {
        let (text, woven) = woven();
        let error = error(&text, "c();");
        let error = error[error.find('{').unwrap()..].trim_end();
        let error = format!("{{\"reason\":\"compiler-message\",\"message\":{error}}}\n");
        assert_eq!(blame(&error, &woven).dropped.len(), 1);
    }

    #[test]
    fn an_error_of_no_mutant_is_told() {
        let (text, woven) = woven();
        let blamed = blame(&error(&text, "fn f"), &woven);
        assert!(blamed.dropped.is_empty());
        assert_eq!(blamed.unexplained.len(), 1);
    }
}
