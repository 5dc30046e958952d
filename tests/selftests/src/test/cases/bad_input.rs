// SPDX-License-Identifier: GPL-2.0

//! The ten ioctls of test_hmm: invalid arguments, and the errors for them.

use anyhow::{ensure, Context, Result};
use nix::{
    errno::Errno,
    sys::{
        memfd::{memfd_create, MFdFlags},
        mman::{MapFlags, ProtFlags},
    },
    unistd::{ftruncate, setuid, Uid},
};

use crate::{
    abi::{self, Cmd},
    area::{Area, HUGE},
    check_eq,
    device::{Device, PAGE_SIZE},
    proc::pagemap,
    test::{
        case::{Case, Ctx, OnC},
        child::{Peer, Skip},
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "bad.range",
        "unaligned addresses, no pages, ranges that wrap: EINVAL",
        OnC::Passes,
        range,
    ),
    Case::new(
        "bad.nothing_is_told",
        "a command that fails tells of no pages",
        OnC::Skip("it leaves what the caller had there"),
        nothing_is_told,
    ),
    Case::new(
        "bad.kernel_address",
        "addresses of the kernel: EINVAL or EFAULT",
        OnC::Passes,
        kernel_address,
    ),
    Case::new(
        "bad.absurd_count",
        "page counts beyond all memory end with an errno, soon",
        OnC::Skip("T12: one vmalloc of all of them, and a report in the log"),
        absurd_count,
    ),
    Case::new(
        "bad.hole_in_range",
        "an unmapped page in the range: EINVAL to migrate, EFAULT to access",
        OnC::Passes,
        hole_in_range,
    ),
    Case::new(
        "bad.prot_none",
        "memory without access: EINVAL to migrate, EFAULT to access",
        OnC::Passes,
        prot_none,
    ),
    Case::new(
        "bad.shared_file",
        "shared file pages stay: ENOENT, nothing moves",
        OnC::Passes,
        shared_file,
    ),
    Case::new(
        "bad.pointer",
        "pointers to nothing: EFAULT",
        OnC::Passes,
        pointer,
    ),
    Case::new(
        "bad.command",
        "ioctls that do not exist: EINVAL",
        OnC::Passes,
        command,
    ),
    Case::new(
        "bad.unprivileged",
        "who may not open the node gets EACCES",
        OnC::Passes,
        unprivileged,
    ),
];

/// The old ioctls that work on a range.
pub const ON_RANGES: [u32; 8] = [
    abi::READ,
    abi::WRITE,
    abi::MIGRATE_TO_DEV,
    abi::MIGRATE_TO_SYS,
    abi::SNAPSHOT,
    abi::EXCLUSIVE,
    abi::CHECK_EXCLUSIVE,
    abi::READ_UNLOCKED,
];
const MIGRATING: [u32; 2] = [abi::MIGRATE_TO_DEV, abi::MIGRATE_TO_SYS];
const ACCESSING: [u32; 4] = [abi::READ, abi::WRITE, abi::READ_UNLOCKED, abi::EXCLUSIVE];

/// The error of an old ioctl, with room for `room` pages of data.
fn error(dev: &Device, code: u32, addr: usize, npages: u64, room: usize) -> Option<Errno> {
    let mut buffer = vec![0u8; room * PAGE_SIZE];
    dev.command(code, addr, buffer.as_mut_ptr() as usize, npages)
        .err()
}

fn range(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(4, 80)?;
    let last = (usize::MAX - PAGE_SIZE + 1, 1);
    for code in ON_RANGES {
        for (addr, npages) in [
            (area.addr() + 1, 1),
            (area.addr() + 2048, 1),
            (area.addr(), 0),
            (area.addr(), u64::MAX),
            (area.addr(), (1 << 52) - 1),
            (usize::MAX - 2 * PAGE_SIZE + 1, 3),
            last,
        ] {
            check_eq!(
                error(&ctx.dev, code, addr, npages, 4),
                Some(Errno::EINVAL),
                "ioctl {code:#x}, address {addr:#x}, {npages} pages"
            );
        }
    }
    area.verify(80)
}

fn kernel_address(ctx: &Ctx) -> Result<()> {
    for addr in [
        0xffff_8880_0000_0000,
        0xffff_ffff_8100_0000,
        0x8000_0000_0000_0000,
    ] {
        for code in ACCESSING.into_iter().chain(MIGRATING) {
            let error = error(&ctx.dev, code, addr, 1, 1);
            ensure!(
                matches!(error, Some(Errno::EINVAL | Errno::EFAULT)),
                "ioctl {code:#x}, address {addr:#x}: {error:?}"
            );
        }
    }
    Ok(())
}

fn absurd_count(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 81)?;
    for npages in [1 << 22, 1 << 34, 1 << 40, 1 << 51] {
        for code in ACCESSING.into_iter().chain(MIGRATING) {
            let error = error(&ctx.dev, code, area.addr(), npages, HUGE);
            ensure!(
                matches!(error, Some(Errno::EINVAL | Errno::EFAULT | Errno::ENOMEM)),
                "ioctl {code:#x}, {npages} pages: {error:?}"
            );
        }
    }
    // WRITE may have written before it failed; the memory must still be there.
    area.fill(81);
    area.verify(81)
}

