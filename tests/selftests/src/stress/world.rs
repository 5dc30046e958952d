// SPDX-License-Identifier: GPL-2.0

//! The shared state of the stressed process's threads, and the state of each.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{ensure, Result};
use nix::{errno::Errno, unistd::Pid};

use super::{
    board::{Board, Done, Weather},
    ground::{Ground, Stamp, NONE, WRITE},
    model::{Expect, Model},
    plan::{Shape, Step},
};
use crate::device::{Device, PAGE_SIZE};

/// Pages that the device reads or writes at a time, at most.
pub const READ_MOST: usize = 64;
pub const WRITE_MOST: usize = 8;

pub struct World {
    pub board: &'static Board,
    pub model: Model,
    pub grounds: Vec<Ground>,
    files: Vec<RwLock<Arc<Device>>>,
    /// One hog at a time.
    pub hog: Mutex<()>,
}

/// Files are of device 0, but every third, which is of device 1.
pub fn device_of(file: usize) -> u32 {
    u32::from(file % 3 == 2)
}

impl World {
    pub fn new(board: &'static Board, shape: Shape, threads: usize) -> Result<World> {
        let blocks = shape.pages / crate::area::HUGE;
        Ok(World {
            board,
            model: Model::new(shape.areas * shape.pages, threads)?,
            grounds: (0..shape.areas)
                .map(|index| Ground::new(index, blocks, &board.bases[index]))
                .collect::<Result<_>>()?,
            files: (0..shape.files)
                .map(|file| Ok(RwLock::new(Arc::new(Device::open(device_of(file))?))))
                .collect::<Result<_>>()?,
            hog: Mutex::new(()),
        })
    }

    /// An open file; it stays open as long as somebody uses it.
    pub fn file(&self, file: usize) -> Arc<Device> {
        let slot = self.files[file]
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&slot)
    }

    pub fn all_files(&self) -> Vec<Arc<Device>> {
        (0..self.files.len()).map(|file| self.file(file)).collect()
    }

    /// Replaces it by another file, and returns the old one.
    pub fn swap_file(&self, file: usize, new: Device) -> Arc<Device> {
        let mut slot = self.files[file]
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut slot, Arc::new(new))
    }
}

/// The state before an access to a range.
pub struct Before {
    weather: Weather,
    stamp: Stamp,
    pub addr: usize,
    /// What the CPU might do with all of it.
    access: u8,
}

pub struct Worker<'a> {
    pub world: &'a World,
    pub index: usize,
    /// Where the device reads to and writes from.
    pub buffer: Vec<u8>,
    pub expects: Vec<Expect>,
    /// One that is still about, after its parent went on.
    pub child: Option<Pid>,
}

impl<'a> Worker<'a> {
    pub fn new(world: &'a World, index: usize) -> Worker<'a> {
        Worker {
            world,
            index,
            buffer: vec![0; READ_MOST * PAGE_SIZE],
            expects: Vec::with_capacity(READ_MOST),
            child: None,
        }
    }

    pub fn ground(&self, step: &Step) -> &'a Ground {
        &self.world.grounds[step.area]
    }

    /// Takes down what is known before an access, without holding anything still.
    pub fn before(&mut self, step: &Step, npages: usize) -> Before {
        let ground = self.ground(step);
        let before = Before {
            weather: self.world.board.weather(),
            stamp: ground.stamp(),
            addr: ground.addr(step.first),
            access: ground.least_access(step.first, npages),
        };
        let pages = (step.first..step.first + npages).map(|page| ground.id(page));
        self.expects.clear();
        self.expects
            .extend(pages.map(|page| self.world.model.expect(page)));
        before
    }

    pub fn is_injected(&self, before: &Before) -> bool {
        self.world.board.is_injected(before.weather)
    }

    pub fn is_reshaped(&self, step: &Step, before: &Before) -> bool {
        self.ground(step).is_reshaped(before.stamp)
    }

    /// Compares the pages that the device put into the buffer with the model.
    pub fn check_buffer(&self, step: &Step, before: &Before, npages: usize) -> Result<()> {
        let reshaped = self.is_reshaped(step, before);
        let pages = self.buffer.chunks_exact(PAGE_SIZE);
        let mut compared = 0;
        for (expect, bytes) in self.expects.iter().zip(pages).take(npages) {
            compared += self.world.model.check_page(expect, bytes, reshaped)?;
        }
        self.compared(compared);
        Ok(())
    }

    pub fn compared(&self, values: u64) {
        use std::sync::atomic::Ordering::Relaxed;
        self.world.board.compared.fetch_add(values, Relaxed);
    }

    /// An error that the device gave: allowed if it always is, or if something explains it.
    pub fn refused(
        &self,
        step: &Step,
        before: &Before,
        errno: Errno,
        needs: u8,
        always: &[Errno],
    ) -> Result<Done> {
        // Whoever changed the mapping may have left nothing there, or what may not be accessed.
        let by_shape = self.is_reshaped(step, before) || before.access < needs;
        let explained = match errno {
            Errno::EINVAL | Errno::EFAULT => by_shape || self.is_injected(before),
            Errno::ENOMEM => self.is_injected(before) || self.world.board.is_short(before.weather),
            Errno::EPERM => needs == WRITE && by_shape,
            _ => false,
        };
        ensure!(
            explained || always.contains(&errno),
            "{errno}, which nothing explains"
        );
        Ok(Done::Refused(errno))
    }

    /// An access succeeded that must not, as nothing changed since it was forbidden.
    pub fn must_be_allowed(&self, step: &Step, before: &Before, needs: u8) -> Result<()> {
        ensure!(
            before.access >= needs || self.is_reshaped(step, before),
            "it succeeded on pages of which one is {}",
            if before.access == NONE {
                "inaccessible"
            } else {
                "read-only"
            }
        );
        Ok(())
    }
}
