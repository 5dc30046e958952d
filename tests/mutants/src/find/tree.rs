// SPDX-License-Identifier: GPL-2.0

//! The candidates of all files.

use std::path::Path;

use anyhow::{Context, Result};

use super::find;
use crate::{
    candidate::{self, Candidate},
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
    for name in files {
        let text = read(&top.join(&name))?;
        let file = syn::parse_file(&text).with_context(|| format!("{name} cannot be parsed"))?;
        fields.add(&name, &file, &text);
        texts.push((name, text));
    }
    let mut all = Vec::new();
    for (name, text) in &texts {
        all.extend(find(name, text, &fields)?);
    }
    candidate::identify(&mut all)?;
    Ok(all)
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
