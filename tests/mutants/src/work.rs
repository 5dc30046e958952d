// SPDX-License-Identifier: GPL-2.0

//! The files of a run: what is woven, what does not compile, what was tried.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    guest,
    report::Tried,
    weave::{read, Woven},
};

/// Where everything is.
pub struct Work<'a>(pub &'a Path);

impl Work<'_> {
    pub fn dropped(&self) -> PathBuf {
        self.0.join("dropped.json")
    }

    pub fn tree(&self) -> PathBuf {
        self.0.join("woven")
    }

    pub fn woven(&self) -> Result<Vec<Woven>> {
        json(&self.0.join("woven.json"))
    }

    /// Ids of what does not compile, with the reasons.
    pub fn read_dropped(&self) -> Result<BTreeMap<String, String>> {
        match self.dropped().exists() {
            true => json(&self.dropped()),
            false => Ok(BTreeMap::new()),
        }
    }

    /// Notes that a mutant's guest hung; whether that is the first time.
    pub fn hangs_anew(&self, id: &str) -> Result<bool> {
        let path = self.0.join("hung");
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        if before.lines().any(|line| line == id) {
            return Ok(false);
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{id}")?;
        Ok(true)
    }

    pub fn results(&self) -> Result<Vec<Tried>> {
        let path = self.0.join("results.jsonl");
        if !path.exists() {
            return Ok(Vec::new());
        }
        let lines = read(&path)?;
        let parse = |line| serde_json::from_str(line).context("results.jsonl is damaged");
        lines.lines().map(parse).collect()
    }

    pub fn add_results(&self, verdicts: Vec<guest::Verdict>, woven: &[Woven]) -> Result<()> {
        let path = self.0.join("results.jsonl");
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        for verdict in verdicts {
            let of = woven.iter().find(|woven| woven.number == verdict.number);
            let candidate = of.context("a guest told of a mutant that is not woven")?;
            let tried = Tried {
                candidate: candidate.candidate.clone(),
                verdict,
            };
            // One write a line: guests are collected side by side.
            file.write_all(format!("{}\n", serde_json::to_string(&tried)?).as_bytes())?;
        }
        Ok(())
    }
}

pub fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&read(path)?).with_context(|| format!("{} is damaged", path.display()))
}
