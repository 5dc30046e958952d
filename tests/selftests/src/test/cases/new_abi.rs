// SPDX-License-Identifier: GPL-2.0

//! The ioctls of rust_dmirror: invalid arguments.

use anyhow::{ensure, Result};
use nix::{errno::Errno, sys::mman::ProtFlags};

use crate::{
    abi::{self, CopyTime, Inject, Migrate, Page, Point, Stats},
    area::Area,
    check_eq,
    device::{migrate_argument, Argument, Device, PAGE_SIZE},
    proc::pagemap,
    test::{
        case::{Case, Ctx, NEW_ABI},
        cases::bad_input::shared_memory,
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "new.version",
        "another version of the ABI, or reserved members set: EINVAL",
        NEW_ABI,
        version,
    ),
    Case::new(
        "new.migrate_arguments",
        "MIGRATE: bad directions, addresses, counts, pointers",
        NEW_ABI,
        migrate_arguments,
    ),
    Case::new(
        "new.migrate_hole",
        "MIGRATE: what moved before an unmapped page is reported or undone",
        NEW_ABI,
        migrate_hole,
    ),
    Case::new(
        "new.migrate_shared_file",
        "MIGRATE: shared file pages are refused, counted, and stay",
        NEW_ABI,
        migrate_shared_file,
    ),
    Case::new(
        "new.inject_arguments",
        "INJECT: unknown points, and arming all at once: EINVAL",
        NEW_ABI,
        inject_arguments,
    ),
    Case::new(
        "new.out_members",
        "what the caller leaves in (out) members never comes back as an answer",
        NEW_ABI,
        out_members,
    ),
    Case::new(
        "new.copy",
        "COPY: bad versions, kinds, counts, pointers are refused; others take time",
        NEW_ABI,
        copy,
    ),
];

fn expect<T>(what: &str, result: Result<T, Errno>, errno: Errno) -> Result<()> {
    check_eq!(result.err(), Some(errno), "{what}");
    Ok(())
}

fn version(ctx: &Ctx) -> Result<()> {
    let dev = &ctx.dev;
    let area = Area::filled_small(1, 90)?;
    let migrate = migrate_argument(abi::TO_DEVICE, area.addr(), 1);
    for version in [0, 2, u32::MAX] {
        let mut bad = Migrate { version, ..migrate };
        expect(
            "MIGRATE, version",
            dev.call(abi::MIGRATE, &mut bad),
            Errno::EINVAL,
        )?;
        let mut bad = Inject {
            version,
            point: Point::Copy as u32,
            ..Inject::default()
        };
        expect(
            "INJECT, version",
            dev.call(abi::INJECT, &mut bad),
            Errno::EINVAL,
        )?;
        let mut bad = Page {
            version,
            addr: area.addr() as u64,
            ..Page::default()
        };
        expect(
            "PAGE, version",
            dev.call(abi::PAGE, &mut bad),
            Errno::EINVAL,
        )?;
        let mut bad = Stats {
            version,
            ..Stats::default()
        };
        expect(
            "STATS, version",
            dev.call(abi::STATS, &mut bad),
            Errno::EINVAL,
        )?;
    }
    for index in 0..4 {
        let mut bad = migrate;
        bad.reserved[index] = 1;
        expect(
            "MIGRATE, reserved",
            dev.call(abi::MIGRATE, &mut bad),
            Errno::EINVAL,
        )?;
        let mut bad = Stats {
            version: abi::ABI_VERSION,
            ..Stats::default()
        };
        bad.reserved[index] = 1;
        expect(
            "STATS, reserved",
            dev.call(abi::STATS, &mut bad),
            Errno::EINVAL,
        )?;
    }
    for index in 0..2 {
        let mut bad = Inject {
            version: abi::ABI_VERSION,
            point: Point::Copy as u32,
            ..Inject::default()
        };
        bad.reserved[index] = 1;
        expect(
            "INJECT, reserved",
            dev.call(abi::INJECT, &mut bad),
            Errno::EINVAL,
        )?;
        let mut bad = Page {
            version: abi::ABI_VERSION,
            addr: area.addr() as u64,
            ..Page::default()
        };
        bad.reserved[index] = 1;
        expect(
            "PAGE, reserved",
            dev.call(abi::PAGE, &mut bad),
            Errno::EINVAL,
        )?;
    }
    area.verify(90)
}

