// SPDX-License-Identifier: GPL-2.0

//! A memory cgroup that the process is in for a while.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::mount::{mount, MsFlags};

const ROOT: &str = "/tmp/cgroup";

/// The hierarchy, mounted if it was not.
fn root() -> Result<&'static Path> {
    let root = Path::new(ROOT);
    if !root.join("cgroup.procs").exists() {
        fs::create_dir_all(root)?;
        mount(
            Some("cgroup2"),
            root,
            Some("cgroup2"),
            MsFlags::empty(),
            None::<&str>,
        )
        .context("mounting cgroup2")?;
    }
    fs::write(root.join("cgroup.subtree_control"), "+memory").context("the memory controller")?;
    Ok(root)
}

/// This process's own group, left and removed when the value goes.
pub struct Group {
    path: PathBuf,
    /// `memory.max`, opened in advance: to open a file takes memory of the group, and at the limit the kernel
    /// kills the process for that.
    max: fs::File,
}

impl Group {
    /// Makes a group in which nothing else is, and enters it.
    pub fn enter() -> Result<Group> {
        let path = root()?.join(format!("dmirror-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        let max = fs::File::options()
            .write(true)
            .open(path.join("memory.max"))
            .inspect_err(|_| drop(fs::remove_dir(&path)))
            .context("opening memory.max")?;
        let procs = path.join("cgroup.procs");
        let group = Group { path, max };
        fs::write(&procs, "0").with_context(|| format!("entering by {}", procs.display()))?;
        Ok(group)
    }

    /// Has this process be in no group that has a limit, from now on.
    pub fn leave() -> Result<()> {
        let path = Path::new(ROOT).join("cgroup.procs");
        fs::write(&path, "0").with_context(|| format!("leaving for {}", path.display()))
    }

    /// Nothing but this many bytes from now on; `None` for no limit.
    pub fn limit(&self, bytes: Option<usize>) -> Result<()> {
        let text = bytes.map_or("max".into(), |bytes| bytes.to_string());
        (&self.max)
            .write_all(text.as_bytes())
            .with_context(|| format!("writing `{text}` to memory.max"))
    }

    /// Bytes that the group is charged for.
    pub fn charged(&self) -> Result<usize> {
        Ok(fs::read_to_string(self.path.join("memory.current"))?
            .trim()
            .parse()?)
    }

    /// How often an event came: `max`, `oom`, `oom_kill`.
    pub fn events(&self, name: &str) -> Result<u64> {
        let text = fs::read_to_string(self.path.join("memory.events"))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line
            .with_context(|| format!("no {name} in {text}"))?
            .parse()?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = Group::leave();
        let _ = fs::remove_dir(&self.path);
    }
}
