// SPDX-License-Identifier: GPL-2.0

//! What the host wants tried, and what it is told. `src/guest.rs` in `tests/mutants` is the other side.

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
pub struct Plan {
    pub mutants: Vec<Entry>,
    /// How long [`super::trial::spin`] took when it was noted how long everything takes.
    pub spin: f64,
}

/// A mutant, and what reached it while none was active.
#[derive(Deserialize)]
pub struct Entry {
    pub number: usize,
    /// For people.
    pub text: String,
    /// Of KUnit.
    pub suites: Vec<Part>,
    pub cases: Vec<Part>,
    pub stress: bool,
}

/// A suite or a case.
#[derive(Deserialize)]
pub struct Part {
    pub name: String,
    /// Seconds.
    pub limit: u64,
}

/// What need not be run to see what the suites reach.
#[derive(Default, Deserialize)]
pub struct Known {
    /// Cases of which it is known.
    pub cases: Vec<String>,
    /// No other case is begun after so many seconds of them.
    pub seconds: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event<'a> {
    /// This is what a part of the suites reaches.
    Reach {
        by: &'a str,
        seconds: f64,
        passed: bool,
        reached: Vec<usize>,
    },
    Begin(usize),
    Doing(&'a str),
    Verdict {
        number: usize,
        noticed: bool,
        by: &'a str,
        what: &'a str,
        seconds: f64,
    },
    /// Something was too slow, and so is the machine: the mutant begun last is to be tried again.
    Unsure(usize),
    /// This guest is not to be used any more.
    Last(&'a str),
}

impl Event<'_> {
    pub fn print(&self) {
        if let Ok(line) = serde_json::to_string(self) {
            println!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines() {
        let verdict = Event::Verdict {
            number: 3,
            noticed: true,
            by: "case a",
            what: "two\nlines",
            seconds: 0.5,
        };
        assert_eq!(
            serde_json::to_string(&verdict).unwrap(),
            r#"{"verdict":{"number":3,"noticed":true,"by":"case a","what":"two\nlines","seconds":0.5}}"#
        );
        let begin = serde_json::to_string(&Event::Begin(3)).unwrap();
        assert_eq!(begin, r#"{"begin":3}"#);
    }

    #[test]
    fn a_plan_is_read() {
        let text = r#"{"mutants":[{"number":3,"text":"x","suites":[],"cases":[{"name":"a","limit":6}],"stress":false}],"spin":0.1}"#;
        let plan: Plan = serde_json::from_str(text).unwrap();
        assert_eq!(plan.mutants[0].cases[0].limit, 6);
        let known: Known = serde_json::from_str(r#"{"cases":["a"],"seconds":null}"#).unwrap();
        assert_eq!((known.cases.len(), known.seconds), (1, None));
    }
}