fn hole_in_range(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(8, 82)?;
    area.unmap(5, 1)?;
    for code in MIGRATING {
        check_eq!(
            error(&ctx.dev, code, area.addr(), 8, 8),
            Some(Errno::EINVAL),
            "ioctl {code:#x}"
        );
    }
    for code in ACCESSING {
        check_eq!(
            error(&ctx.dev, code, area.addr(), 8, 8),
            Some(Errno::EFAULT),
            "ioctl {code:#x}"
        );
    }
    // WRITE has written zeros to what comes before the hole, or nothing at all.
    area.verify_pages(82, 6, 2)?;
    // The hole alone, which is not the beginning of a huge page.
    for code in ACCESSING {
        check_eq!(
            error(&ctx.dev, code, area.page(5), 1, 1),
            Some(Errno::EFAULT),
            "ioctl {code:#x} on the hole"
        );
    }
    Ok(())
}

/// What is told of a command that failed is not what the caller had there.
fn nothing_is_told(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(1, 87)?;
    for code in MIGRATING.into_iter().chain(ACCESSING) {
        let mut cmd = Cmd {
            addr: area.addr() as u64 + 1,
            npages: 1,
            cpages: 7,
            faults: 7,
            ..Cmd::default()
        };
        check_eq!(
            ctx.dev.call(code, &mut cmd).err(),
            Some(Errno::EINVAL),
            "ioctl {code:#x}"
        );
        check_eq!((cmd.cpages, cmd.faults), (0, 0), "ioctl {code:#x}: pages");
    }
    Ok(())
}

fn prot_none(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 83)?;
    area.protect(ProtFlags::PROT_NONE)?;
    for code in MIGRATING {
        check_eq!(
            error(&ctx.dev, code, area.addr(), 512, HUGE),
            Some(Errno::EINVAL),
            "ioctl {code:#x}"
        );
    }
    for code in [abi::READ, abi::READ_UNLOCKED] {
        check_eq!(
            error(&ctx.dev, code, area.addr(), 512, HUGE),
            Some(Errno::EFAULT),
            "ioctl {code:#x}"
        );
    }
    area.protect(ProtFlags::PROT_READ)?;
    area.verify(83)
}

/// Memory of a file that all of its mappings share.
pub fn shared_memory(npages: usize, seed: u64) -> Result<Area> {
    let file = memfd_create(c"dmirror", MFdFlags::empty()).context("memfd")?;
    ftruncate(&file, (npages * PAGE_SIZE) as i64).context("ftruncate")?;
    let area = Area::file(npages, &file, MapFlags::MAP_SHARED)?;
    area.fill(seed);
    Ok(area)
}

fn shared_file(ctx: &Ctx) -> Result<()> {
    let area = shared_memory(16, 84)?;
    check_eq!(
        error(&ctx.dev, abi::MIGRATE_TO_DEV, area.addr(), 16, 16),
        Some(Errno::ENOENT),
        "MIGRATE_TO_DEV"
    );
    for (page, entry) in pagemap::of(area.addr(), 16)?.iter().enumerate() {
        ensure!(!entry.swap(), "page {page} is on the device");
    }
    let data = ctx.dev.read(area.addr(), 16).context("READ")?;
    crate::area::verify_bytes(84, 0, &data)?;
    area.verify(84)
}

fn pointer(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(2, 85)?;
    let nowhere = Area::small(2)?;
    nowhere.protect(ProtFlags::PROT_NONE)?;
    for code in ON_RANGES.into_iter().chain([abi::FLAGS, abi::RELEASE]) {
        for argument in [0, nowhere.addr(), 0xffff_8880_0000_0000] {
            check_eq!(
                ctx.dev.call_raw(code, argument).err(),
                Some(Errno::EFAULT),
                "ioctl {code:#x}, argument at {argument:#x}"
            );
        }
    }
    for code in [abi::READ, abi::WRITE, abi::SNAPSHOT, abi::READ_UNLOCKED] {
        for ptr in [0, nowhere.addr(), 0xffff_8880_0000_0000] {
            check_eq!(
                ctx.dev.command(code, area.addr(), ptr, 2).err(),
                Some(Errno::EFAULT),
                "ioctl {code:#x}, data at {ptr:#x}"
            );
        }
    }
    area.verify(85)
}

fn command(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(1, 86)?;
    let mut cmd = Cmd {
        addr: area.addr() as u64,
        npages: 1,
        ..Cmd::default()
    };
    let other_type = (abi::READ & !0xff00) | (u32::from(b'h') << 8);
    let other_size = (abi::READ & !(0x3fff << 16)) | (8 << 16);
    let other_number = |number| (abi::READ & !0xff) | number;
    for code in [
        other_number(0x0a),
        other_number(0x3f),
        other_number(0x44),
        other_number(0xff),
        other_type,
        other_size,
    ] {
        let argument = &raw mut cmd as usize;
        check_eq!(
            ctx.dev.call_raw(code, argument).err(),
            Some(Errno::EINVAL),
            "ioctl {code:#x}"
        );
    }
    Ok(())
}

fn unprivileged(_: &Ctx) -> Result<()> {
    if !Uid::effective().is_root() {
        return Err(Skip("needs root, to give it up".into()).into());
    }
    let peer = Peer::start(|_| {
        setuid(Uid::from_raw(65534)).context("setuid")?;
        let error = Device::open(0).err().context("the node opens")?;
        let errno = error
            .downcast_ref::<std::io::Error>()
            .and_then(|e| e.raw_os_error());
        check_eq!(errno, Some(Errno::EACCES as i32), "open");
        Ok(())
    })?;
    peer.finish()
}
