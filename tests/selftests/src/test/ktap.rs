// SPDX-License-Identifier: GPL-2.0

//! Test results as KTAP version 1 (Documentation/dev-tools/ktap.rst) with the exit codes of
//! kselftest.

use std::io::{self, Write};

/// The result of a test case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Pass,
    Fail,
    Skip(String),
    /// Failed, as expected of a driver with this defect.
    ExpectedFailure(String),
    /// Passed on a driver with this defect, so the case does not show it.
    UnexpectedPass(String),
    Timeout(String),
}

/// Writes results as KTAP, in the order in which they arrive.
pub struct Ktap<W: Write> {
    out: W,
    planned: usize,
    passed: usize,
    expected: usize,
    failed: usize,
    skipped: usize,
}

impl<W: Write> Ktap<W> {
    /// Begins a report of `planned` cases.
    pub fn new(mut out: W, planned: usize) -> io::Result<Self> {
        writeln!(out, "KTAP version 1")?;
        match planned {
            0 => writeln!(out, "1..0 # SKIP no test case was chosen")?,
            n => writeln!(out, "1..{n}")?,
        }
        Ok(Ktap {
            out,
            planned,
            passed: 0,
            expected: 0,
            failed: 0,
            skipped: 0,
        })
    }

    /// Writes text as a diagnostic line, which is never read as a result.
    pub fn diagnostic(&mut self, text: &str) -> io::Result<()> {
        for line in text.lines() {
            writeln!(self.out, "# {}", line.trim_end())?;
        }
        self.out.flush()
    }

    /// Writes the result of the next case.
    pub fn result(&mut self, name: &str, outcome: &Outcome) -> io::Result<()> {
        let (verdict, count, directive) = match outcome {
            Outcome::Pass => ("ok", &mut self.passed, String::new()),
            Outcome::Fail => ("not ok", &mut self.failed, String::new()),
            Outcome::Skip(why) => ("ok", &mut self.skipped, format!("SKIP {why}")),
            Outcome::ExpectedFailure(why) => (
                "ok",
                &mut self.expected,
                format!("XFAIL expected failure: {why}"),
            ),
            Outcome::UnexpectedPass(why) => (
                "not ok",
                &mut self.failed,
                format!("passes, where it should not: {why}"),
            ),
            Outcome::Timeout(why) => ("not ok", &mut self.failed, format!("TIMEOUT {why}")),
        };
        *count += 1;
        let number = self.passed + self.expected + self.failed + self.skipped;
        let directive = match directive.replace(['\n', '#'], " ") {
            text if text.is_empty() => text,
            text => format!(" # {text}"),
        };
        writeln!(self.out, "{verdict} {number} {name}{directive}")?;
        self.out.flush()
    }

    /// Ends the report; returns the exit code: 0 passed, 1 failed, 4 all skipped.
    pub fn finish(mut self) -> io::Result<u8> {
        let Ktap {
            planned,
            passed,
            expected,
            failed,
            skipped,
            ..
        } = self;
        let xfail = match expected {
            0 => String::new(),
            n => format!(" xfail:{n}"),
        };
        self.diagnostic(&format!(
            "Totals: pass:{passed} fail:{failed} skip:{skipped}{xfail}"
        ))?;
        let reported = passed + expected + failed + skipped;
        Ok(match () {
            () if failed > 0 || reported != planned => 1,
            () if skipped == planned => 4,
            () => 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(planned: usize, outcomes: &[Outcome]) -> (String, u8) {
        let mut out = Vec::new();
        let mut ktap = Ktap::new(&mut out, planned).unwrap();
        for outcome in outcomes {
            ktap.result("case", outcome).unwrap();
        }
        let code = ktap.finish().unwrap();
        (String::from_utf8(out).unwrap(), code)
    }

    #[test]
    fn every_outcome_has_its_line() {
        let (text, code) = report(
            5,
            &[
                Outcome::Pass,
                Outcome::Skip("no #huge\npages".into()),
                Outcome::ExpectedFailure("T15".into()),
                Outcome::Timeout("60 s".into()),
                Outcome::UnexpectedPass("T16".into()),
            ],
        );
        let wanted = "KTAP version 1\n1..5\nok 1 case\nok 2 case # SKIP no  huge pages\n\
            ok 3 case # XFAIL expected failure: T15\nnot ok 4 case # TIMEOUT 60 s\n\
            not ok 5 case # passes, where it should not: T16\n\
            # Totals: pass:1 fail:2 skip:1 xfail:1\n";
        assert_eq!(text, wanted);
        assert_eq!(code, 1);
    }

    #[test]
    fn exit_codes_are_those_of_kselftest() {
        let skip = || Outcome::Skip("why".into());
        assert_eq!(report(1, &[Outcome::Pass]).1, 0);
        assert_eq!(report(2, &[Outcome::Pass, skip()]).1, 0);
        assert_eq!(report(2, &[skip(), skip()]).1, 4);
        assert_eq!(report(2, &[skip(), Outcome::Fail]).1, 1);
        assert_eq!(report(0, &[]).1, 4);
        // Fewer or more results than planned are a failure.
        assert_eq!(report(2, &[Outcome::Pass]).1, 1);
    }

    #[test]
    fn diagnostics_cannot_be_taken_for_results() {
        let mut out = Vec::new();
        let mut ktap = Ktap::new(&mut out, 0).unwrap();
        ktap.diagnostic("one\nok 1 two\n").unwrap();
        assert!(String::from_utf8(out)
            .unwrap()
            .ends_with("# one\n# ok 1 two\n"));
    }
}
