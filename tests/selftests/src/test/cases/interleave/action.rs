// SPDX-License-Identifier: GPL-2.0

//! The actions on the pages while their migration is stopped.

use std::{fs::File, io::Read, mem::take, os::fd::AsRawFd, ptr};

use anyhow::{bail, ensure, Context, Result};
use nix::{
    errno::Errno,
    libc,
    sys::{
        mman::{MmapAdvise, ProtFlags},
        signal::{kill, Signal},
        wait::{waitpid, WaitStatus},
    },
    unistd::{self, ForkResult},
};

use super::{
    view::{Holds, Span},
    way::{protect_half, MayBe, Needs, Way, World, HOT, SEED},
};
use crate::{
    abi,
    area::{pattern, pattern_bytes, verify_bytes, HUGE},
    check_eq,
    device::PAGE_SIZE,
    proc::anon_vma,
    test::{case::accounted, child::pipe},
};

/// The seed of the pattern that the device writes.
const SEED_OF_DEVICE: u64 = 801;
/// The number of pages that actions on a part of the area discard or unmap. [`HOT`] is one of them.
const PART: usize = HUGE / 4;
/// The word of a page that the CPU writes, and the value.
const WORD: usize = 9;
const VALUE: u64 = 0x5eed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    ZapAll,
    ZapPart,
    ZapTouch,
    Free,
    UnmapAll,
    UnmapPart,
    Move,
    MoveKeep,
    MoveUnaligned,
    Protect,
    Fork,
    Exit,
    Exec,
    Kill,
    CpuRead,
    CpuWrite,
    VmRead,
    Vmsplice,
    OtherToDevice,
    OtherToSystem,
    DeviceRead,
    DeviceWrite,
    Release,
    CloseOther,
    CloseSame,
    Collapse,
    Pageout,
}

use Action::*;

impl Action {
    pub const ALL: [Action; 27] = [
        ZapAll,
        ZapPart,
        ZapTouch,
        Free,
        UnmapAll,
        UnmapPart,
        Move,
        MoveKeep,
        MoveUnaligned,
        Protect,
        Fork,
        Exit,
        Exec,
        Kill,
        CpuRead,
        CpuWrite,
        VmRead,
        Vmsplice,
        OtherToDevice,
        OtherToSystem,
        DeviceRead,
        DeviceWrite,
        Release,
        CloseOther,
        CloseSame,
        Collapse,
        Pageout,
    ];

