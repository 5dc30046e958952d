// SPDX-License-Identifier: GPL-2.0

//! How a defect shows when its case runs on the C driver, described so exactly that any other behaviour is noticed.

use std::{borrow::Cow, sync::LazyLock};

use regex::Regex;

/// A source file of the kernel with a line number.
static LINE_NUMBER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(\.[chS]):[0-9]+").expect("a regular expression"));

/// Returns a kernel report without line numbers, which differ between kernel versions.
pub fn without_line_numbers(report: &str) -> Cow<'_, str> {
    LINE_NUMBER.replace_all(report, "$1")
}

/// The kernel on which a defect shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Debian's kernel.
    Stock,
    /// The kernel *own*, with DEBUG_VM and fault injection.
    Own,
}

/// How a case ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It passes: the defect does not show there, for this reason.
    Passes,
    /// It fails, without a kernel report.
    Fails,
    /// The kernel reports something, and continues.
    Warns,
    /// The kernel crashes, or is corrupted.
    Breaks,
    /// It hangs.
    Hangs,
}

#[derive(Clone, Copy)]
pub struct Shown {
    pub how: How,
    /// Parts of the case's message, or of the kernel report. If a race decides, any of them may be seen.
    pub words: &'static [&'static str],
    pub kernel: Kernel,
    /// Needs devices with coherent memory.
    pub coherent: bool,
    /// Whether the kernel may crash without a report.
    pub or_silent: bool,
    /// Arguments for the kernel's command line.
    pub append: &'static str,
}

impl Shown {
    const fn new(how: How, words: &'static [&'static str]) -> Shown {
        Shown {
            how,
            words,
            kernel: Kernel::Stock,
            coherent: false,
            or_silent: false,
            append: "",
        }
    }

    pub const fn passes(why: &'static [&'static str]) -> Shown {
        Shown::new(How::Passes, why)
    }

    pub const fn fails(words: &'static [&'static str]) -> Shown {
        Shown::new(How::Fails, words)
    }

    pub const fn warns(words: &'static [&'static str]) -> Shown {
        Shown::new(How::Warns, words)
    }

    pub const fn breaks(words: &'static [&'static str]) -> Shown {
        Shown::new(How::Breaks, words)
    }

    pub const fn hangs() -> Shown {
        Shown::new(How::Hangs, &[])
    }

    /// On our own kernel.
    pub const fn on_own(mut self) -> Shown {
        self.kernel = Kernel::Own;
        self
    }

    pub const fn coherent(mut self) -> Shown {
        self.coherent = true;
        self
    }

    pub const fn or_silent(mut self) -> Shown {
        self.or_silent = true;
        self
    }

    pub const fn append(mut self, arguments: &'static str) -> Shown {
        self.append = arguments;
        self
    }

    /// Returns whether no other case can run on the same kernel afterwards.
    pub fn destructive(&self) -> bool {
        matches!(self.how, How::Breaks | How::Hangs)
    }

    /// For people.
    pub fn text(&self) -> String {
        let words = self.words.join(", or ");
        match self.how {
            How::Passes => format!("passed: {words}"),
            How::Fails => format!("failed: {words}"),
            How::Warns => format!("failed, warning: {words}"),
            How::Breaks if self.or_silent => {
                format!("broken kernel: {words}, or nothing more is heard of it")
            }
            How::Breaks => format!("broken kernel: {words}"),
            How::Hangs => "hang".into(),
        }
    }

    /// Returns whether a result matches.
    pub fn is(&self, seen: &Seen) -> bool {
        let any = |text: &String| {
            let text = without_line_numbers(text);
            self.words.iter().any(|words| text.contains(words))
        };
        let quiet = seen.kernel.is_empty();
        if self.or_silent && matches!(seen.end, End::Hung | End::None) && quiet {
            return true;
        }
        match self.how {
            How::Passes => quiet && seen.end == End::Passed,
            How::Fails => quiet && seen.end == End::Failed && any(&seen.said),
            How::Warns => seen.kernel.iter().any(any) && seen.end == End::Failed,
            // After a crash, the guest may not be able to report how the case ended.
            How::Breaks => seen.kernel.iter().any(any) && seen.end != End::Passed,
            // There may be a kernel report as well.
            How::Hangs => seen.end == End::Hung,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Passed,
    Failed,
    Skipped,
    Hung,
    /// The kernel crashed before the case ended.
    None,
}

impl End {
    /// Returns its name in diagnostics, which [`End::parse`] reads.
    pub fn word(self) -> &'static str {
        match self {
            End::Passed => "passed",
            End::Failed => "failed",
            End::Skipped => "skipped",
            End::Hung => "hang",
            End::None => "nothing",
        }
    }

    pub fn parse(line: &str) -> Option<End> {
        let word = line.strip_prefix("seen: ")?;
        [End::Passed, End::Failed, End::Skipped, End::Hung]
            .into_iter()
            .find(|end| end.word() == word)
    }
}