fn migrate_arguments(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(4, 91)?;
    let dev = &ctx.dev;
    for direction in [0, 3, u32::MAX] {
        expect(
            "direction",
            dev.migrate(direction, area.addr(), 4),
            Errno::EINVAL,
        )?;
    }
    for direction in [abi::TO_DEVICE, abi::TO_SYSTEM] {
        for (addr, npages) in [
            (area.addr() + 8, 1),
            (area.addr(), 0),
            (area.addr(), usize::MAX),
            (area.addr(), (1 << 52) + 1),
            (area.addr(), 1 << 51),
            (area.addr(), 1 << 34),
            (0xffff_8880_0000_0000, 1),
            (usize::MAX - PAGE_SIZE + 1, 1),
            (0, 1),
        ] {
            let what = format!("address {addr:#x}, {npages} pages");
            expect(&what, dev.migrate(direction, addr, npages), Errno::EINVAL)?;
        }
        area.protect(ProtFlags::PROT_NONE)?;
        expect(
            "PROT_NONE",
            dev.migrate(direction, area.addr(), 4),
            Errno::EINVAL,
        )?;
        area.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?;
    }
    for code in [abi::MIGRATE, abi::INJECT, abi::PAGE, abi::STATS] {
        expect("null argument", dev.call_raw(code, 0), Errno::EFAULT)?;
    }
    let mut bad = migrate_argument(abi::TO_DEVICE, area.addr(), 4);
    bad.ptr = 0xffff_8880_0000_0000;
    expect("pointer", dev.call(abi::MIGRATE, &mut bad), Errno::EFAULT)?;
    let bad = Page {
        version: abi::ABI_VERSION,
        addr: area.addr() as u64 + 1,
        ..Page::default()
    };
    expect(
        "PAGE, unaligned",
        dev.call(abi::PAGE, &mut { bad }),
        Errno::EINVAL,
    )?;
    area.verify(91)
}

fn migrate_hole(ctx: &Ctx) -> Result<()> {
    let area = Area::filled_small(16, 92)?;
    area.unmap(9, 1)?;
    let mut argument = migrate_argument(abi::TO_DEVICE, area.addr(), 16);
    expect(
        "unmapped page",
        ctx.dev.call(abi::MIGRATE, &mut argument),
        Errno::EINVAL,
    )?;
    let moved = pagemap::of(area.addr(), 16)?
        .iter()
        .filter(|e| e.swap())
        .count();
    ensure!(
        moved == 0 || moved as u64 == argument.moved(),
        "{moved} pages moved, {} reported",
        argument.moved()
    );
    area.verify_pages(92, 0, 9)?;
    area.verify_pages(92, 10, 6)
}

fn migrate_shared_file(ctx: &Ctx) -> Result<()> {
    let area = shared_memory(16, 93)?;
    let result = ctx.migrate_all(abi::TO_DEVICE, &area)?;
    check_eq!(result.moved(), 0, "pages moved");
    check_eq!(result.refused.iter().sum::<u64>(), 16, "pages refused");
    area.verify(93)
}

fn inject_arguments(ctx: &Ctx) -> Result<()> {
    for point in [abi::INJECT_POINTS, abi::INJECT_POINTS + 1, u32::MAX] {
        let mut bad = Inject {
            version: abi::ABI_VERSION,
            point,
            times: 1,
            ..Inject::default()
        };
        expect(
            "unknown point",
            ctx.dev.call(abi::INJECT, &mut bad),
            Errno::EINVAL,
        )?;
    }
    expect(
        "all points armed",
        ctx.dev.inject(Point::All, 0, 1),
        Errno::EINVAL,
    )
}

/// What is left of an argument after a call with `left` in its (out) members.
fn after<T: Argument>(dev: &Device, code: u32, mut left: T) -> (Result<(), Errno>, T) {
    (dev.call(code, &mut left), left)
}

