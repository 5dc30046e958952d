// SPDX-License-Identifier: GPL-2.0

//! The files of a run: what is woven, what does not compile, what was tried.

use std::{
    collections::{BTreeMap, HashSet},
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    guest,
    report::Tried,
    weave::{read, write, Woven},
};

/// How often a guest may hang before that is the mutant's fault.
const HANGS: usize = 2;

/// Where everything is.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    pub directory: &'a Path,
    /// The name of the file of results.
    pub results: &'a str,
}

impl Work<'_> {
    pub fn dropped(&self) -> PathBuf {
        self.directory.join("dropped.json")
    }

    pub fn tree(&self) -> PathBuf {
        self.directory.join("woven")
    }

    pub fn woven(&self) -> Result<Vec<Woven>> {
        json(&self.directory.join("woven.json"))
    }

    /// Ids of what does not compile, with the reasons.
    pub fn read_dropped(&self) -> Result<BTreeMap<String, String>> {
        match self.dropped().exists() {
            true => json(&self.dropped()),
            false => Ok(BTreeMap::new()),
        }
    }

    /// Notes that a mutant's guest hung; whether that is to be seen once more.
    pub fn hangs_anew(&self, id: &str) -> Result<bool> {
        let path = self.directory.join("hung");
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        if before.lines().filter(|line| *line == id).count() >= HANGS {
            return Ok(false);
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{id}")?;
        Ok(true)
    }

    /// What is known of the suites.
    pub fn reach(&self) -> Result<Vec<guest::Reached>> {
        match self.directory.join("reach.json") {
            path if path.exists() => json(&path),
            _ => Ok(Vec::new()),
        }
    }

    pub fn write_reach(&self, reach: &[guest::Reached]) -> Result<()> {
        let path = self.directory.join("reach.json");
        write(&path, &serde_json::to_string(reach)?)
    }

    /// Ids of what the tests of the pure logic do not notice.
    pub fn logic_passed(&self) -> Result<HashSet<String>> {
        let text = std::fs::read_to_string(self.directory.join("logic.passed"));
        Ok(text.unwrap_or_default().lines().map(String::from).collect())
    }

    pub fn add_logic_passed(&self, id: &str) -> Result<()> {
        let path = self.directory.join("logic.passed");
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(writeln!(file, "{id}")?)
    }

    /// The last verdict on each mutant.
    pub fn results(&self) -> Result<Vec<Tried>> {
        let path = self.directory.join(self.results);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let lines = read(&path)?;
        let mut all: BTreeMap<String, Tried> = BTreeMap::new();
        for line in lines.lines() {
            let tried: Tried = serde_json::from_str(line)
                .with_context(|| format!("{} is damaged", self.results))?;
            all.insert(tried.candidate.id.clone(), tried);
        }
        Ok(all.into_values().collect())
    }

    /// Appends verdicts; `left` is how many cases a mutant was not tried by.
    pub fn add_results(
        &self,
        verdicts: Vec<guest::Verdict>,
        woven: &[Woven],
        left: impl Fn(usize) -> usize,
    ) -> Result<()> {
        let path = self.directory.join(self.results);
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        for verdict in verdicts {
            let of = woven.iter().find(|woven| woven.number == verdict.number);
            let candidate = of.context("a guest told of a mutant that is not woven")?;
            let tried = Tried {
                candidate: candidate.candidate.clone(),
                left: match verdict.noticed {
                    true => 0,
                    false => left(verdict.number),
                },
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
