// SPDX-License-Identifier: GPL-2.0

//! Ownership of pages and files when processes exec or exit, or try to unload the driver.

use std::{
    ffi::CString,
    fs,
    io::{Read, Write},
};

use anyhow::{bail, ensure, Context, Result};
use nix::{
    errno::Errno,
    fcntl::{fcntl, FcntlArg, FdFlag},
    kmod::{delete_module, DeleteModuleFlags},
};

use crate::{
    abi,
    area::{Area, HUGE},
    check_eq,
    device::Device,
    test::{
        case::{Case, Ctx, NEW_ABI},
        check::{all_at, Place},
        child::{pipe, Peer},
    },
};

pub const CASES: &[Case] = &[
    Case::new(
        "own.exec",
        "exec with pages on the device and the file kept open: the memory comes back at once",
        NEW_ABI,
        exec,
    ),
    Case::new(
        "own.exit_in_child_memory",
        "pages that a child took from its dead parent survive, and come home at the close",
        NEW_ABI,
        orphan,
    ),
    Case::new(
        "own.two_files",
        "two files of one process: each close brings its own pages home, and no others",
        NEW_ABI,
        two_files,
    ),
    Case::new(
        "own.rmmod_refused",
        "the module cannot go while a file is open",
        NEW_ABI,
        rmmod_refused,
    ),
];

/// The new program keeps the file, whose mm no longer exists, until its standard input ends.
fn exec(ctx: &Ctx) -> Result<()> {
    let before = ctx.dev.stats()?.pages_used;
    let (go, mut keep) = pipe()?;
    let (mut ready, told) = pipe()?;
    // Its input ends with this one.
    fcntl(&keep, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let peer = Peer::start(|end| {
        end.running()?;
        let area = Area::filled(2, 320)?;
        let dev = Device::open(0)?;
        dev.migrate(abi::TO_DEVICE, area.addr(), area.npages())?;
        fcntl(dev.file(), FcntlArg::F_SETFD(FdFlag::empty()))?;
        nix::unistd::dup2_stdin(&go)?;
        nix::unistd::dup2_stdout(&told)?;
        let arguments =
            ["cat", "/proc/self/comm", "-"].map(|word| CString::new(word).unwrap_or_default());
        nix::unistd::execv(c"/bin/cat", &arguments).context("exec")?;
        bail!("exec came back")
    })?;
    drop((go, told));
    // What `cat` says of itself: by then the old mm is gone.
    let mut name = [0; 4];
    ready
        .read_exact(&mut name)
        .context("nothing from the new program")?;
    check_eq!(&name, b"cat\n", "the new program's name");
    check_eq!(
        ctx.dev.stats()?.pages_used,
        before,
        "device pages in use after the exec, while the file is open"
    );
    keep.write_all(b"x")?;
    drop(keep);
    peer.finish()
}

/// The parent migrates, forks and exits. Its child has the pages, and the last copy of the file.
fn orphan(ctx: &Ctx) -> Result<()> {
    let before = ctx.dev.stats()?.pages_used;
    let (mut verdict, mut report) = pipe()?;
    let parent = Peer::start(|_| {
        let area = Area::filled(1, 321)?;
        let dev = Device::open(0)?;
        dev.migrate(abi::TO_DEVICE, area.addr(), HUGE)?;
        let opener = nix::unistd::getpid();
        let _child = Peer::start(|end| {
            end.running()?;
            while nix::unistd::getppid() == opener {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let checked = (|| {
                area.verify_pages(321, 0, 1)?;
                drop(dev);
                area.verify(321)
            })();
            let text = checked.map_or_else(|error| format!("{error:#}"), |()| "fine".into());
            Ok(report.write_all(text.as_bytes())?)
        })?;
        Ok(())
    })?;
    parent.finish()?;
    drop(report);
    let mut text = String::new();
    verdict.read_to_string(&mut text)?;
    check_eq!(text, "fine", "what the child found");
    check_eq!(ctx.dev.stats()?.pages_used, before, "device pages in use");
    Ok(())
}

fn two_files(ctx: &Ctx) -> Result<()> {
    let areas = [Area::filled(1, 322)?, Area::filled(1, 323)?];
    let files = [Device::open(0)?, Device::open(0)?];
    for (file, area) in files.iter().zip(&areas) {
        file.migrate(abi::TO_DEVICE, area.addr(), HUGE)?;
    }
    let [first, second] = files;
    drop(first);
    all_at(&ctx.dev, ctx.driver, &areas[0], Place::SystemHuge)?;
    all_at(&ctx.dev, ctx.driver, &areas[1], Place::DeviceHuge)?;
    drop(second);
    all_at(&ctx.dev, ctx.driver, &areas[1], Place::SystemHuge)?;
    areas[0].verify(322)?;
    areas[1].verify(323)
}

fn rmmod_refused(ctx: &Ctx) -> Result<()> {
    let area = Area::filled(1, 324)?;
    ctx.to_device(&area, 324)?;
    let modules = fs::read_to_string("/proc/modules")?;
    ensure!(modules.contains("rust_dmirror "), "it is built in");
    let gone = delete_module(c"rust_dmirror", DeleteModuleFlags::O_NONBLOCK);
    check_eq!(gone, Err(Errno::EWOULDBLOCK), "delete_module");
    all_at(&ctx.dev, ctx.driver, &area, Place::DeviceHuge)?;
    area.verify(324)
}
