// SPDX-License-Identifier: GPL-2.0

//! The tests of the module's pure logic on the host, `tests/logic`: they look at a mutant in a second, and
//! the guests at the rest.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};

use crate::{
    guest::Verdict,
    weave::{self, read, write},
};

/// Where those tests are.
pub const TESTS: &str = "tests/logic";

const SWITCH: &str = include_str!("../templates/host.rs");
const ROOT: &str = "tests/logic/src/lib.rs";

/// How long the tests may take with a mutant. They take a few seconds.
const LIMIT: Duration = Duration::from_secs(40);

/// The most memory that they may have, in KiB.
const MEMORY: usize = 4 << 20;

/// The files of the module that those tests compile, by their `#[path]`.
pub fn files(top: &Path) -> Result<HashSet<String>> {
    let mut all = HashSet::new();
    let mut directories = vec![PathBuf::from(TESTS).join("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(top.join(&directory))? {
            let path = directory.join(entry?.file_name());
            if top.join(&path).is_dir() {
                directories.push(path);
                continue;
            }
            let text = read(&top.join(&path))?;
            let quoted = text.split("#[path = \"").skip(1);
            let paths = quoted.filter_map(|rest| rest.split_once('"'));
            all.extend(paths.map(|(name, _)| normal(&directory.join(name))));
        }
    }
    ensure!(!all.is_empty(), "{TESTS} compiles no file of the module");
    Ok(all)
}

/// A path without its `..`.
fn normal(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.iter().map(|part| part.to_string_lossy()) {
        match &*part {
            ".." => drop(parts.pop()),
            _ => parts.push(part.into_owned()),
        }
    }
    parts.join("/")
}

/// Adds the tests to a woven tree.
pub fn tree(from: &Path, out: &Path) -> Result<()> {
    let root = |path: &Path| path.ends_with(ROOT);
    weave::copy(&from.join(TESTS), &out.join(TESTS), &mut |path| root(path))?;
    let text = read(&from.join(ROOT))?;
    write(&out.join(ROOT), &format!("{text}\nmod mutant;\n"))?;
    write(&out.join(TESTS).join("src/mutant.rs"), SWITCH)
}

/// Runs the tests with a mutant, 0 for none. `None` if they pass.
pub fn run(program: &Path, number: usize) -> Result<Option<Verdict>> {
    let start = Instant::now();
    let path = std::env::temp_dir().join(format!("mutant-{number}"));
    let output = File::create(&path)?;
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -v $1; exec \"$0\""])
        .arg(program)
        .arg(MEMORY.to_string())
        .env("DMIRROR_MUTANT", number.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(output)
        .spawn()
        .context("sh")?;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if start.elapsed() > LIMIT => {
                child.kill()?;
                child.wait()?;
                break None;
            }
            None => sleep(Duration::from_millis(20)),
        }
    };
    let mut text = String::new();
    File::open(&path)?.read_to_string(&mut text)?;
    let _ = fs::remove_file(&path);
    let what = match status {
        Some(status) if status.success() => return Ok(None),
        Some(status) => status.to_string(),
        None => format!("not done in {} s", LIMIT.as_secs()),
    };
    let failed = |line: &str| -> Option<String> {
        let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        Some(name.to_string())
    };
    let by = text.lines().find_map(failed);
    Ok(Some(Verdict {
        number,
        noticed: true,
        by: format!("logic {}", by.unwrap_or_default()).trim().into(),
        what,
        seconds: start.elapsed().as_secs_f64(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_the_modules_files() {
        let at = Path::new("tests/logic/src/layer/../../../../rust/mm/gate.rs");
        assert_eq!(normal(at), "rust/mm/gate.rs");
    }
}
