// SPDX-License-Identifier: GPL-2.0

//! An open `/dev/hmm_dmirrorN`: every ioctl as a method.

use std::{
    fs::{File, OpenOptions},
    os::fd::{AsRawFd, RawFd},
    path::Path,
};

use anyhow::{ensure, Context, Result};
use nix::{errno::Errno, libc};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{
    abi::{self, Cmd, CopyTime, Inject, Migrate, Page, Pause, Point, Stage, Stats},
    area::Area,
};

pub use crate::page::PAGE_SIZE;

/// The first of the coherent devices; there are two or none.
pub const COHERENT: u32 = 2;

fn path(index: u32) -> String {
    format!("/dev/hmm_dmirror{index}")
}

/// How many devices there are.
pub fn count() -> u32 {
    let is_there = |index: &u32| Path::new(&path(*index)).exists();
    (0..).take_while(is_there).count() as u32
}

/// The driver of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// `rust_dmirror`
    Rust,
    /// `test_hmm`
    C,
}

/// Types that an ioctl reads and writes as a whole: any bytes are a valid value, and there is no padding.
pub trait Argument: FromBytes + IntoBytes + Immutable {}

impl<T: FromBytes + IntoBytes + Immutable> Argument for T {}

/// An open file of the driver, mirroring the process that opened it.
pub struct Device {
    file: File,
}

impl Device {
    pub fn open(index: u32) -> Result<Device> {
        Device::open_node(Path::new(&path(index)))
    }

