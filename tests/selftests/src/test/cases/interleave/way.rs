// SPDX-License-Identifier: GPL-2.0

//! The kinds of migrations that are stopped (*ways*): the direction, and the sizes of the folios.

use std::{fs::File, mem::ManuallyDrop, os::fd::AsRawFd, sync::Mutex, thread, time::Duration};

use anyhow::{ensure, Context, Result};
use nix::{
    errno::Errno,
    libc,
    sys::mman::{MmapAdvise, ProtFlags},
    unistd::getppid,
};

use crate::{
    abi::{self, Point},
    area::{pattern, Area, HUGE},
    check_eq,
    device::{Device, PAGE_SIZE},
    proc::{affinity::Pinned, anon_vma::AnonVmas},
    test::{
        case::accounted,
        child::{pipe, Peer},
    },
};

pub const SEED: u64 = 800;
/// The page that faults, and that is the target of actions on a single page.
pub const HOT: usize = 5;
/// The number of pages to migrate if only a part of a huge page migrates. [`HOT`] is one of them.
const PART: usize = HUGE / 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToDeviceWhole,
    ToDeviceSplit,
    ToDevicePart,
    ToDeviceShared,
    ToDeviceNoMemory,
    ToSystemWhole,
    ToSystemSplit,
    ToSystemPart,
    ToSystemShared,
    ToSystemNoMemory,
    FaultHuge,
    FaultSplit,
    FaultMappedSmall,
    FaultSmall,
    EvictRelease,
    EvictClose,
    EvictSmall,
}

use Way::*;

impl Way {
    pub const ALL: [Way; 17] = [
        ToDeviceWhole,
        ToDeviceSplit,
        ToDevicePart,
        ToDeviceShared,
        ToDeviceNoMemory,
        ToSystemWhole,
        ToSystemSplit,
        ToSystemPart,
        ToSystemShared,
        ToSystemNoMemory,
        FaultHuge,
        FaultSplit,
        FaultMappedSmall,
        FaultSmall,
        EvictRelease,
        EvictClose,
        EvictSmall,
    ];

    /// Returns its part of the names of cases, and its description in the table.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            ToDeviceWhole => ("to_device.whole", "a huge page to the device"),
            ToDeviceSplit => (
                "to_device.split",
                "a huge page to the device, and no huge destination",
            ),
            ToDevicePart => (
                "to_device.part",
                "half of a huge page to the device: split while it is collected",
            ),
            ToDeviceShared => (
                "to_device.shared",
                "a huge page shared by fork to the device, and no huge destination",
            ),
            ToDeviceNoMemory => (
                "to_device.no_memory",
                "a huge page to the device, and no destination of any size",
            ),
            ToSystemWhole => ("to_system.whole", "a huge device page to system memory"),
            ToSystemSplit => (
                "to_system.split",
                "a huge device page to system memory, and no huge destination",
            ),
            ToSystemPart => (
                "to_system.part",
                "half of a huge device page to system memory: split while it is collected",
            ),
            ToSystemShared => (
                "to_system.shared",
                "a huge device page shared by fork to system memory, and no huge destination",
            ),
            ToSystemNoMemory => (
                "to_system.no_memory",
                "a huge device page to system memory, and no destination of any size",
            ),
            FaultHuge => ("fault.huge", "a CPU fault on a huge device page"),
            FaultSplit => (
                "fault.split",
                "a CPU fault on a huge device page, and no huge destination",
            ),
            FaultMappedSmall => (
                "fault.mapped_small",
                "a CPU fault on a huge device page that is mapped page by page",
            ),
            FaultSmall => ("fault.small", "a CPU fault on a small device page"),
            EvictRelease => (
                "evict.release",
                "a huge device page evicted by another process's RELEASE",
            ),
            EvictClose => (
                "evict.close",
                "a huge device page evicted because its file is closed",
            ),
            EvictSmall => (
                "evict.small",
                "small device pages evicted because their file is closed",
            ),
        }
    }

    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// Returns the name of its direction in debugfs.
    pub fn direction(self) -> &'static str {
        match self {
            ToDeviceWhole | ToDeviceSplit | ToDevicePart | ToDeviceShared | ToDeviceNoMemory => {
                "to-device"
            }
            ToSystemWhole | ToSystemSplit | ToSystemPart | ToSystemShared | ToSystemNoMemory => {
                "to-system"
            }
            _ if self.is_fault() => "fault",
            _ => "evict",
        }
    }

    pub fn is_to_device(self) -> bool {
        self.direction() == "to-device"
    }

    pub fn is_fault(self) -> bool {
        matches!(self, FaultHuge | FaultSplit | FaultMappedSmall | FaultSmall)
    }

    pub fn is_eviction(self) -> bool {
        matches!(self, EvictRelease | EvictClose | EvictSmall)
    }

    /// Returns whether it evicts by closing the file.
    pub fn closes(self) -> bool {
        matches!(self, EvictClose | EvictSmall)
    }

    fn is_small(self) -> bool {
        matches!(self, FaultSmall | EvictSmall)
    }

    pub fn is_shared(self) -> bool {
        matches!(self, ToDeviceShared | ToSystemShared)
    }

    fn points(self) -> &'static [Point] {
        match self {
            ToDeviceSplit | ToSystemSplit | ToDeviceShared | ToSystemShared | FaultSplit => {
                &[Point::HugeAlloc]
            }
            ToDeviceNoMemory | ToSystemNoMemory => &[Point::HugeAlloc, Point::SmallAlloc],
            _ => &[],
        }
    }
}

