// SPDX-License-Identifier: GPL-2.0

//! Untouched memory: the device gets huge pages where a CPU would get them, and nowhere else.

use std::{fs::File, io::Write, os::fd::AsRawFd};

use anyhow::{ensure, Context, Result};
use nix::{
    errno::Errno,
    libc::{self, c_ulong},
    sys::mman::{MmapAdvise, ProtFlags},
};

use crate::{
    abi::{self, Migrate},
    area::{Area, HUGE},
    check_eq,
    device::{Device, PAGE_SIZE},
    proc::{
        self,
        cgroup::Group,
        pagemap, smaps,
        sysfs::{Settings, THP},
    },
    test::{
        case::{Case, Ctx, NEW_ABI},
        check::{all_at, Place},
        child::{pipe, Peer},
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "thp_allowed.yes",
        "untouched memory, and a huge zero page: a huge page",
        NEW_ABI,
        yes,
    ),
    Case::new(
        "thp_allowed.nohugepage",
        "MADV_NOHUGEPAGE, untouched or with a huge zero page: small pages, also back",
        NEW_ABI,
        nohugepage,
    ),
    Case::new(
        "thp_allowed.existing",
        "a huge page that is there when MADV_NOHUGEPAGE comes stays huge, both directions",
        NEW_ABI,
        existing,
    ),
    Case::new(
        "thp_allowed.prctl",
        "PR_SET_THP_DISABLE, for all memory or for what was not advised",
        NEW_ABI,
        prctl,
    ),
    Case::new(
        "thp_allowed.sysfs",
        "each setting of the sizes' files and of the one for all, with and without advice",
        NEW_ABI,
        sysfs,
    ),
    Case::new(
        "thp_allowed.no_zero_page",
        "the same where reads do not make huge zero pages",
        NEW_ABI,
        no_zero_page,
    ),
    Case::new(
        "thp_allowed.guard",
        "guard regions among untouched and among filled pages stay what they are",
        NEW_ABI,
        guard,
    ),
    Case::new(
        "thp_allowed.locked",
        "locked memory that is filled on fault: what is locked is what was",
        NEW_ABI,
        locked,
    ),
    Case::new(
        "thp_allowed.cgroup_limit",
        "a cgroup at its limit: nothing is made, nobody is killed, and the answer says so",
        NEW_ABI,
        cgroup_limit,
    ),
    Case::new(
        "thp_allowed.cgroup_limit_small",
        "the same with small pages, behind which there is memory already",
        NEW_ABI,
        cgroup_limit_small,
    ),
    Case::new(
        "thp_allowed.cgroup_limit_of_another",
        "the same where somebody of another cgroup asks",
        NEW_ABI,
        cgroup_limit_of_another,
    ),
];

const ALL: u64 = HUGE as u64;
const RW: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

/// Moves untouched memory, which must be huge there and back, or must not.
fn made(ctx: &Ctx, area: &Area, huge: bool) -> Result<Migrate> {
    let result = ctx.migrate_all(abi::TO_DEVICE, area)?;
    let place = match huge {
        true => Place::DeviceHuge,
        false => Place::DeviceSmall,
    };
    check_eq!(result.moved(), ALL, "pages moved");
    check_eq!(
        result.whole,
        if huge { ALL } else { 0 },
        "pages moved whole"
    );
    all_at(&ctx.dev, ctx.driver, area, place)?;
    for page in [0, 1, 100, HUGE - 1] {
        check_eq!(area.word(page, 3), 0, "a word of page {page}");
    }
    if !huge {
        area.fill(440);
        check_eq!(
            smaps::of(area.addr(), area.size())?.anon_huge,
            0,
            "huge pages made afterwards"
        );
        area.verify(440)?;
    }
    Ok(result)
}

fn yes(ctx: &Ctx) -> Result<()> {
    made(ctx, &Area::huge(1)?, true)?;
    let area = Area::huge(1)?;
    area.word(77, 0);
    made(ctx, &area, true)?;
    Ok(())
}

fn nohugepage(ctx: &Ctx) -> Result<()> {
    made(ctx, &Area::small(HUGE)?, false)?;
    let area = Area::huge(1)?;
    // The huge zero page.
    area.word(77, 0);
    area.advise(MmapAdvise::MADV_NOHUGEPAGE)?;
    made(ctx, &area, false)?;
    Ok(())
}

fn existing(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 441)?;
    area.advise(MmapAdvise::MADV_NOHUGEPAGE)?;
    for (direction, place) in [
        (abi::TO_DEVICE, Place::DeviceHuge),
        (abi::TO_SYSTEM, Place::SystemHuge),
    ] {
        let result = ctx.migrate_all(direction, &area)?;
        check_eq!(result.whole, ALL, "pages moved whole");
        all_at(&ctx.dev, ctx.driver, &area, place)?;
    }
    area.verify(441)
}

