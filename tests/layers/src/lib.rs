// SPDX-License-Identifier: GPL-2.0

//! Reads which file of a crate imports which, and finds circles.
//!
//! A file imports another one if it names an item of it: by `use` or `pub use`, or by a path in the code, also
//! inside a macro. `mod x;` alone is no import. A path leads to the file of the last module in it; if that file
//! re-exports the item, its own `pub use` leads on.

#![deny(warnings)]

mod modules;
mod paths;

use std::collections::{BTreeMap, BTreeSet};

pub use modules::graph;

/// An import: where it stands, and the path as it was written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Import {
    pub from: String,
    pub to: String,
    pub line: usize,
    pub path: String,
}

/// The imports of a crate between different files, sorted.
#[derive(Default, Debug)]
pub struct Graph {
    pub imports: Vec<Import>,
}

impl Graph {
    /// Returns the imports of the files that `is_meant`, from these and to these.
    pub fn among(&self, is_meant: impl Fn(&str) -> bool) -> Graph {
        let imports = self.imports.iter();
        Graph {
            imports: imports
                .filter(|import| is_meant(&import.from) && is_meant(&import.to))
                .cloned()
                .collect(),
        }
    }

    /// Returns the circles: groups of files of which each reaches each other one. A group is given as the imports
    /// inside it.
    pub fn circles(&self) -> Vec<Vec<&Import>> {
        let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for import in &self.imports {
            let from = reached.entry(&*import.from).or_default();
            from.insert(&*import.to);
        }
        // The transitive closure: a few hundred files at most.
        loop {
            let before: usize = reached.values().map(BTreeSet::len).sum();
            for file in reached.keys().copied().collect::<Vec<_>>() {
                let next: Vec<&str> = reached[file].iter().copied().collect();
                let further: BTreeSet<&str> = next
                    .iter()
                    .filter_map(|file| reached.get(file))
                    .flatten()
                    .copied()
                    .collect();
                reached.entry(file).or_default().extend(further);
            }
            if reached.values().map(BTreeSet::len).sum::<usize>() == before {
                break;
            }
        }
        let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|all| all.contains(to));
        let mut circles: BTreeMap<Vec<&str>, Vec<&Import>> = BTreeMap::new();
        for import in &self.imports {
            if reaches(&import.to, &import.from) {
                let group = reached[&*import.from]
                    .iter()
                    .copied()
                    .filter(|file| reaches(file, &import.from))
                    .collect();
                circles.entry(group).or_default().push(import);
            }
        }
        circles.into_values().collect()
    }
}

/// Describes imports, one a line; of those between the same files, the first.
pub fn describe<'a>(imports: impl IntoIterator<Item = &'a Import>) -> String {
    let mut told = BTreeSet::new();
    let lines: Vec<String> = imports
        .into_iter()
        .filter(|import| told.insert((&import.from, &import.to)))
        .map(|import| {
            let Import {
                from,
                to,
                line,
                path,
            } = import;
            format!("  {from}:{line} imports {to}: {path}")
        })
        .collect();
    lines.join("\n")
}
