// SPDX-License-Identifier: GPL-2.0

//! The files and functions to report on, from `scope.toml`.

use crate::lines::File;
use anyhow::{Context as _, Result};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// Directories of the repository.
    directories: Vec<String>,
    /// Files below them that are for tests only.
    tests: Vec<String>,
    core: Vec<Core>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Core {
    file: String,
    /// Empty means all.
    #[serde(default)]
    functions: Vec<String>,
}

impl Scope {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Whether to report on a file of the repository.
    pub fn has_file(&self, path: &str) -> bool {
        self.directory(path).is_some() && !self.tests.iter().any(|test| test == path)
    }

    /// Returns the directory of `directories` that a file is below.
    pub fn directory(&self, path: &str) -> Option<&str> {
        let below = |directory: &&String| Path::new(path).starts_with(directory);
        self.directories.iter().find(below).map(String::as_str)
    }

    pub fn directories(&self) -> impl Iterator<Item = &str> {
        self.directories.iter().map(String::as_str)
    }

    /// Whether to report on a file of the kernel.
    pub fn has_core_file(&self, path: &str) -> bool {
        self.core.iter().any(|core| core.file == path)
    }

    /// Whether to report on a function of a file.
    pub fn has(&self, path: &str, function: &str) -> bool {
        match self.core.iter().find(|core| core.file == path) {
            Some(core) => {
                core.functions.is_empty() || core.functions.iter().any(|name| name == function)
            }
            None => true,
        }
    }

    /// Checks that each named file and function of the kernel has code, under that name.
    pub fn check(&self, files: &[File]) -> Result<()> {
        for core in &self.core {
            let file = files
                .iter()
                .find(|file| file.core && file.path == core.file);
            let file = file
                .with_context(|| format!("scope.toml: {} has no code in this kernel", core.file))?;
            for name in &core.functions {
                anyhow::ensure!(
                    file.lines.iter().any(|line| line.function == *name),
                    "scope.toml: {} has no code of {name} in this kernel",
                    core.file
                );
            }
        }
        Ok(())
    }
}
