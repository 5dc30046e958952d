// SPDX-License-Identifier: GPL-2.0

//! Follows the modules of a crate from its root, and resolves the paths in them to files.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::TokenStream;

use crate::{
    paths::{Declared, Items, Written},
    Graph, Import,
};

/// A module of the crate: its file, the modules that it declares, and the names that it imports.
struct Module {
    file: String,
    children: BTreeSet<String>,
    names: BTreeMap<String, Vec<String>>,
    paths: Vec<Written>,
}

/// A crate. Modules are known by their path, the root by an empty one.
struct Crate<'a> {
    read: &'a dyn Fn(&str) -> Option<String>,
    modules: BTreeMap<Vec<String>, Module>,
    /// The files of macros with `#[macro_export]`.
    macros: BTreeMap<String, String>,
}

/// Returns the imports of the crate whose root is the file `root`. `read` returns the text of a file, if there is one.
///
/// # Errors
///
/// A file is missing, or is no Rust.
pub fn graph(root: &str, read: &dyn Fn(&str) -> Option<String>) -> Result<Graph, String> {
    let mut all = Crate {
        read,
        modules: BTreeMap::new(),
        macros: BTreeMap::new(),
    };
    all.add_file(Vec::new(), root, parent(root))?;
    let mut imports = BTreeSet::new();
    for (of, module) in &all.modules {
        for written in &module.paths {
            let to = all
                .resolve(of, module, written)
                .filter(|to| *to != module.file);
            imports.extend(to.map(|to| Import {
                from: module.file.clone(),
                to: to.to_string(),
                line: written.line,
                path: written.segments.join("::"),
            }));
        }
    }
    Ok(Graph {
        imports: imports.into_iter().collect(),
    })
}

impl Crate<'_> {
    /// Adds the module of a file; those that it declares are in `directory`.
    fn add_file(&mut self, path: Vec<String>, file: &str, directory: &str) -> Result<(), String> {
        let text = (self.read)(file).ok_or_else(|| format!("{file} cannot be read"))?;
        let stream: TokenStream = text
            .parse()
            .map_err(|error| format!("{file} is no Rust: {error}"))?;
        self.add(path, file, directory, Items::of(stream))
    }

    fn add(
        &mut self,
        path: Vec<String>,
        file: &str,
        directory: &str,
        items: Items,
    ) -> Result<(), String> {
        for name in items.macros {
            self.macros.insert(name, file.to_string());
        }
        let children: BTreeSet<String> = items.modules.iter().map(|m| m.name.clone()).collect();
        let uses = items.paths.iter().filter(|written| written.is_use);
        let mut names: BTreeMap<String, Vec<String>> = uses
            .filter_map(|written| Some((written.name.clone()?, written.segments.clone())))
            .map(|(name, segments)| (name, absolute(&path, &children, &segments)))
            .collect();
        // `use super::*`, in a module of the same file.
        let parent_names = path
            .split_last()
            .and_then(|(_, parent)| self.modules.get(parent));
        if let Some(outer) = parent_names.filter(|outer| outer.file == file) {
            for (name, path) in &outer.names {
                names.entry(name.clone()).or_insert_with(|| path.clone());
            }
        }
        let module = Module {
            file: file.to_string(),
            children,
            names,
            paths: items.paths,
        };
        self.modules.insert(path.clone(), module);
        for declared in items.modules {
            let child = [&*path, &[declared.name.clone()]].concat();
            let inside = join(directory, &declared.name);
            match declared.inline {
                Some(items) => self.add(child, file, &inside, items)?,
                None => {
                    let (file, directory) = self.find(file, directory, &declared)?;
                    self.add_file(child, &file, &directory)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the file of a module that `file` declares, and the directory for those that it declares in turn.
    fn find(
        &self,
        file: &str,
        directory: &str,
        declared: &Declared,
    ) -> Result<(String, String), String> {
        let name = &declared.name;
        if let Some(path) = &declared.path {
            let file = join(parent(file), path);
            let directory = parent(&file).to_string();
            return Ok((file, directory));
        }
        let inside = join(directory, name);
        let nested = join(&inside, "mod.rs");
        let beside = format!("{inside}.rs");
        [beside, nested]
            .into_iter()
            .find(|file| (self.read)(file).is_some())
            .map(|file| (file, inside))
            .ok_or_else(|| format!("{file} declares `mod {name}`, whose file was not found"))
    }

    /// Returns the file that a path leads to, if it is one of this crate.
    fn resolve(&self, of: &[String], module: &Module, written: &Written) -> Option<&str> {
        let first = written.segments.first()?;
        let path = match module.names.get(first) {
            Some(path) if !written.is_use => [path, &written.segments[1..]].concat(),
            _ => absolute(of, &module.children, &written.segments),
        };
        let (root, path) = path.split_first()?;
        if root != "crate" {
            return None;
        }
        if let Some(file) = path.first().and_then(|name| self.macros.get(name)) {
            return Some(file);
        }
        let known = (0..=path.len()).rev();
        let mut modules = known.filter_map(|length| self.modules.get(&path[..length]));
        modules.next().map(|module| &*module.file)
    }
}

/// Returns a path from the crate's root on, beginning with `crate`; one into another crate as it is.
fn absolute(of: &[String], children: &BTreeSet<String>, segments: &[String]) -> Vec<String> {
    let mut base = of.to_vec();
    let mut rest = segments;
    match segments.first().map(String::as_str) {
        Some("crate") => return segments.to_vec(),
        Some("self") => rest = &segments[1..],
        Some("super") => {
            while rest.first().is_some_and(|first| first == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        Some(first) if children.contains(first) => {}
        _ => return segments.to_vec(),
    }
    [&["crate".to_string()], &*base, rest].concat()
}

fn parent(file: &str) -> &str {
    file.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// Joins paths, without `.` and `..`.
fn join(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