/// Memory with no advice.
fn plain() -> Result<Area> {
    let area = Area::of_kind(HUGE, libc::MAP_PRIVATE).context("mmap")?;
    area.protect(RW)?;
    Ok(area)
}

const EXCEPT_ADVISED: c_ulong = 1 << 1;

fn thp_disable(on: c_ulong, flags: c_ulong) -> Result<()> {
    const NONE: c_ulong = 0;
    // SAFETY: no memory is passed.
    let done = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, flags, NONE, NONE) };
    Errno::result(done).context("PR_SET_THP_DISABLE")?;
    Ok(())
}

fn prctl(ctx: &Ctx) -> Result<()> {
    made(ctx, &plain()?, true)?;
    thp_disable(1, 0)?;
    made(ctx, &plain()?, false)?;
    made(ctx, &Area::huge(1)?, false)?;
    thp_disable(1, EXCEPT_ADVISED)?;
    made(ctx, &plain()?, false)?;
    made(ctx, &Area::huge(1)?, true)?;
    thp_disable(0, 0)?;
    made(ctx, &plain()?, true)?;
    Ok(())
}

fn sysfs(ctx: &Ctx) -> Result<()> {
    const SIZE: &str = "hugepages-2048kB/enabled";
    // For all sizes, for this one, and then whether with no advice, and with.
    let table = [
        ("always", "inherit", true, true),
        ("madvise", "inherit", false, true),
        ("never", "inherit", false, false),
        ("never", "always", true, true),
        ("never", "madvise", false, true),
        ("always", "never", false, false),
        ("always", "madvise", false, true),
    ];
    for (all, size, plain_huge, advised_huge) in table {
        println!("enabled {all}, 2048 kB {size}:");
        let mut settings = Settings::default();
        settings.set(THP, "enabled", all)?;
        settings.set(THP, SIZE, size)?;
        made(ctx, &plain()?, plain_huge)?;
        made(ctx, &Area::huge(1)?, advised_huge)?;
        made(ctx, &Area::small(HUGE)?, false)?;
    }
    Ok(())
}

fn no_zero_page(ctx: &Ctx) -> Result<()> {
    let mut settings = Settings::default();
    settings.set(THP, "use_zero_page", "0")?;
    made(ctx, &Area::huge(1)?, true)?;
    made(ctx, &Area::small(HUGE)?, false)?;
    settings.set(THP, "enabled", "never")?;
    made(ctx, &Area::huge(1)?, false)?;
    Ok(())
}

const MADV_GUARD_INSTALL: i32 = 102;

/// Whether the kernel finds no memory to read there; the CPU would get a signal.
fn is_guarded(pipe: &mut File, area: &Area, page: usize) -> Result<bool> {
    let addr = area.page(page) as *const _;
    // SAFETY: the kernel looks whether there is memory.
    match Errno::result(unsafe { libc::write(pipe.as_raw_fd(), addr, 1) }) {
        Ok(_) => Ok(false),
        Err(Errno::EFAULT) => Ok(true),
        Err(error) => Err(error).context("write"),
    }
}

fn guard(ctx: &Ctx) -> Result<()> {
    const FIRST: usize = 100;
    const GUARDS: usize = 8;
    let (_read, mut write) = pipe()?;
    write.flush()?;
    for is_filled in [false, true] {
        let area = match is_filled {
            false => Area::huge(1)?,
            true => Area::filled(1, 442)?,
        };
        area.advise_pages(FIRST, GUARDS, MADV_GUARD_INSTALL)
            .context("MADV_GUARD_INSTALL")?;
        for direction in [abi::TO_DEVICE, abi::TO_SYSTEM] {
            let result = ctx.migrate_all(direction, &area)?;
            let moved = ALL - GUARDS as u64;
            check_eq!(result.moved(), moved, "pages moved");
            for page in FIRST..FIRST + GUARDS {
                ensure!(
                    is_guarded(&mut write, &area, page)?,
                    "page {page}: no guard"
                );
            }
        }
        for page in [FIRST - 1, FIRST + GUARDS] {
            ensure!(
                !is_guarded(&mut write, &area, page)?,
                "page {page}: a guard where there was none"
            );
        }
        if is_filled {
            area.verify_pages(442, 0, FIRST)?;
            area.verify_pages(442, FIRST + GUARDS, HUGE - FIRST - GUARDS)?;
        }
    }
    Ok(())
}

const MLOCK_ONFAULT: libc::c_uint = 1;

