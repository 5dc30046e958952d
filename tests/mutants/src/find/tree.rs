// SPDX-License-Identifier: GPL-2.0

//! The candidates of all files.

use std::{collections::HashSet, path::Path};

use anyhow::{Context, Result};

use super::find;
use crate::{
    candidate::{self, Candidate},
    cfg::is_built,
    fields::Fields,
    weave::read,
};

/// All candidates of the tree, with their ids.
pub fn candidates(top: &Path) -> Result<Vec<Candidate>> {
    let mut files = Vec::new();
    for part in ["rust", "src"] {
        rust_files(top, Path::new(part), &mut files)?;
    }
    files.sort();
    let mut fields = Fields::default();
    let mut texts = Vec::new();
    let mut not_built = HashSet::new();
    for name in files {
        let text = read(&top.join(&name))?;
        let file = syn::parse_file(&text).with_context(|| format!("{name} cannot be parsed"))?;
        fields.add(&name, &file, &text);
        not_built.extend(modules_not_built(&name, &file));
        texts.push((name, text));
    }
    texts.retain(|(name, _)| !not_built.contains(name));
    let mut all = Vec::new();
    for (name, text) in &texts {
        all.extend(find(name, text, &fields)?);
    }
    candidate::identify(&mut all)?;
    Ok(all)
}

/// The files of the modules that a file declares for tests only.
fn modules_not_built(name: &str, file: &syn::File) -> Vec<String> {
    let path = Path::new(name);
    let directory = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib" | "rust_dmirror_main") => path.with_file_name(""),
        _ => path.with_extension(""),
    };
    let declared = file.items.iter().filter_map(|item| match item {
        syn::Item::Mod(item) if item.content.is_none() && !is_built(&item.attrs) => {
            let file = directory.join(format!("{}.rs", item.ident));
            Some(file.to_string_lossy().into_owned())
        }
        _ => None,
    });
    declared.collect()
}

fn rust_files(top: &Path, part: &Path, files: &mut Vec<String>) -> Result<()> {
    let directory = top.join(part);
    let entries = std::fs::read_dir(&directory)
        .with_context(|| format!("{} cannot be read", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = part.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            rust_files(top, &path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_for_tests_have_no_mutants() {
        let file = syn::parse_file("mod a; #[cfg(CONFIG_KUNIT = \"y\")] mod b;").unwrap();
        assert_eq!(modules_not_built("rust/mm/mod.rs", &file), ["rust/mm/b.rs"]);
        assert_eq!(modules_not_built("src/c.rs", &file), ["src/c/b.rs"]);
    }
}