fn out_members(ctx: &Ctx) -> Result<()> {
    const LEFT: u64 = u64::MAX;
    let dev = &ctx.dev;
    let area = Area::filled_small(4, 95)?;

    let fresh = migrate_argument(abi::TO_DEVICE, area.addr(), 4);
    let left = Migrate {
        collected: LEFT,
        whole: LEFT,
        split: LEFT,
        small: LEFT,
        split_refused: LEFT,
        refused: [LEFT; 4],
        empty: LEFT,
        retries: LEFT,
        read_back: LEFT,
        ns_setup: LEFT,
        ns_copy: LEFT,
        ns_pages: LEFT,
        ns_finalize: LEFT,
        ns_readback: LEFT,
        ..fresh
    };
    let (done, answer) = after(dev, abi::MIGRATE, left);
    check_eq!(done, Ok(()), "MIGRATE");
    check_eq!(answer.moved(), 4, "pages moved");
    check_eq!(
        (answer.read_back, answer.ns_readback),
        (0, 0),
        "what was read back to nowhere, and how long that took"
    );
    let same = |what: &str, (done, answer): (_, Migrate), fresh: Migrate| -> Result<()> {
        check_eq!(done, Err(Errno::EINVAL), "{what}");
        check_eq!(format!("{answer:?}"), format!("{fresh:?}"), "{what}");
        Ok(())
    };
    for (what, version, direction) in [("version", 2, 1), ("direction", 1, 3)] {
        let bad = |argument| Migrate {
            version,
            direction,
            ..argument
        };
        same(what, after(dev, abi::MIGRATE, bad(left)), bad(fresh))?;
    }

    let fresh = Inject {
        version: abi::ABI_VERSION,
        ..Inject::default()
    };
    let left = Inject {
        hits: LEFT,
        ..fresh
    };
    let (done, answer) = after(dev, abi::INJECT, left);
    check_eq!((done, answer.hits), (Ok(()), 0), "INJECT, all points");
    let bad = Inject { version: 2, ..left };
    let (done, answer) = after(dev, abi::INJECT, bad);
    check_eq!(
        (done, answer.hits),
        (Err(Errno::EINVAL), 0),
        "INJECT, version"
    );

    let hole = Area::small(1)?;
    let barred = Area::filled_small(1, 96)?;
    barred.protect(ProtFlags::PROT_NONE)?;
    for (area, where_) in [(&hole, abi::NOWHERE), (&barred, abi::UNREADABLE)] {
        let fresh = Page {
            version: abi::ABI_VERSION,
            addr: area.addr() as u64,
            ..Page::default()
        };
        let left = Page {
            where_: u32::MAX,
            pfn: LEFT,
            order: u32::MAX,
            map_order: u32::MAX,
            refs: u32::MAX,
            expected: u32::MAX,
            mapcount: u32::MAX,
            flags: u32::MAX,
            ..fresh
        };
        let (done, answer) = after(dev, abi::PAGE, left);
        let wanted = Page { where_, ..fresh };
        check_eq!(done, Ok(()), "PAGE");
        check_eq!(format!("{answer:?}"), format!("{wanted:?}"), "PAGE");
    }

    let left = Stats {
        version: 2,
        chunks: u32::MAX,
        stuck: LEFT,
        ..Stats::default()
    };
    let (done, answer) = after(dev, abi::STATS, left);
    let wanted = Stats {
        version: 2,
        ..Stats::default()
    };
    check_eq!((done, answer), (Err(Errno::EINVAL), wanted), "STATS");

    let left = CopyTime {
        version: abi::ABI_VERSION,
        kind: 0,
        ns: LEFT,
        ..CopyTime::default()
    };
    let (done, answer) = after(dev, abi::COPY, left);
    check_eq!((done, answer.ns), (Err(Errno::EINVAL), 0), "COPY, kind");
    area.verify(95)
}

fn copy(ctx: &Ctx) -> Result<()> {
    let dev = &ctx.dev;
    let area = Area::filled_small(abi::COPY_MOST, 94)?;
    let good = CopyTime {
        version: abi::ABI_VERSION,
        kind: abi::COPY_FROM_USER,
        ptr: area.addr() as u64,
        npages: 1,
        ..CopyTime::default()
    };
    let mut bad = Vec::new();
    bad.extend([0, 2, u32::MAX].map(|version| CopyTime { version, ..good }));
    let cold = abi::COPY_COLD;
    bad.extend([0, 4, cold, cold | 4, 0x201, u32::MAX].map(|kind| CopyTime { kind, ..good }));
    bad.extend([0, 513, u64::MAX].map(|npages| CopyTime { npages, ..good }));
    bad.extend((0..4).map(|index| {
        let mut bad = good;
        bad.reserved[index] = 1;
        bad
    }));
    // There is nothing of the user's in it.
    bad.push(CopyTime {
        kind: abi::COPY_PAGES,
        ..good
    });
    for mut bad in bad {
        let what = format!("{bad:?}");
        expect(&what, dev.call(abi::COPY, &mut bad), Errno::EINVAL)?;
    }
    for kind in [
        abi::COPY_TO_USER,
        abi::COPY_FROM_USER,
        cold | abi::COPY_TO_USER,
    ] {
        for ptr in [0, 0xffff_8880_0000_0000] {
            let what = format!("kind {kind}, pointer {ptr:#x}");
            expect(&what, dev.copy(kind, ptr, 1), Errno::EFAULT)?;
        }
    }
    expect("null argument", dev.call_raw(abi::COPY, 0), Errno::EFAULT)?;
    let mut to = vec![0xff_u8; abi::COPY_MOST * PAGE_SIZE];
    for npages in [1, abi::COPY_MOST] {
        for (kind, ptr) in [
            (abi::COPY_PAGES, 0),
            (abi::COPY_FROM_USER, area.addr()),
            (abi::COPY_TO_USER, to.as_mut_ptr() as usize),
        ] {
            for kind in [kind, cold | kind] {
                let ns = dev.copy(kind, ptr, npages)?;
                // No memory is faster than 200 bytes in a nanosecond.
                let least = 20 * npages as u64;
                ensure!(ns > least, "kind {kind:#x}, {npages} pages: {ns} ns");
            }
        }
        let (written, rest) = to.split_at(npages * PAGE_SIZE);
        ensure!(written.iter().all(|byte| *byte == 0), "not all was written");
        ensure!(
            rest.iter().all(|byte| *byte == 0xff),
            "too much was written"
        );
    }
    area.verify(94)
}