    /// Opens a node by its path: with both drivers loaded, one of them has nodes elsewhere.
    pub fn open_node(path: &Path) -> Result<Device> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Device { file })
    }

    /// Makes the driver free the backing memory of unused device pages, so that their next use must allocate it.
    /// Closing a file that has had a page on the device does that.
    pub fn trim(index: u32) -> Result<()> {
        let device = Device::open(index)?;
        let page = Area::filled_small(1, 0)?;
        for direction in [abi::TO_DEVICE, abi::TO_SYSTEM] {
            let moved = device.migrate(direction, page.addr(), 1)?.moved();
            ensure!(moved == 1, "a page that nobody else knows does not move");
        }
        Ok(())
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Calls an ioctl. The argument then has what the driver wrote, also after an error.
    pub fn call<T: Argument>(&self, code: u32, argument: &mut T) -> Result<(), Errno> {
        // The size is a part of the number, so that the driver copies as many bytes as `argument` has.
        assert_eq!((code >> 16) as usize & 0x3fff, size_of::<T>());
        loop {
            // SAFETY: the driver reads and writes size_of::<T>() bytes, any of which are valid,
            // and user memory that `argument` names, which callers take from `Area` or `Vec`.
            let result = unsafe { libc::ioctl(self.fd(), code.into(), argument as *mut T) };
            match Errno::result(result) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Calls any number with any argument, for tests of what the driver must refuse.
    pub fn call_raw(&self, code: u32, argument: usize) -> Result<(), Errno> {
        // SAFETY: callers pass numbers that the driver does not have, or addresses at which
        // there is nothing of this program's.
        Errno::result(unsafe { libc::ioctl(self.fd(), code.into(), argument) }).map(drop)
    }

    /// Calls one of the ten ioctls of test_hmm.
    pub fn command(&self, code: u32, addr: usize, ptr: usize, npages: u64) -> Result<Cmd, Errno> {
        let mut cmd = Cmd {
            addr: addr as u64,
            ptr: ptr as u64,
            npages,
            ..Cmd::default()
        };
        self.call(code, &mut cmd).map(|()| cmd)
    }

    /// Reads memory at `addr` by the device.
    pub fn read(&self, addr: usize, npages: usize) -> Result<Vec<u8>, Errno> {
        self.read_by(abi::READ, addr, npages)
    }

    /// Calls an ioctl that copies the pages at `addr` to user memory, and returns the data.
    pub fn read_by(&self, code: u32, addr: usize, npages: usize) -> Result<Vec<u8>, Errno> {
        let mut data = vec![0xff; npages * PAGE_SIZE];
        self.command(code, addr, data.as_mut_ptr() as usize, npages as u64)?;
        Ok(data)
    }

    /// Writes whole pages to `addr` by the device.
    pub fn write(&self, addr: usize, data: &[u8]) -> Result<Cmd, Errno> {
        let npages = (data.len() / PAGE_SIZE) as u64;
        self.command(abi::WRITE, addr, data.as_ptr() as usize, npages)
    }

    /// Returns `HMM_DMIRROR_PROT_*` for each page.
    pub fn snapshot(&self, addr: usize, npages: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; npages];
        self.command(
            abi::SNAPSHOT,
            addr,
            bytes.as_mut_ptr() as usize,
            npages as u64,
        )?;
        Ok(bytes)
    }

    pub fn set_flags(&self, flags: u64) -> Result<(), Errno> {
        self.command(abi::FLAGS, 0, 0, flags).map(drop)
    }

    /// Migrates pages, and returns the counts.
    pub fn migrate(&self, direction: u32, addr: usize, npages: usize) -> Result<Migrate, Errno> {
        let mut argument = migrate_argument(direction, addr, npages);
        self.call(abi::MIGRATE, &mut argument).map(|()| argument)
    }

    /// As [`Device::migrate`], and also returns the data that the device then has.
    pub fn migrate_and_read(
        &self,
        direction: u32,
        addr: usize,
        npages: usize,
    ) -> Result<(Migrate, Vec<u8>), Errno> {
        let mut data = vec![0xff; npages * PAGE_SIZE];
        let mut argument = migrate_argument(direction, addr, npages);
        argument.ptr = data.as_mut_ptr() as u64;
        self.call(abi::MIGRATE, &mut argument)
            .map(|()| (argument, data))
    }

    /// Makes `point` fail `times` times, after `skip` passes. Returns how often it has failed so far.
    pub fn inject(&self, point: Point, skip: u64, times: u64) -> Result<u64, Errno> {
        let mut argument = Inject {
            version: abi::ABI_VERSION,
            point: point as u32,
            skip,
            times,
            ..Inject::default()
        };
        self.call(abi::INJECT, &mut argument)
            .map(|()| argument.hits)
    }

    /// Stops the next migration of `direction` (0: any) at `stage`, for at most `ms` milliseconds.
    pub fn arm_pause(&self, stage: Stage, direction: u32, ms: u32) -> Result<Pause, Errno> {
        self.pause(Pause {
            op: abi::PAUSE_ARM,
            stage: stage as u32,
            direction,
            ms,
            ..Pause::default()
        })
    }

    /// Waits until a migration has stopped at the pause that was armed last.
    pub fn wait_pause(&self, ms: u32) -> Result<Pause, Errno> {
        self.pause(Pause {
            op: abi::PAUSE_WAIT,
            ms,
            ..Pause::default()
        })
    }

    /// Calls one of the pause operations without parameters.
    pub fn pause_op(&self, op: u32) -> Result<Pause, Errno> {
        self.pause(Pause {
            op,
            ..Pause::default()
        })
    }

    pub fn pause(&self, argument: Pause) -> Result<Pause, Errno> {
        let mut argument = Pause {
            version: abi::ABI_VERSION,
            ..argument
        };
        self.call(abi::PAUSE, &mut argument).map(|()| argument)
    }

    pub fn page(&self, addr: usize) -> Result<Page, Errno> {
        let mut argument = Page {
            version: abi::ABI_VERSION,
            addr: addr as u64,
            ..Page::default()
        };
        self.call(abi::PAGE, &mut argument).map(|()| argument)
    }

    pub fn stats(&self) -> Result<Stats, Errno> {
        let mut argument = Stats {
            version: abi::ABI_VERSION,
            ..Stats::default()
        };
        self.call(abi::STATS, &mut argument).map(|()| argument)
    }

    /// Returns the nanoseconds that the kernel takes to copy pages.
    pub fn copy(&self, kind: u32, ptr: usize, npages: usize) -> Result<u64, Errno> {
        let mut argument = CopyTime {
            version: abi::ABI_VERSION,
            kind,
            ptr: ptr as u64,
            npages: npages as u64,
            ..CopyTime::default()
        };
        self.call(abi::COPY, &mut argument).map(|()| argument.ns)
    }

    /// Returns which driver it is: only the Rust driver has the ioctl for counters.
    pub fn driver(&self) -> Driver {
        match self.stats() {
            Ok(_) => Driver::Rust,
            Err(_) => Driver::C,
        }
    }
}

/// Returns a valid argument of `RUST_DMIRROR_MIGRATE`.
pub fn migrate_argument(direction: u32, addr: usize, npages: usize) -> Migrate {
    Migrate {
        version: abi::ABI_VERSION,
        direction,
        addr: addr as u64,
        npages: npages as u64,
        ..Migrate::default()
    }
}
