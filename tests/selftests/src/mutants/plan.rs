// SPDX-License-Identifier: GPL-2.0

//! The plan that the host sends to the guest, and the events that it gets back. `src/guest.rs` in `tests/mutants` is
//! the other side.

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
pub struct Plan {
    pub mutants: Vec<Entry>,
    /// The result of [`super::trial::spin`] when the times of all parts were measured, in seconds.
    pub spin: f64,
}

/// A mutant, and the parts that reached it while no mutant was active.
#[derive(Deserialize)]
pub struct Entry {
    pub number: usize,
    /// For people.
    pub text: String,
    /// KUnit suites.
    pub suites: Vec<Part>,
    pub cases: Vec<Part>,
    pub stress: bool,
}

/// A suite or a case.
#[derive(Deserialize)]
pub struct Part {
    pub name: String,
    /// The time limit, in seconds.
    pub limit: u64,
}

/// Limits of a run that finds out what the suites reach.
#[derive(Default, Deserialize)]
pub struct Known {
    /// The cases to leave out, since it is known what they reach.
    pub cases: Vec<String>,
    /// The time for cases, in seconds, after which no other one is begun.
    pub seconds: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event<'a> {
    /// The mutants that a part of the suites reaches.
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
    /// Something did not end in time, but the machine is slow: the mutant, which was begun last, must be tested again.
    Unsure(usize),
    /// The guest must not be used any more, for this reason.
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
