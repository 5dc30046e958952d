// SPDX-License-Identifier: GPL-2.0

//! The device's own accesses: it reads and writes through its page table, and faults like a CPU.
//!
//! Data goes through a buffer, because user memory cannot be touched under the table's lock: that
//! could fault, and a fault invalidates. Every loop either gets further or counts.

use crate::{
    device::Device,
    devmem::Chunk,
    file::File,
    layer::mm::{
        hmm::Want,
        lock::check_killed,
        mirror::{
            Access,
            Locked,
            Mapped,
            Seen, //
        },
        HUGE_ORDER,
        HUGE_PAGES, //
    },
    migrate::{
        self,
        Direction,
        Report, //
    },
    range::Pages,
    uapi::{
        self,
        prot, //
    }, //
};
use kernel::{
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// Pages that the buffer takes.
const BUFFER_PAGES: usize = 64;

/// How often in a row an access may find nothing after having faulted everything in.
const TRIES: u32 = 100;

struct Buffer(KVVec<u8>);

impl Buffer {
    fn new(pages: Pages) -> Result<Self> {
        let len = pages.count().min(BUFFER_PAGES) * PAGE_SIZE;
        // Who gets ENOMEM knows; the log need not.
        Ok(Buffer(KVVec::from_elem(0, len, GFP_KERNEL | __GFP_NOWARN)?))
    }

    fn pages(&self) -> usize {
        self.0.len() / PAGE_SIZE
    }

    fn page(&mut self, at: usize) -> &mut [u8] {
        &mut self.0[at * PAGE_SIZE..(at + 1) * PAGE_SIZE]
    }
}

/// Whether a page is memory of this device.
pub fn is_own(device: &Device, page: &Mapped<'_>) -> bool {
    page.device::<Chunk>()
        .is_some_and(|(memory, _)| core::ptr::eq(&**memory.data().core(), &**device.core()))
}

fn read_page(page: &Mapped<'_>, to: &mut [u8]) -> Result {
    match page.device::<Chunk>() {
        Some((memory, offset)) if memory.data().core().is_private() => {
            memory.data().read(offset, to)
        }
        _ => page.read(to),
    }
}

fn write_page(page: &Mapped<'_>, from: &[u8]) -> Result {
    match page.device::<Chunk>() {
        Some((memory, offset)) if memory.data().core().is_private() => {
            memory.data().write(offset, from)
        }
        _ => page.write(from),
    }
}

/// Calls `each` for up to `most` pages from `at` on, until one is not mapped as wanted. Gives the
/// number of pages done.
fn for_mapped(
    locked: &Locked<'_>,
    at: usize,
    most: usize,
    is_wanted: impl Fn(&Mapped<'_>) -> bool,
    mut each: impl FnMut(usize, &Mapped<'_>) -> Result,
) -> Result<usize> {
    for done in 0..most {
        match locked.page(at + (done << PAGE_SHIFT)) {
            Some(page) if is_wanted(&page) => each(done, &page)?,
            _ => return Ok(done),
        }
    }
    Ok(most)
}

/// Faults pages in, as a device would. Does not touch pages that the process has not, beyond that.
fn fault_in(file: &File, pages: Pages, from: usize, want: Want, keep_lock: bool) -> Result {
    for window in pages.windows(from) {
        file.mirror().fill(window, want, keep_lock, |_, _| {})?;
    }
    Ok(())
}

/// The device reads `pages`, and the data goes to user space.
pub fn read(
    file: &File,
    pages: Pages,
    user: UserSlice,
    keep_lock: bool,
    cmd: &mut uapi::Command,
) -> Result {
    let mut to = user.writer();
    let mut buffer = Buffer::new(pages)?;
    let mut at = pages.start();
    let mut tries = 0;
    while at < pages.end() {
        check_killed()?;
        let most = ((pages.end() - at) >> PAGE_SHIFT).min(buffer.pages());
        let done = for_mapped(
            &file.mirror().lock(),
            at,
            most,
            |_| true,
            |i, page| read_page(page, buffer.page(i)),
        )?;
        to.write_slice(&buffer.0[..done * PAGE_SIZE])?;
        at += done << PAGE_SHIFT;
        cmd.cpages += done as u64;
        if done > 0 {
            tries = 0;
            continue;
        }
        tries += 1;
        if tries > TRIES {
            return Err(EBUSY);
        }
        fault_in(file, pages, at, Want::Read, keep_lock)?;
        cmd.faults += 1;
    }
    Ok(())
}

/// The device writes data of user space to `pages`.
pub fn write(file: &File, pages: Pages, user: UserSlice, cmd: &mut uapi::Command) -> Result {
    let mut from = user.reader();
    let mut buffer = Buffer::new(pages)?;
    let mut at = pages.start();
    while at < pages.end() {
        let most = ((pages.end() - at) >> PAGE_SHIFT).min(buffer.pages());
        from.read_slice(&mut buffer.0[..most * PAGE_SIZE])?;
        write_buffer(file, pages, at, most, &mut buffer, cmd)?;
        at += most << PAGE_SHIFT;
    }
    Ok(())
}

fn write_buffer(
    file: &File,
    pages: Pages,
    start: usize,
    most: usize,
    buffer: &mut Buffer,
    cmd: &mut uapi::Command,
) -> Result {
    let (mut written, mut tries) = (0, 0);
    while written < most {
        check_killed()?;
        let at = start + (written << PAGE_SHIFT);
        let done = for_mapped(
            &file.mirror().lock(),
            at,
            most - written,
            |page| page.access() == Access::Write,
            |i, page| write_page(page, buffer.page(written + i)),
        )?;
        written += done;
        cmd.cpages += done as u64;
        if done > 0 {
            tries = 0;
            continue;
        }
        tries += 1;
        if tries > TRIES {
            return Err(EBUSY);
        }
        fault_in(file, pages, at, Want::Write, true)?;
        cmd.faults += 1;
        unshare(file, at)?;
    }
    Ok(())
}

/// A write request for a read-only page of our own private memory is answered without a fault and
/// without write permission (K8). Such a page is shared by fork, or write-protected: it goes back, so
/// that the next fault is one like any other.
fn unshare(file: &File, at: usize) -> Result {
    let is_stuck = file
        .mirror()
        .lock()
        .page(at)
        .is_some_and(|page| page.access() == Access::Read && page.counts().device_private);
    if is_stuck {
        let page = Pages::new(at as u64, 1, usize::MAX)?;
        migrate::migrate(file, page, Direction::ToSystem, &mut Report::default())?;
    }
    Ok(())
}

/// Copies the pages of the range that are on the device to user space, up to the first that is not.
/// Gives their number.
pub fn read_back(file: &File, pages: Pages, user: UserSlice) -> Result<usize> {
    let mut to = user.writer();
    let mut buffer = Buffer::new(pages)?;
    let mut total = 0;
    let mut tries = 0;
    while total < pages.count() {
        check_killed()?;
        let at = pages.start() + (total << PAGE_SHIFT);
        let done = for_mapped(
            &file.mirror().lock(),
            at,
            (pages.count() - total).min(buffer.pages()),
            |page| is_own(file.device(), page),
            |i, page| read_page(page, buffer.page(i)),
        )?;
        to.write_slice(&buffer.0[..done * PAGE_SIZE])?;
        total += done;
        if done > 0 {
            tries = 0;
            continue;
        }
        // Not in the table, or not on the device: look, without faulting it away from there.
        let mut is_there = false;
        if let Some(window) = pages.windows(at).next() {
            file.mirror()
                .fill(window, Want::Look, true, |address, seen| {
                    if address == at {
                        is_there = seen.page().is_some_and(|page| is_own(file.device(), &page));
                    }
                })?;
        }
        tries += 1;
        if !is_there || tries > TRIES {
            break;
        }
    }
    Ok(total)
}

fn describe(device: &Device, seen: &Seen<'_>) -> u8 {
    let pfn = seen.pfn();
    if pfn.is_error() {
        return prot::ERROR;
    }
    let Some(page) = seen.page() else {
        return prot::NONE;
    };
    let counts = page.counts();
    let place = match (counts.device_private, counts.device_coherent) {
        (true, _) if is_own(device, &page) => prot::PRIVATE_LOCAL,
        (true, _) => prot::PRIVATE_REMOTE,
        (_, true) if is_own(device, &page) => prot::COHERENT_LOCAL,
        (_, true) => prot::COHERENT_REMOTE,
        _ if page.is_zero() => prot::ZERO,
        _ => prot::NONE,
    };
    let access = match pfn.writable() {
        true => prot::WRITE,
        false => prot::READ,
    };
    let size = match pfn.map_order() {
        HUGE_ORDER => prot::PMD,
        order if order == 2 * HUGE_ORDER => prot::PUD,
        _ => 0,
    };
    place | access | size
}

/// Tells user space what is mapped, a byte per page, without faulting anything in.
pub fn snapshot(file: &File, pages: Pages, ptr: u64, cmd: &mut uapi::Command) -> Result {
    let ptr = usize::try_from(ptr).map_err(|_| EFAULT)?;
    let mut to = UserSlice::new(UserPtr::from_addr(ptr), pages.count()).writer();
    let mut bytes = KVVec::from_elem(0u8, HUGE_PAGES, GFP_KERNEL)?;
    for window in pages.windows(0) {
        check_killed()?;
        let nr = window.len() >> PAGE_SHIFT;
        file.mirror()
            .fill(window.clone(), Want::Look, true, |address, seen| {
                bytes[(address - window.start) >> PAGE_SHIFT] = describe(file.device(), &seen);
            })?;
        to.write_slice(&bytes[..nr])?;
        cmd.cpages += nr as u64;
    }
    Ok(())
}

/// Makes the pages exclusive to the device, and copies them to user space.
pub fn exclusive(file: &File, pages: Pages, user: UserSlice, cmd: &mut uapi::Command) -> Result {
    let mm = file.mm()?;
    for address in (pages.start()..pages.end()).step_by(PAGE_SIZE) {
        let made = check_killed().and_then(|()| file.mirror().make_exclusive(&mm, address));
        if made.is_err() {
            // All or nothing, as far as the device knows.
            file.mirror().lock().forget(pages.start()..address);
            return made;
        }
    }
    drop(mm);
    let mut to = user.writer();
    let mut buffer = Buffer::new(pages)?;
    while (cmd.cpages as usize) < pages.count() {
        let total = cmd.cpages as usize;
        let done = for_mapped(
            &file.mirror().lock(),
            pages.start() + (total << PAGE_SHIFT),
            (pages.count() - total).min(buffer.pages()),
            |_| true,
            |i, page| read_page(page, buffer.page(i)),
        )?;
        if done == 0 {
            // The CPU took it back already.
            return Err(ENOENT);
        }
        to.write_slice(&buffer.0[..done * PAGE_SIZE])?;
        cmd.cpages += done as u64;
    }
    Ok(())
}

/// Fails with `EPERM` if one of the pages is exclusive to the device.
pub fn check_exclusive(file: &File, pages: Pages) -> Result {
    for window in pages.windows(0) {
        check_killed()?;
        let locked = file.mirror().lock();
        for address in window.step_by(PAGE_SIZE) {
            let page = locked.page(address);
            if page.is_some_and(|page| page.access() == Access::Exclusive) {
                return Err(EPERM);
            }
        }
    }
    Ok(())
}

/// Tells where a page is, and who holds it.
pub fn page(file: &File, page: Pages, arg: &mut uapi::Page) -> Result {
    use uapi::{
        page_flag,
        place, //
    };
    arg.place = place::NOWHERE;
    let range = page.start()..page.end();
    file.mirror().fill(range, Want::Look, true, |_, seen| {
        if seen.pfn().is_error() {
            arg.place = place::UNREADABLE;
            return;
        }
        let Some(page) = seen.page() else {
            return;
        };
        let counts = page.counts();
        arg.place = match (is_own(file.device(), &page), page.is_zero()) {
            (true, _) => place::DEVICE,
            (_, true) => place::ZERO,
            _ => place::SYSTEM,
        };
        arg.pfn = page.pfn() as u64;
        arg.order = counts.order;
        arg.map_order = seen.pfn().map_order();
        arg.refs = counts.refs as u32;
        arg.expected = counts.expected as u32;
        arg.mapcount = counts.mapcount as u32;
        arg.flags = [
            (seen.pfn().writable(), page_flag::WRITE),
            (counts.anon, page_flag::ANON),
            (counts.locked, page_flag::LOCKED),
            (counts.lru, page_flag::LRU),
            (counts.device_private, page_flag::PRIVATE),
            (counts.device_coherent, page_flag::COHERENT),
        ]
        .iter()
        .fold(0, |flags, (is, flag)| flags | if *is { *flag } else { 0 });
    })
}