fn locked(ctx: &Ctx) -> Result<()> {
    const KPF_MLOCKED: u64 = 1 << 33;
    let area = Area::huge(1)?;
    // SAFETY: this area's own pages.
    let done = unsafe { libc::mlock2(area.addr() as *const _, area.size(), MLOCK_ONFAULT) };
    Errno::result(done).context("mlock2")?;
    let before = proc::status("VmLck")?;
    check_eq!(before, HUGE, "pages locked");
    made(ctx, &area, true)?;
    area.fill(443);
    check_eq!(proc::status("VmLck")?, before, "pages locked afterwards");
    ctx.go(abi::TO_DEVICE, area.addr(), HUGE)?;
    ctx.go(abi::TO_SYSTEM, area.addr(), HUGE)?;
    let entry = pagemap::of(area.addr(), 1)?[0];
    let pfn = entry.pfn().context("no page frame number")?;
    println!(
        "flags {:#x}, mlocked is {KPF_MLOCKED:#x}",
        pagemap::flags(pfn)?
    );
    area.verify(443)
}

/// Less than one more huge page.
const ROOM: usize = 64 * PAGE_SIZE;

fn cgroup_limit(_: &Ctx) -> Result<()> {
    Device::trim(0)?;
    let group = Group::enter()?;
    let dev = Device::open(0)?;
    let areas = [Area::huge(1)?, Area::huge(1)?];
    let kills = group.events("oom_kill")?;
    group.limit(Some(group.charged()? + ROOM))?;
    let results = areas
        .each_ref()
        .map(|area| dev.migrate(abi::TO_DEVICE, area.addr(), HUGE));
    group.limit(None)?;
    for result in results {
        let result = result.context("MIGRATE")?;
        println!("{}", result.summary());
        check_eq!(result.accounted(), result.npages, "pages accounted for");
        check_eq!(result.moved(), 0, "pages made");
        check_eq!(
            result.refused[abi::REFUSED_NO_MEMORY] + result.refused[abi::REFUSED_CORE],
            ALL,
            "pages refused"
        );
    }
    check_eq!(group.events("oom_kill")?, kills, "killed in the cgroup");
    for area in &areas {
        let result = dev.migrate(abi::TO_DEVICE, area.addr(), HUGE)?;
        check_eq!(result.moved(), ALL, "pages made once there is memory");
    }
    Ok(())
}

fn cgroup_limit_small(_: &Ctx) -> Result<()> {
    const PAGES: usize = 256;
    const FIT: usize = 16;
    Device::trim(0)?;
    let group = Group::enter()?;
    let dev = Device::open(0)?;
    // What stands behind one page stands behind its neighbours, too.
    let first = Area::filled_small(1, 444)?;
    check_eq!(
        dev.migrate(abi::TO_DEVICE, first.addr(), 1)?.moved(),
        1,
        "pages moved"
    );
    let area = Area::small(PAGES)?;
    let kills = group.events("oom_kill")?;
    group.limit(Some(group.charged()? + FIT * PAGE_SIZE))?;
    let result = dev.migrate(abi::TO_DEVICE, area.addr(), PAGES);
    group.limit(None)?;
    let result = result.context("MIGRATE")?;
    println!("{}", result.summary());
    check_eq!(result.accounted(), result.npages, "pages accounted for");
    ensure!(result.moved() > 0, "nothing was made");
    check_eq!(
        result.refused[abi::REFUSED_NO_MEMORY],
        PAGES as u64 - result.moved(),
        "pages refused"
    );
    ensure!(result.moved() < PAGES as u64, "the limit does not hold");
    check_eq!(group.events("oom_kill")?, kills, "killed in the cgroup");
    first.verify(444)
}

/// The fill of holes is charged to whom the memory is of.
fn cgroup_limit_of_another(_: &Ctx) -> Result<()> {
    const PAGES: usize = 256;
    const FIT: usize = 16;
    Device::trim(0)?;
    let group = Group::enter()?;
    let dev = Device::open(0)?;
    let first = Area::filled_small(1, 445)?;
    check_eq!(
        dev.migrate(abi::TO_DEVICE, first.addr(), 1)?.moved(),
        1,
        "pages moved"
    );
    let area = Area::small(PAGES)?;
    let mut peer = Peer::start(|end| {
        Group::leave()?;
        end.next()?;
        let result = dev
            .migrate(abi::TO_DEVICE, area.addr(), PAGES)
            .context("MIGRATE")?;
        println!("{}", result.summary());
        ensure!(
            result.moved() > 0 && result.moved() < PAGES as u64,
            "{} pages were made within a limit of {FIT}",
            result.moved()
        );
        Ok(())
    })?;
    let kills = group.events("oom_kill")?;
    group.limit(Some(group.charged()? + FIT * PAGE_SIZE))?;
    peer.step();
    group.limit(None)?;
    peer.finish()?;
    check_eq!(group.events("oom_kill")?, kills, "killed in the cgroup");
    first.verify(445)
}
