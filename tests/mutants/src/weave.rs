// SPDX-License-Identifier: GPL-2.0

//! Writes a tree with many mutants in it, each asleep until it is switched on.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::candidate::Candidate;

/// What the module is built from.
const PARTS: [&str; 6] = [
    "Kbuild",
    "include",
    "rust",
    "scripts/uapi-bindings.sh",
    "src",
    "tests/kunit",
];
/// The crate's root, which learns of the module that switches.
const ROOT: &str = "src/rust_dmirror_main.rs";

const SWITCH: &str = include_str!("../templates/mutant.rs");
const SWITCH_MODULE: &str = include_str!("../templates/dmirror_mutant.c");

/// The most mutants that have a place in the C module; number 0 is none.
pub const MOST: usize = 8191;

/// A candidate in a woven tree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Woven {
    pub number: usize,
    #[serde(flatten)]
    pub candidate: Candidate,
    /// Bytes of the woven file: everything, and of that what was written before the original text.
    pub whole: Range<usize>,
    pub before: Range<usize>,
}

/// A file with its candidates woven in; they are numbered from `first` on.
pub fn file(text: &str, candidates: &[Candidate], first: usize) -> (String, Vec<Woven>) {
    let mut sorted: Vec<_> = candidates
        .iter()
        .filter_map(|candidate| Some((candidate, candidate.edit.as_ref()?)))
        .collect();
    // The outer one first; of one span the earlier one is the outer one.
    sorted.sort_by_key(|(_, edit)| (edit.span.start, usize::MAX - edit.span.end));
    let mut loom = Loom {
        text,
        at: 0,
        out: String::new(),
        woven: Vec::new(),
        open: Vec::new(),
    };
    for (candidate, edit) in sorted {
        loom.close(edit.span.start);
        loom.copy(edit.span.start);
        let number = first + loom.woven.len();
        let start = loom.out.len();
        loom.out.push_str(&edit.form.before(number));
        loom.open.push(Open {
            end: edit.span.end,
            which: loom.woven.len(),
            behind: edit.form.behind(),
        });
        loom.woven.push(Woven {
            number,
            candidate: candidate.clone(),
            whole: start..loom.out.len(),
            before: start..loom.out.len(),
        });
    }
    loom.close(text.len());
    loom.copy(text.len());
    (loom.out, loom.woven)
}

/// A file half woven.
struct Loom<'t> {
    text: &'t str,
    /// How much of the text was copied.
    at: usize,
    out: String,
    woven: Vec<Woven>,
    /// Begun and not closed, the outer ones first.
    open: Vec<Open>,
}

struct Open {
    /// Bytes of the text.
    end: usize,
    /// Of [`Loom::woven`].
    which: usize,
    behind: String,
}

impl Loom<'_> {
    fn copy(&mut self, until: usize) {
        self.out.push_str(&self.text[self.at..until]);
        self.at = until;
    }

    /// Closes what ends there or before.
    fn close(&mut self, until: usize) {
        while self.open.last().is_some_and(|open| open.end <= until) {
            if let Some(open) = self.open.pop() {
                self.copy(open.end);
                self.out.push_str(&open.behind);
                self.woven[open.which].whole.end = self.out.len();
            }
        }
    }
}

