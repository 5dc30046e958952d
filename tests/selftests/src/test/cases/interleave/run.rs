// SPDX-License-Identifier: GPL-2.0

//! Runs one interleaving in its own process: one thread migrates and is stopped, and another one performs the action.

use std::{
    fs,
    sync::{
        mpsc::{channel, Receiver, RecvTimeoutError},
        Arc,
    },
    thread,
    time::Duration,
};

use anyhow::{bail, ensure, Context, Result};
use nix::{
    errno::Errno,
    sys::{
        mman::{mlockall, munlockall, MlockAllFlags},
        prctl,
        signal::Signal,
        wait::{waitpid, WaitStatus},
    },
};

use super::{
    table::{Cell, When},
    way::{Way, World},
};
use crate::{
    abi, check_eq,
    proc::heap,
    test::{
        case::{Ctx, Undo},
        cases::pause::{state, wait_device, DEBUGFS},
        child::{Peer, PeerEnd},
    },
};

/// The time after which an action that should wait is considered to wait.
const MOMENT: Duration = Duration::from_millis(10);
/// The time limit for each step that must end.
const PATIENCE: Duration = Duration::from_secs(20);

fn tell(word: &str) -> Result<()> {
    fs::write(DEBUGFS, word).context(DEBUGFS)
}

pub fn run(cell: Cell, ctx: &Ctx) -> Result<()> {
    let _undo = Undo(|| drop(tell("clear")));
    // The process that shares the pages may outlive its parent. It then becomes a child of this process.
    prctl::set_child_subreaper(true).context("PR_SET_CHILD_SUBREAPER")?;
    let peer = Peer::start(|end| in_process(cell, end))?;
    let release = || match ctx.dev.command(abi::RELEASE, 0, 0, 1) {
        Ok(_) | Err(Errno::EBUSY) => Ok(()),
        Err(errno) => bail!("RELEASE: {errno}"),
    };
    let status = thread::scope(|scope| {
        let release = (cell.way == Way::EvictRelease).then(|| scope.spawn(release));
        let status = waitpid(peer.pid(), None).context("waitpid");
        let waiting = state().map(|state| state.waiting);
        tell("clear")?;
        if let Some(release) = release {
            release.join().ok().context("a thread panicked")??;
        }
        // The end of the process ends the stop only if the process itself migrates.
        let is_inside = cell.when() == When::Inside && cell.action.ends_process();
        check_eq!(
            waiting?,
            u64::from(is_inside),
            "migrations that are stopped"
        );
        status
    })?;
    let is_right = match status {
        WaitStatus::Signaled(_, Signal::SIGKILL, _) => cell.action.is_kill(),
        WaitStatus::Exited(_, 0) => !cell.action.is_kill(),
        _ => false,
    };
    ensure!(is_right, "the process ended with {status:?}");
    if cell.way.is_shared() && cell.action.ends_process() {
        let status = waitpid(None, None).context("who shares the pages is gone")?;
        ensure!(
            matches!(status, WaitStatus::Exited(_, 0)),
            "who shares the pages ended with {status:?}"
        );
    }
    Ok(())
}

/// Runs `work` in a thread. Returns a receiver of the result, on which callers can wait with a time limit.
fn spawn(
    world: &Arc<World>,
    work: impl FnOnce(&World) -> Result<()> + Send + 'static,
) -> Receiver<Result<()>> {
    let (sender, receiver) = channel();
    let (starts, started) = channel();
    let world = world.clone();
    thread::spawn(move || {
        heap::reserve();
        let _ = starts.send(());
        sender.send(work(&world))
    });
    // Waits until the thread has its heap, so that no migration is stopped before that.
    let _ = started.recv();
    receiver
}

fn in_process(cell: Cell, end: &mut PeerEnd) -> Result<()> {
    let Cell { way, stage, action } = cell;
    // Populates all mappings of this program. A later page fault could need `mmap_lock`, and would then wait behind an
    // action that waits for it.
    mlockall(MlockAllFlags::MCL_CURRENT).context("mlockall")?;
    munlockall().context("munlockall")?;
    let (world, sharer) = World::new(way, action.needs(way))?;
    let world = Arc::new(world);
    heap::reserve();
    let (acts, acted) = channel();
    let (go, gone) = channel();
    let ended = spawn(&world, move |world| {
        gone.recv()?;
        let acted = || {
            let _ = acts.send(());
        };
        action.run(world, &acted)
    });
    let before = state()?.reached;
    tell(&format!("{} {} 0 10000", stage.name(), way.direction()))?;
    end.running()?;
    let may_be = action.may_be();
    let migration = spawn(&world, move |world| world.migrate(&may_be));
    wait_device(before)?;
    go.send(())?;
    let (limit, pinned) = match cell.when() {
        When::Inside | When::Ends => (PATIENCE, Some(true)),
        When::Waits => (MOMENT, Some(false)),
        When::Varies => (MOMENT, None),
    };
    let is_inside = match acted.recv_timeout(limit) {
        Ok(()) => true,
        Err(RecvTimeoutError::Timeout) => false,
        // The action has failed.
        Err(RecvTimeoutError::Disconnected) => return ended.recv().context("no result")?,
    };
    tell("resume")?;
    println!("{}", if is_inside { "inside" } else { "waits" });
    ensure!(
        pinned.is_none_or(|pinned| pinned == is_inside),
        "the action {} for the end of the stop",
        if is_inside { "did not wait" } else { "waits" }
    );
    migration
        .recv_timeout(PATIENCE)
        .context("the migration does not end")?
        .context("the migration")?;
    ended
        .recv_timeout(PATIENCE)
        .context("the action does not end")?
        .context("the action")?;
    for span in action.leaves(&world) {
        span.verify()?;
    }
    if let Some(sharer) = sharer {
        sharer.finish().context("who shares the pages")?;
    }
    Ok(())
}