    /// Returns its part of the names of cases, and its description in the table.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            ZapAll => ("zap_all", "`MADV_DONTNEED` of all"),
            ZapPart => ("zap_part", "`MADV_DONTNEED` of a quarter"),
            ZapTouch => (
                "zap_touch",
                "`MADV_DONTNEED` of all, then a write: another folio in its place",
            ),
            Free => ("free", "`MADV_FREE` of all"),
            UnmapAll => ("unmap_all", "`munmap` of all"),
            UnmapPart => ("unmap_part", "`munmap` of a quarter"),
            Move => ("mremap", "`mremap`, a move"),
            MoveKeep => ("mremap_dontunmap", "`mremap`, a move with `DONTUNMAP`"),
            MoveUnaligned => (
                "mremap_unaligned",
                "`mremap` to where no huge page can be mapped",
            ),
            Protect => ("mprotect", "`mprotect` of a half, and back"),
            Fork => ("fork", "`fork`, and the child reads"),
            Exit => ("exit", "exit of the process"),
            Exec => ("exec", "`execve`"),
            Kill => ("kill", "`SIGKILL` of the process"),
            CpuRead => ("cpu_read", "a read by the CPU"),
            CpuWrite => ("cpu_write", "a write by the CPU"),
            VmRead => ("vm_read", "`process_vm_readv`"),
            Vmsplice => ("vmsplice", "`vmsplice` into a pipe"),
            OtherToDevice => ("other_to_device", "another file migrates to the device"),
            OtherToSystem => ("other_to_system", "another file migrates to system memory"),
            DeviceRead => ("device_read", "a read by the device"),
            DeviceWrite => ("device_write", "a write by the device"),
            Release => ("release", "`RELEASE`"),
            CloseOther => (
                "close_other",
                "close of another file that has a page on the device",
            ),
            CloseSame => ("close_same", "close of the file that migrates"),
            Collapse => ("collapse", "`MADV_COLLAPSE`"),
            Pageout => ("pageout", "`MADV_PAGEOUT`"),
        }
    }

    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// Returns whether it ends the process, or removes all mappings of the process.
    pub fn ends_process(self) -> bool {
        matches!(self, Exit | Exec | Kill)
    }

    pub fn is_kill(self) -> bool {
        self == Kill
    }

    pub fn needs(self, way: Way) -> Needs {
        Needs {
            bystander: self == CloseOther,
            // In other migrations, the VMA cannot be unmapped before its pages are mapped again.
            neighbours: self == UnmapAll && way.is_eviction(),
        }
    }

    /// Returns whether it removes pages from the page table at once.
    pub fn zaps(self) -> bool {
        matches!(self, ZapAll | ZapPart | ZapTouch)
    }

    /// Returns whether it changes mappings, for which it takes `mmap_lock` for writing.
    pub fn changes_mappings(self) -> bool {
        matches!(
            self,
            UnmapAll | UnmapPart | Move | MoveKeep | MoveUnaligned | Protect | Fork
        )
    }

    /// Returns whether it needs the page, and therefore waits for the end of the page's migration.
    pub fn needs_page(self) -> bool {
        matches!(
            self,
            CpuRead | CpuWrite | VmRead | Vmsplice | DeviceRead | DeviceWrite
        )
    }

    /// Returns what the migration may find in memory besides the pattern.
    pub fn may_be(self) -> MayBe {
        MayBe {
            gone: matches!(self, UnmapAll | UnmapPart | Move | MoveUnaligned),
            zero: self.zaps() || matches!(self, Free | MoveKeep),
            seed: (self == DeviceWrite).then_some(SEED_OF_DEVICE),
        }
    }

    /// Returns what memory must hold afterwards.
    pub fn leaves(self, world: &World) -> Vec<Span> {
        let span = |addr: usize, first: usize, end: usize, holds| Span {
            addr: addr + first * PAGE_SIZE,
            first,
            npages: end - first,
            holds,
            written: None,
        };
        let (from, to) = (world.area.addr(), world.target.addr());
        let data = Holds::Data(SEED);
        match self {
            ZapAll => vec![span(from, 0, HUGE, Holds::Zero)],
            ZapPart => vec![
                span(from, 0, PART, Holds::Zero),
                span(from, PART, HUGE, data),
            ],
            ZapTouch => vec![Span {
                written: Some((HOT, WORD, VALUE)),
                ..span(from, 0, HUGE, Holds::Zero)
            }],
            Free => vec![span(from, 0, HUGE, Holds::DataOrZero(SEED))],
            UnmapAll => vec![],
            UnmapPart => vec![span(from, PART, HUGE, data)],
            Move => vec![span(to, 0, HUGE, data)],
            MoveUnaligned => vec![span(to + PAGE_SIZE, 0, HUGE, data)],
            MoveKeep => vec![span(to, 0, HUGE, data), span(from, 0, HUGE, Holds::Zero)],
            CpuWrite => vec![Span {
                written: Some((HOT, WORD, VALUE)),
                ..span(from, 0, HUGE, data)
            }],
            DeviceWrite => vec![
                span(from, 0, HOT, data),
                span(from, HOT, HOT + 1, Holds::Data(SEED_OF_DEVICE)),
                span(from, HOT + 1, HUGE, data),
            ],
            _ => vec![span(from, 0, HUGE, data)],
        }
    }

    /// Performs it. Calls `acted` when it has had its effect; after that, it only checks the effect.
    pub fn run(self, world: &World, acted: &dyn Fn()) -> Result<()> {
        let area = &world.area;
        match self {
            ZapAll => area.advise(MmapAdvise::MADV_DONTNEED)?,
            ZapPart => area.discard(0, PART)?,
            ZapTouch => {
                area.advise(MmapAdvise::MADV_DONTNEED)?;
                area.set_word(HOT, WORD, VALUE);
            }
            Free => area.advise(MmapAdvise::MADV_FREE)?,
            UnmapAll => {
                area.unmap(0, HUGE)?;
                let neighbours = world.neighbours.lock().map(|mut n| take(&mut *n));
                if neighbours.is_ok_and(|n| !n.is_empty()) {
                    // The anon_vma was freed as well. Makes the kernel free its slab page, too.
                    anon_vma::free_pages();
                }
            }
            UnmapPart => area.unmap(0, PART)?,
            Move => mremap(world, 0, 0)?,
            MoveKeep => mremap(world, 0, libc::MREMAP_DONTUNMAP)?,
            MoveUnaligned => mremap(world, PAGE_SIZE, 0)?,
            Protect => {
                protect_half(area, ProtFlags::PROT_READ)?;
                protect_half(area, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
            }
            Fork => return fork(world, acted),
            // SAFETY: ends this process at once.
            Exit => unsafe { libc::_exit(0) },
            Exec => {
                let arguments = [c"dmirror", c"--version"];
                unistd::execv(c"/proc/self/exe", &arguments).context("execv")?;
            }
            Kill => kill(unistd::getpid(), Signal::SIGKILL)?,
            CpuRead => {
                let word = area.word(HOT, WORD);
                check_eq!(word, pattern(SEED, HOT, WORD), "what the CPU reads");
            }
            CpuWrite => area.set_word(HOT, WORD, VALUE),
            VmRead => vm_read(world)?,
            Vmsplice => return vmsplice(world, acted),
            OtherToDevice => {
                accounted(&world.other.migrate(abi::TO_DEVICE, area.addr(), HUGE)?)?;
            }
            OtherToSystem => {
                accounted(&world.other.migrate(abi::TO_SYSTEM, area.addr(), HUGE)?)?;
            }
            DeviceRead => {
                let data = world.other.read(area.page(HOT), 1).context("READ")?;
                acted();
                return verify_bytes(SEED, HOT, &data);
            }
            DeviceWrite => {
                let data = pattern_bytes(SEED_OF_DEVICE, HOT, 1);
                world.other.write(area.page(HOT), &data).context("WRITE")?;
            }
            Release => match world.other.command(abi::RELEASE, 0, 0, 1) {
                Ok(_) | Err(Errno::EBUSY) => {}
                Err(errno) => bail!("RELEASE: {errno}"),
            },
            CloseOther => {
                let bystander = world.bystander.lock().ok().and_then(|mut b| b.take());
                let (file, own) = bystander.context("no bystander")?;
                drop(file);
                acted();
                return own.verify(SEED);
            }
            CloseSame => world.close()?,
            // Both may fail, if there is nothing that they can do.
            Collapse => println!("MADV_COLLAPSE: {:?}", area.collapse()),
            Pageout => println!("MADV_PAGEOUT: {:?}", area.advise(MmapAdvise::MADV_PAGEOUT)),
        }
        acted();
        Ok(())
    }
}