/// What an action needs in addition.
#[derive(Clone, Copy)]
pub struct Needs {
    pub bystander: bool,
    pub neighbours: bool,
}

/// The state of a cell. Each cell has its own process.
pub struct World {
    pub way: Way,
    pub area: Area,
    /// The range that `mremap` moves pages to.
    pub target: Area,
    /// The file that migrates. Never dropped, since cells close it by its number.
    dev: ManuallyDrop<Device>,
    /// Another file of the same device and process.
    pub other: Device,
    /// A file to close, with a page of its own on the device.
    pub bystander: Mutex<Option<(Device, Area)>>,
    /// Allocated before and after the anon_vma of `area`, if its slab page must be freed as a whole.
    pub neighbours: Mutex<Vec<AnonVmas>>,
    fault: (File, File),
}

impl World {
    /// Makes the state before the migration that will be stopped. Also returns the process that shares the pages, if
    /// the way has one. That process checks the pages in its next step.
    pub fn new(way: Way, needs: Needs) -> Result<(World, Option<Peer>)> {
        // The first anon_vmas use up those that the kernel keeps free for this CPU.
        let pinned = needs.neighbours.then(Pinned::here).transpose()?;
        let neighbours = || needs.neighbours.then(AnonVmas::new).transpose();
        let before = neighbours()?;
        let area = match way.is_small() {
            true => Area::filled_small(HUGE, SEED)?,
            false => Area::filled(1, SEED)?,
        };
        let sharer = match way.is_shared() {
            true => Some(Peer::start(|end| {
                let first = getppid();
                if end.next().is_err() {
                    // The first process is ending. Waits until the kernel has closed all its files.
                    while getppid() == first {
                        thread::sleep(Duration::from_millis(5));
                    }
                }
                area.verify(SEED)
            })?),
            false => None,
        };
        let after = neighbours()?;
        drop(pinned);
        let dev = ManuallyDrop::new(Device::open(0)?);
        if !way.is_to_device() {
            let result = dev.migrate(abi::TO_DEVICE, area.addr(), HUGE)?;
            check_eq!(result.moved(), HUGE as u64, "pages moved to begin with");
            let is_whole = result.whole == HUGE as u64;
            ensure!(is_whole != way.is_small(), "{}", result.summary());
        }
        if way == FaultMappedSmall {
            area.advise(MmapAdvise::MADV_NOHUGEPAGE)?;
            protect_half(&area, ProtFlags::PROT_READ)?;
            protect_half(&area, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
        }
        for &point in way.points() {
            dev.inject(point, 0, 1)?;
        }
        let bystander = match needs.bystander {
            true => {
                let (file, own) = (Device::open(0)?, Area::filled_small(1, SEED)?);
                let moved = file.migrate(abi::TO_DEVICE, own.addr(), 1)?.moved();
                check_eq!(moved, 1, "the bystander's page moved");
                Some((file, own))
            }
            false => None,
        };
        let world = World {
            way,
            area,
            target: Area::small(2 * HUGE)?,
            dev,
            other: Device::open(0)?,
            bystander: bystander.into(),
            neighbours: [before, after]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .into(),
            fault: pipe()?,
        };
        Ok((world, sharer))
    }

    /// Runs the migration that is stopped, and checks its result. Called in its own thread.
    pub fn migrate(&self, may_be: &MayBe) -> Result<()> {
        match self.way {
            way if way.is_fault() => self.fault(may_be),
            way if way.closes() => self.close(),
            // The parent process evicts, by RELEASE.
            EvictRelease => Ok(()),
            way => {
                let direction = match way.is_to_device() {
                    true => abi::TO_DEVICE,
                    false => abi::TO_SYSTEM,
                };
                let npages = match way {
                    ToDevicePart | ToSystemPart => PART,
                    _ => HUGE,
                };
                match self.dev.migrate(direction, self.area.addr(), npages) {
                    Ok(result) => accounted(&result),
                    // A second attempt fails if the memory was unmapped.
                    Err(Errno::EINVAL) if may_be.gone => Ok(()),
                    Err(errno) => Err(errno).context("MIGRATE"),
                }
            }
        }
    }

    /// Faults on a page in a system call, which fails where a plain access would be killed by a signal.
    fn fault(&self, may_be: &MayBe) -> Result<()> {
        let mut word = 0u64;
        let (read, write) = (self.fault.0.as_raw_fd(), self.fault.1.as_raw_fd());
        let from = self.area.page(HOT) as *const libc::c_void;
        // SAFETY: the kernel only reads eight bytes. If it cannot, the call fails.
        match Errno::result(unsafe { libc::write(write, from, size_of_val(&word)) }) {
            Ok(_) => {}
            Err(Errno::EFAULT) if may_be.gone => return Ok(()),
            Err(errno) => return Err(errno).context("reading by the CPU"),
        }
        let to = (&raw mut word).cast();
        // SAFETY: `word` has room for what was written above.
        Errno::result(unsafe { libc::read(read, to, size_of_val(&word)) }).context("read")?;
        let is_right = word == pattern(SEED, HOT, 0)
            || word == 0 && may_be.zero
            || Some(word) == may_be.seed.map(|seed| pattern(seed, HOT, 0));
        ensure!(is_right, "the CPU reads {word:#x}");
        Ok(())
    }

    /// Closes the file that migrates.
    pub fn close(&self) -> Result<()> {
        nix::unistd::close(self.dev.fd()).context("close")
    }
}

/// What the migration may find in memory, besides the pattern.
#[derive(Clone, Copy, Debug, Default)]
pub struct MayBe {
    /// Memory that is not mapped, or not readable.
    pub gone: bool,
    /// Zeroes.
    pub zero: bool,
    /// The pattern of another seed.
    pub seed: Option<u64>,
}

/// Changes the protection of the first half of an area.
pub fn protect_half(area: &Area, prot: ProtFlags) -> Result<()> {
    let half = area.npages() / 2 * PAGE_SIZE;
    // SAFETY: the pages belong to the area, and stay readable.
    Errno::result(unsafe { libc::mprotect(area.addr() as *mut _, half, prot.bits()) })
        .map(drop)
        .context("mprotect")
}