/// The result of a case.
#[derive(Debug)]
pub struct Seen {
    pub end: End,
    /// The case's message.
    pub said: String,
    /// The kernel report, with or without line numbers.
    pub kernel: Vec<String>,
}

impl Seen {
    /// For people.
    pub fn text(&self) -> String {
        let said = last_words(self.said.lines());
        let or = |end: &str| match self.kernel.is_empty() {
            false => format!("{end}, kernel: {}", self.kernel.join("; ")),
            true => end.to_string(),
        };
        match self.end {
            End::Passed => or("passed"),
            End::Failed => or(&format!("failed: {said}")),
            End::Skipped => format!("skipped: {said}"),
            End::Hung => or("hang"),
            End::None => or("the guest ended"),
        }
    }
}

/// Returns a case's own last message, without what is printed for each case.
pub fn last_words<'a>(mut lines: impl DoubleEndedIterator<Item = &'a str>) -> &'a str {
    let about = ["exit status ", "took ", "kernel: ", "the kernel says: "];
    let own = |line: &&str| !about.iter().any(|start| line.starts_with(start));
    lines.rfind(own).unwrap_or("").trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(end: End, said: &str, kernel: &[&str]) -> Seen {
        Seen {
            end,
            said: said.into(),
            kernel: kernel.iter().map(|k| k.to_string()).collect(),
        }
    }

    #[test]
    fn the_words_decide() {
        let fails = Shown::fails(&["EINVAL", "ENOENT"]);
        assert!(fails.is(&seen(End::Failed, "READ: ENOENT", &[])));
        assert!(!fails.is(&seen(End::Failed, "READ: EFAULT", &[])));
        assert!(!fails.is(&seen(End::Passed, "EINVAL", &[])));
        assert!(!fails.is(&seen(End::Failed, "EINVAL", &["WARNING: x"])));
        let warns = Shown::warns(&["test_hmm.c at dmirror_do_fault"]);
        let warning = "WARNING: test_hmm.c:296 at dmirror_do_fault+0xcb/0x110";
        assert!(warns.is(&seen(End::Failed, "", &[warning])));
        assert!(!warns.is(&seen(
            End::Failed,
            "",
            &["WARNING: test_hmm.c:296 at dmirror_fault"]
        )));
        let breaks = Shown::breaks(&["NULL pointer"]);
        let null = "BUG: NULL pointer";
        assert!(breaks.is(&seen(End::None, "", &["WARNING: x", null])));
        assert!(!breaks.is(&seen(End::Passed, "", &[null])));
        assert!(!breaks.is(&seen(End::None, "", &["BUG: other"])));
        assert!(!breaks.is(&seen(End::None, "NULL pointer", &[])));
        let silent = breaks.or_silent();
        assert!(silent.is(&seen(End::None, "", &[])));
        assert!(silent.is(&seen(End::Hung, "", &[])));
        assert!(!silent.is(&seen(End::Failed, "", &[])));
        assert!(!silent.is(&seen(End::None, "", &["BUG: other"])));
        assert!(!Shown::passes(&["why"]).is(&seen(End::Failed, "why", &[])));
        assert!(!Shown::hangs().is(&seen(End::None, "", &[])));
    }
}
