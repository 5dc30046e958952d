// SPDX-License-Identifier: GPL-2.0

//! Forks. A child sees what its parent saw at that moment, keeps it, and changes nothing that the
//! parent sees.

use std::{
    os::fd::AsRawFd,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    thread::sleep,
    time::Duration,
};

use anyhow::{bail, ensure, Context, Result};
use nix::{
    errno::Errno,
    libc,
    sys::{
        signal::Signal,
        wait::{waitpid, WaitStatus},
    },
    unistd::{self, ForkResult},
};

use crate::{
    abi,
    area::HUGE,
    device::{Device, PAGE_SIZE},
    stress::{
        board::{leave, Done},
        ground::{Ground, READ, WRITE},
        model::{Model, WORDS},
        plan::Step,
        signals::{name_child, touching},
        world::{device_of, Worker},
    },
};

/// Pages that a child looks at.
const LOOKED: usize = 16;
/// Seconds after which a child is not slow, but stuck.
const CHILD_LIMIT: u32 = 120;

pub fn fork(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    wait_for_child(worker)?;
    let ground = worker.ground(step);
    let npages = step.npages.min(LOOKED);
    let world = worker.world;
    // Half of the children give these back at once, so that a close by the parent is the last one.
    let inherited = world.all_files();
    let still = ground.still();
    let before = worker.before(step, npages);
    // SAFETY: the child uses no lock but the allocator's, which the C library takes care of, and
    // leaves without cleaning up.
    let forked = unsafe { unistd::fork() };
    match forked.context("fork") {
        Ok(ForkResult::Child) => {
            name_child();
            // SAFETY: an alarm ends a child that is stuck.
            unsafe { libc::alarm(CHILD_LIMIT) };
            if step.arg % 2 == 0 {
                for file in &inherited {
                    // SAFETY: this process leaves without dropping its copies.
                    unsafe { libc::close(file.fd().as_raw_fd()) };
                }
            }
            let child = Child {
                worker,
                ground,
                base: before.addr - step.first * PAGE_SIZE,
                step,
                npages,
            };
            match child.live() {
                Ok(()) => leave(0),
                Err(error) => {
                    world.board.fail(format_args!(
                        "thread {}, operation #{}, in the child: {error:#}",
                        worker.index,
                        world.board.lanes[worker.index].begun.load(Relaxed)
                    ));
                    leave(1)
                }
            }
        }
        Ok(ForkResult::Parent { child }) => {
            drop(still);
            worker.child = Some(child);
            // Some stay for a while.
            if step.arg % 4 < 3 {
                wait_for_child(worker)?;
            }
            Ok(Done::Yes)
        }
        Err(error) if error.downcast_ref() == Some(&Errno::ENOMEM) => {
            Ok(Done::Refused(Errno::ENOMEM))
        }
        Err(error) => Err(error),
    }
}

/// Waits for the child of the fork before, if it is still about.
pub fn wait_for_child(worker: &mut Worker<'_>) -> Result<()> {
    let Some(pid) = worker.child.take() else {
        return Ok(());
    };
    let in_child = &worker.world.board.lanes[worker.index].in_child;
    in_child.store(pid.as_raw() as u32, Relaxed);
    let status = loop {
        match waitpid(pid, None) {
            Err(Errno::EINTR) => continue,
            status => break status.context("waitpid")?,
        }
    };
    in_child.store(0, Relaxed);
    match status {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Signaled(_, Signal::SIGALRM, _) => bail!("a child was stuck"),
        // It has said why.
        status => bail!("a child ended badly: {status:?}"),
    }
}

struct Child<'a> {
    worker: &'a Worker<'a>,
    ground: &'a Ground,
    /// Where the area is here: in the parent it may move on.
    base: usize,
    step: &'a Step,
    npages: usize,
}

impl Child<'_> {
    fn addr(&self, page: usize) -> usize {
        self.base + page * PAGE_SIZE
    }

    fn word(&self, page: usize, word: usize) -> &AtomicU64 {
        touching(self.worker.world.board);
        // SAFETY: mapped in this process, which has one thread and changes no mapping.
        unsafe { AtomicU64::from_ptr((self.addr(page) as *mut u64).add(word)) }
    }

    fn live(&self) -> Result<()> {
        self.look().context("at first")?;
        let own = match (self.step.arg >> 8) & 1 {
            0 => None,
            _ => Some(self.write()),
        };
        if (self.step.arg >> 9) & 1 == 1 {
            self.migrate()?;
        }
        if self.step.arg % 4 == 3 {
            sleep(Duration::from_millis((self.step.arg >> 16) & 0xff));
        }
        match own {
            None => self.look().context("after a while"),
            Some(pages) => self.look_at_own(&pages),
        }
    }

    /// What the parent's model allows: not older than the fork, and the parent's later writes, which
    /// it also allows, would need a page that is not shared any more.
    fn look(&self) -> Result<()> {
        let model = &self.worker.world.model;
        for (nth, expect) in self.worker.expects.iter().enumerate().take(self.npages) {
            let page = self.step.first + nth;
            if self.ground.access(page) < READ {
                continue;
            }
            let id = self.ground.id(page);
            for turn in 0..4 {
                let word = model.some_word(id, self.step.arg.rotate_left(turn * 11));
                let value = self.word(page, word).load(Acquire);
                model.check(expect, word, value, false)?;
                self.worker.compared(1);
            }
        }
        Ok(())
    }

    /// Writes whole pages of its own; gives which.
    fn write(&self) -> Vec<usize> {
        let pages: Vec<_> = (self.step.first..self.step.first + self.npages.min(4))
            .filter(|page| self.ground.access(*page) >= WRITE)
            .collect();
        for page in &pages {
            for word in 0..WORDS {
                let value = Model::child_value(self.ground.id(*page), word);
                self.word(*page, word).store(value, Release);
            }
        }
        pages
    }

    fn look_at_own(&self, pages: &[usize]) -> Result<()> {
        for page in pages {
            for word in 0..WORDS {
                let wanted = Model::child_value(self.ground.id(*page), word);
                let seen = self.word(*page, word).load(Acquire);
                ensure!(
                    seen == wanted,
                    "page {page}, word {word}: {seen:#x}, which is not what it wrote: {wanted:#x}"
                );
            }
        }
        self.worker.compared((pages.len() * WORDS) as u64);
        Ok(())
    }

    /// Moves a huge page's worth by a file of its own, and lets the device read what it moved.
    fn migrate(&self) -> Result<()> {
        let device = Device::open(device_of(self.step.file))?;
        let block = self.step.first / HUGE * HUGE;
        match device.migrate(abi::TO_DEVICE, self.addr(block), HUGE) {
            Ok(result) => ensure!(
                result.accounted() == result.npages,
                "pages accounted for: {}",
                result.summary()
            ),
            Err(Errno::EINVAL | Errno::ENOMEM | Errno::EAGAIN | Errno::EBUSY) => {}
            Err(errno) => bail!("MIGRATE: {errno}"),
        }
        if (self.step.arg >> 10) & 1 == 1 {
            // Left on the device: the end of this process must clean up.
            std::mem::forget(device);
        }
        Ok(())
    }
}
