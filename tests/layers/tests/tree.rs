// SPDX-License-Identifier: GPL-2.0

//! The rules for this tree.

use std::{fs, path::Path};

use layers::{describe, graph, Graph};

/// The imports of a crate of this tree. What the build generates is empty.
fn crate_of(root: &str) -> Graph {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    graph(root, &|name| fs::read_to_string(top.join(name)).ok()).expect("the tree is whole")
}

fn module() -> Graph {
    crate_of("src/rust_dmirror_main.rs")
}

fn assert_no_circle(graph: &Graph) {
    assert!(graph.imports.len() > 10, "the imports were not found");
    let circles: Vec<String> = graph.circles().into_iter().map(describe).collect();
    assert!(
        circles.is_empty(),
        "files that import each other:\n{}",
        circles.join("\n\n")
    );
}

/// The driver, with its KUnit suites. The layer below it is not looked at.
#[test]
fn no_circle_in_src() {
    assert_no_circle(&module().among(|file| !file.starts_with("rust/")));
}

#[test]
fn no_circle_in_the_companion() {
    assert_no_circle(&crate_of("tests/selftests/src/main.rs"));
}

#[test]
fn the_layer_does_not_import_the_driver() {
    let graph = module();
    let is_layer = |file: &str| file.starts_with("rust/");
    assert!(graph.imports.iter().any(|i| is_layer(&i.to)));
    let upwards = graph
        .imports
        .iter()
        .filter(|i| is_layer(&i.from) && !is_layer(&i.to));
    let upwards = describe(upwards);
    assert!(upwards.is_empty(), "rust/ imports src/:\n{upwards}");
}
