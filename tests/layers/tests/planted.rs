// SPDX-License-Identifier: GPL-2.0

//! Crates in a few lines, with circles and without.

use layers::{graph, Graph};

/// A crate of these files; the first is its root.
fn crate_of(files: &[(&str, &str)]) -> Result<Graph, String> {
    graph(files[0].0, &|name| {
        let found = files.iter().find(|(file, _)| *file == name)?;
        Some(found.1.to_string())
    })
}

/// The imports as `from -> to`, without those of the root.
fn imports(files: &[(&str, &str)]) -> Vec<String> {
    let graph = crate_of(files).expect("it can be read");
    let root = files[0].0;
    let mut imports: Vec<String> = graph
        .imports
        .iter()
        .filter(|import| import.from != root)
        .map(|import| format!("{} -> {}", import.from, import.to))
        .collect();
    imports.dedup();
    imports
}

fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let graph = crate_of(files).expect("it can be read");
    graph
        .circles()
        .iter()
        .map(|circle| {
            let mut files: Vec<String> = circle.iter().map(|i| i.from.clone()).collect();
            files.dedup();
            files
        })
        .collect()
}

#[test]
fn a_planted_circle_is_found() {
    let files = [
        ("src/main.rs", "mod a; mod b; mod c; mod d; use d::D;"),
        ("src/a.rs", "use crate::b::B; pub struct A;"),
        (
            "src/b.rs",
            "pub struct B; fn b() -> crate::c::C { todo!() }",
        ),
        ("src/c.rs", "use super::{a::A, d}; pub struct C;"),
        ("src/d.rs", "pub struct D;"),
    ];
    assert_eq!(circles(&files), [["src/a.rs", "src/b.rs", "src/c.rs"]]);
}

#[test]
fn two_circles_are_two() {
    let files = [
        ("main.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "use crate::b::B; use crate::c::C;"),
        ("b.rs", "use crate::a::A;"),
        ("c.rs", "use crate::d::D;"),
        ("d.rs", "use crate::c::C;"),
    ];
    assert_eq!(circles(&files), [["a.rs", "b.rs"], ["c.rs", "d.rs"]]);
}

#[test]
fn a_declaration_is_no_import_but_a_re_export_is() {
    let declares = [
        ("main.rs", "mod a;"),
        ("a/mod.rs", "mod b; pub struct A;"),
        ("a/b.rs", "use super::A; pub struct B;"),
    ];
    assert_eq!(circles(&declares), Vec::<Vec<String>>::new());
    let exports = [
        ("main.rs", "mod a;"),
        ("a/mod.rs", "mod b; pub(crate) use b::B; pub struct A;"),
        ("a/b.rs", "use super::A; pub struct B;"),
    ];
    assert_eq!(circles(&exports), [["a/b.rs", "a/mod.rs"]]);
}

#[test]
fn nested_imports_lead_to_the_last_module() {
    let files = [
        ("main.rs", "mod a; mod e;"),
        ("a/mod.rs", "pub mod b; pub mod c; pub struct A;"),
        ("a/b.rs", "pub struct B;"),
        ("a/c/mod.rs", "pub mod d; pub struct C;"),
        ("a/c/d.rs", ""),
        ("e.rs", "use crate::a::{b, c::{self, d, C as Other}};"),
    ];
    assert_eq!(
        imports(&files),
        ["e.rs -> a/b.rs", "e.rs -> a/c/d.rs", "e.rs -> a/c/mod.rs"]
    );
}

#[test]
fn paths_in_code_and_macros_count() {
    let files = [
        ("main.rs", "mod a; mod b; mod c; mod d; mod e;"),
        (
            "a.rs",
            "fn a() { crate::b::y(); log!(\"{}\", super::c::z()); }",
        ),
        (
            "b.rs",
            "use crate::d; fn b(d: d::inner::X) {} fn pass(a: u8) { a.crate_; }",
        ),
        ("c.rs", "macro_rules! m { () => { $crate::e::E } }"),
        ("d/mod.rs", "pub mod inner;"),
        ("d/inner.rs", ""),
        ("e.rs", "fn e() -> impl Sized + use<> { kernel::mm::x() }"),
    ];
    assert_eq!(
        imports(&files),
        [
            "a.rs -> b.rs",
            "a.rs -> c.rs",
            "b.rs -> d/inner.rs",
            "b.rs -> d/mod.rs",
            "c.rs -> e.rs"
        ]
    );
}

#[test]
fn modules_inside_a_file_are_the_file() {
    let files = [
        ("main.rs", "mod a; mod b;"),
        (
            "a.rs",
            "pub struct A; mod tests { use super::*; use super::super::b::B; fn a() { self::inner::f() } mod inner {} }",
        ),
        ("b.rs", "// use crate::a::A;\n/// [`crate::a::A`]\npub struct B; const S: &str = \"crate::a::A\";"),
    ];
    assert_eq!(imports(&files), ["a.rs -> b.rs"]);
}

#[test]
fn path_attributes_and_exported_macros_are_followed() {
    let files = [
        (
            "src/main.rs",
            "#[path = \"../rust/lib.rs\"]\npub mod layer;\nmod a;\nmod check;",
        ),
        ("rust/lib.rs", "pub mod mm;"),
        ("rust/mm/mod.rs", "pub mod folio;"),
        ("rust/mm/folio.rs", ""),
        (
            "src/a.rs",
            "use crate::{check_eq, layer::mm::folio::Folio};",
        ),
        (
            "src/check.rs",
            "#[macro_export]\nmacro_rules! check_eq { () => {} }",
        ),
    ];
    assert_eq!(
        imports(&files),
        ["src/a.rs -> rust/mm/folio.rs", "src/a.rs -> src/check.rs"]
    );
}

#[test]
fn what_is_missing_is_said() {
    let missing = crate_of(&[("main.rs", "mod a;")]);
    assert!(missing.is_err_and(|error| error.contains("main.rs declares `mod a`")));
    let broken = crate_of(&[("main.rs", "fn a( {")]);
    assert!(broken.is_err_and(|error| error.contains("no Rust")));
}
