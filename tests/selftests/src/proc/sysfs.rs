// SPDX-License-Identifier: GPL-2.0

//! Temporary settings of the kernel's memory management.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

pub const KSM: &str = "/sys/kernel/mm/ksm";
pub const THP: &str = "/sys/kernel/mm/transparent_hugepage";

/// Changed settings. Dropping it restores them, the last one first.
#[derive(Default)]
pub struct Settings(Vec<(PathBuf, String)>);

impl Settings {
    /// Writes a value to a file of a directory, and records the old value.
    pub fn set(&mut self, directory: &str, name: &str, value: &str) -> Result<()> {
        let path = Path::new(directory).join(name);
        let before = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        fs::write(&path, value).with_context(|| format!("`{value}` to {}", path.display()))?;
        self.0.push((path, chosen(&before)));
        Ok(())
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        while let Some((path, before)) = self.0.pop() {
            if let Err(error) = fs::write(&path, &before) {
                eprintln!("`{before}` to {}: {error}", path.display());
            }
        }
    }
}

/// Returns the selected word of a text like `always [madvise] never`; of any other text, all of it.
fn chosen(text: &str) -> String {
    let word = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    word.map_or(text.trim(), |(word, _)| word).to_string()
}

/// Reads a number from a file of a directory.
pub fn number(directory: &str, name: &str) -> Result<u64> {
    let path = Path::new(directory).join(name);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    text.trim()
        .parse()
        .with_context(|| format!("{}: `{text}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn what_is_chosen_is_found() {
        assert_eq!(chosen("always inherit [madvise] never\n"), "madvise");
        assert_eq!(chosen("100\n"), "100");
    }
}