fn mremap(world: &World, offset: usize, flags: libc::c_int) -> Result<()> {
    let flags = flags | libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let (area, to) = (&world.area, world.target.addr() + offset);
    // SAFETY: both ranges belong to this process, and the pages of the target were never used.
    let at = unsafe { libc::mremap(area.addr() as *mut _, area.size(), area.size(), flags, to) };
    ensure!(at != libc::MAP_FAILED, "mremap: {}", Errno::last());
    check_eq!(at as usize, to, "where it was moved to");
    Ok(())
}

fn fork(world: &World, acted: &dyn Fn()) -> Result<()> {
    // SAFETY: the child only reads memory and ends; it takes no lock.
    match unsafe { unistd::fork() }.context("fork")? {
        ForkResult::Child => {
            let good = world.area.verify(SEED).is_ok();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(!good)) }
        }
        ForkResult::Parent { child } => {
            acted();
            let status = waitpid(child, None)?;
            ensure!(
                matches!(status, WaitStatus::Exited(_, 0)),
                "the child saw other data: {status:?}"
            );
            Ok(())
        }
    }
}

fn vm_read(world: &World) -> Result<()> {
    let mut data = vec![0u8; PAGE_SIZE];
    let vector = |base: *mut libc::c_void| libc::iovec {
        iov_base: base,
        iov_len: PAGE_SIZE,
    };
    let local = vector(data.as_mut_ptr().cast());
    let remote = vector(world.area.page(HOT) as *mut _);
    let pid = unistd::getpid().as_raw();
    // SAFETY: `local` has room for a page. If the kernel cannot read the page, the call fails.
    let read = unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) };
    let read = Errno::result(read).context("process_vm_readv")?;
    check_eq!(read as usize, PAGE_SIZE, "bytes read by process_vm_readv");
    verify_bytes(SEED, HOT, &data)
}

fn vmsplice(world: &World, acted: &dyn Fn()) -> Result<()> {
    let (mut read, write): (File, File) = pipe()?;
    let page = libc::iovec {
        iov_base: ptr::with_exposed_provenance_mut(world.area.page(HOT)),
        iov_len: PAGE_SIZE,
    };
    // SAFETY: the pipe holds a reference on the page, to which nothing is written before the pipe is read.
    let spliced = unsafe { libc::vmsplice(write.as_raw_fd(), &page, 1, 0) };
    let spliced = Errno::result(spliced).context("vmsplice")?;
    acted();
    check_eq!(spliced as usize, PAGE_SIZE, "bytes spliced");
    let mut data = vec![0u8; PAGE_SIZE];
    read.read_exact(&mut data).context("read")?;
    verify_bytes(SEED, HOT, &data)
}