/// Copies the module's tree from `from` to `out` and weaves `candidates`, by file and in its order, in.
/// A file that stays the same keeps its time, so that what it does not change is not built anew.
pub fn tree(from: &Path, out: &Path, candidates: &[Candidate]) -> Result<Vec<Woven>> {
    for part in PARTS {
        copy(&from.join(part), &out.join(part), &mut |path| {
            let name = path.strip_prefix(from).unwrap_or(path).to_string_lossy();
            candidates.iter().any(|c| c.file == name)
        })?;
    }
    let mut woven = Vec::new();
    let mut files: Vec<_> = candidates.iter().map(|c| &c.file).collect();
    files.dedup();
    for name in files {
        let of_file: Vec<_> = candidates
            .iter()
            .filter(|c| c.file == *name)
            .cloned()
            .collect();
        let text = read(&from.join(name))?;
        let (text, mut these) = file(&text, &of_file, woven.len() + 1);
        woven.append(&mut these);
        write(&out.join(name), &text)?;
    }
    let root = read(&out.join(ROOT))?;
    if !root.contains("\nmod mutant;") {
        write(&out.join(ROOT), &format!("{root}\nmod mutant;\n"))?;
    }
    write(&out.join("src/mutant.rs"), SWITCH)?;
    write(&out.join("dmirror_mutant.c"), SWITCH_MODULE)?;
    let kbuild = read(&out.join("Kbuild"))?;
    write(
        &out.join("Kbuild"),
        &format!("{kbuild}\nobj-m += dmirror_mutant.o\n"),
    )?;
    Ok(woven)
}

pub fn copy(from: &Path, to: &Path, skip: &mut dyn FnMut(&Path) -> bool) -> Result<()> {
    if !from.is_dir() {
        return match skip(from) {
            true => Ok(()),
            false => write(to, &read(from)?),
        };
    }
    let entries =
        fs::read_dir(from).with_context(|| format!("{} cannot be read", from.display()))?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in entries {
        paths.push(entry?.path());
    }
    for path in paths {
        if let Some(name) = path.file_name() {
            copy(&path, &to.join(name), skip)?;
        }
    }
    Ok(())
}

pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Writes what is not there yet.
pub fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{candidate::Kind, fields::Fields, find::find};

    /// A function woven with those of its candidates that `choose` wants, spaces apart.
    fn woven(text: &str, choose: impl Fn(&Candidate) -> bool) -> String {
        let mut fields = Fields::default();
        fields.add("a.rs", &syn::parse_file(text).unwrap(), text);
        let mut candidates = find("a.rs", text, &fields).unwrap();
        candidates.retain(choose);
        let woven = file(text, &candidates, 1).0;
        assert_eq!(woven.lines().count(), text.lines().count());
        syn::parse_file(&woven).unwrap_or_else(|e| panic!("{e}: {woven}"));
        woven.replace("crate::mutant::", "")
    }

    fn of_kind(text: &str, kind: Kind) -> String {
        woven(text, |candidate| candidate.kind == kind)
    }

    #[test]
    fn conditions_are_negated_and_lose_operands() {
        assert_eq!(
            of_kind("fn f() { if a() { b(); } }", Kind::Condition),
            "fn f() { if (on(1) != (a())) { b(); } }"
        );
        let both = of_kind("fn f() { g(a && b); }", Kind::Condition);
        assert_eq!(
            both,
            "fn f() { g((if on(1) { a || b } else { (if on(2) { a } else { (if on(3) { b } else { a && b }) }) })); }"
        );
        assert_eq!(
            of_kind(
                "fn f() { match x { A if c => b(), _ => {} } }",
                Kind::Condition
            ),
            "fn f() { match x { A if (on(1) != (c)) => b(), _ => {} } }"
        );
        // `if let` has no opposite.
        assert_eq!(
            of_kind("fn f() { if let A = b { c(); } }", Kind::Condition),
            "fn f() { if let A = b { c(); } }"
        );
    }

    #[test]
    fn mutants_nest() {
        assert_eq!(
            woven("fn f() { g(a < b, c(1)); }", |c| matches!(
                c.kind,
                Kind::Statement | Kind::Boundary
            )),
            "fn f() { if !on(1) { g((if on(2) { a <= b } else { a < b }), c(1)); } }"
        );
    }

    #[test]
    fn lines_stay() {
        let text =
            "fn f() {\n    if a\n        // why\n        && b\n    {\n        c();\n    }\n}\n";
        let all = woven(text, |_| true);
        assert!(all.lines().nth(5).unwrap().contains("c();"), "{all}");
    }

    #[test]
    fn functions_return_at_once() {
        assert_eq!(
            of_kind("fn f() -> Option<u8> { g()?; Some(1) }", Kind::Return),
            "fn f() -> Option<u8> { if on(1) { return None; } g()?; Some(1) }"
        );
        let of = |output: &str| of_kind(&format!("fn f() -> {output} {{ g() }}"), Kind::Return);
        assert!(of("bool").contains("return true") && of("bool").contains("return false"));
        assert!(of("usize").contains("return 0") && of("usize").contains("(g()) + 1"));
        assert!(of("Result").contains("return Ok(())") && of("Result").contains("EINVAL"));
        assert!(!of("Result<u8>").contains("Ok(())") && of("Result<u8>").contains("EINVAL"));
        assert!(!of("Result<(), A>").contains("EINVAL"));
        assert!(!of("impl A").contains("on("));
    }

    #[test]
    fn arms_of_a_condition_are_values() {
        let text = "fn f() -> bool { a == b && match c { Kind::Huge { x } => x, _ => false } }";
        assert!(of_kind(text, Kind::Return).contains("else { (if on(4) { false } else { x }) })"));
    }

    #[test]
    fn ranges_and_literals_are_off_by_one() {
        let text = "fn f() { for i in 0..n() { g(i); } }";
        let woven = of_kind(text, Kind::OffByOne);
        assert!(
            woven
                .contains("0..(if on(2) { n() + 1 } else { (if on(3) { n() - 1 } else { n() }) })")
                || woven.contains(
                    "..(if on(2) { n() + 1 } else { (if on(3) { n() - 1 } else { n() }) })"
                ),
            "{woven}"
        );
        assert_eq!(
            of_kind("fn f() { g(2u64); }", Kind::OffByOne),
            "fn f() { g((if on(1) { 3u64 } else { (if on(2) { 1u64 } else { 2u64 }) })); }"
        );
    }

    #[test]
    fn guards_are_not_made_or_dropped_at_once() {
        assert_eq!(
            of_kind("fn f() { let _held = a.lock(); }", Kind::Guard),
            "fn f() { let _held = (if on(1) { None } else { Some(short(on(2), a.lock())) }); }"
        );
    }

    #[test]
    fn locks_are_swapped() {
        assert_eq!(
            of_kind(
                "fn f() { let mut a = x.lock(); let b = y.lock(); }",
                Kind::LockOrder
            ),
            "fn f() { let (mut a, b) = if on(1) { let b = y.lock(); let mut a = x.lock(); (a, b) } \
             else { let mut a = x.lock(); let b = y.lock(); (a, b) }; }"
        );
        let dependent = "fn f() { let a = x.lock(); let b = a.lock(); }";
        assert_eq!(of_kind(dependent, Kind::LockOrder), dependent);
    }

    #[test]
    fn counters_have_siblings() {
        let text = "struct S { a: u64, b: Counter, c: u64, d: Counter }\n\
            impl S { fn f(&mut self) { self.c += 1; self.b.add(1); } }";
        let woven = of_kind(text, Kind::Counter);
        assert!(woven.contains("{ self.a += 1 }"), "{woven}");
        assert!(woven.contains("{ self.d.add(1) }"), "{woven}");
    }

    #[test]
    fn what_is_constant_or_a_test_is_left_alone() {
        for text in [
            "const A: usize = 1 + 2;",
            "const fn f() -> usize { 1 }",
            "static A: [u8; 4] = [0; 4];",
            "fn f(a: [u8; 4]) {}",
            "#[kunit_tests(x)] mod tests { fn f() { g(1); } }",
            "#[cfg(CONFIG_KUNIT = \"y\")] fn f() { g(1); }",
            "fn f() { const { g(1) }; }",
            "enum E { A = 1 }",
            "fn f() { match x { 1 => {} _ => {} } }",
            "fn f() { pr_info!(\"{}\", 1); }",
        ] {
            assert_eq!(woven(text, |c| c.kind != Kind::Statement), text);
        }
    }
}
