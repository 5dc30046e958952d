// SPDX-License-Identifier: GPL-2.0

//! Reads and writes by the device: copies directly between its mapped pages and user memory.

use super::step::{
    copy_from_user,
    step,
    step_out,
    Step,
    Tries,
    AT_ONCE, //
};
use crate::{
    client::Client,
    device::chunk::is_own,
    layer::mm::{
        hmm::Want,
        lock::{
            check_killed,
            MmapReadLock, //
        },
        mapped::{
            Access,
            Mapped,
            Memory,
            Seen, //
        },
        user::UserPages, //
    },
    ledger::Direction,
    migrate::{
        self,
        Report, //
    },
    range::Pages,
    uapi, //
};
use kernel::{
    page::PAGE_SHIFT,
    prelude::*, //
};

/// Whether `mmap_lock` stays held while faults of the device are handled.
#[derive(Clone, Copy)]
pub(crate) enum MmapLock {
    /// It stays held.
    Kept,
    /// It may be dropped, as userfaultfd requires.
    MayBeDropped,
}

/// Faults pages in by `hmm_range_fault()`, as a device would.
fn fault_in(client: &Client, pages: Pages, at: usize, want: Want, lock: MmapLock) -> Result {
    let mut windows = pages.windows(pages.start() + (at << PAGE_SHIFT));
    client.device().state().scratch.with(|scratch| {
        let room = &mut scratch.room;
        windows.try_for_each(|window| {
            let mirror = client.mirror();
            match lock {
                MmapLock::Kept => mirror.fill(room, window, want, |_, _, _| {}),
                MmapLock::MayBeDropped => mirror.fill_unlocked(room, window, want, |_, _, _| {}),
            }
        })
    })
}

/// Returns whether a write to the pages from page `at` on needs `mmap_lock` to be dropped. It does if a page is in a
/// VMA with a userfaultfd, whose handler must see the write as it sees one of the CPU.
fn lock_for_write(client: &Client, pages: Pages, at: usize) -> Result<MmapLock> {
    let mm = client.mm()?;
    let mmap = MmapReadLock::new(&mm)?;
    let mut address = pages.start() + (at << PAGE_SHIFT);
    while address < pages.end() {
        match mmap.vma(address) {
            Some(vma) if vma.may_wait_for_user() => return Ok(MmapLock::MayBeDropped),
            Some(vma) => address = vma.end(),
            None => break,
        }
    }
    Ok(MmapLock::Kept)
}

/// Reads `pages` as the device does, and copies the data to user space.
pub(crate) fn read(
    client: &Client,
    pages: Pages,
    to: &UserPages,
    lock: MmapLock,
    cmd: &mut uapi::Command,
) -> Result {
    let (mut at, mut tries) = (0, Tries::default());
    while at < pages.count() {
        check_killed()?;
        match step_out(client, pages, at, to, |_| true)? {
            Step::Copied(copied) => {
                at += copied;
                cmd.cpages += copied as u64;
                tries = Tries::default();
                continue;
            }
            Step::NotAtHand => to.fault_in_writeable(at, AT_ONCE.min(pages.count() - at))?,
            Step::NotMapped => {
                fault_in(client, pages, at, Want::Read, lock)?;
                cmd.faults += 1;
            }
        }
        tries.again()?;
    }
    Ok(())
}

/// Writes data from user space to `pages`, as the device does.
pub(crate) fn write(
    client: &Client,
    pages: Pages,
    from: &UserPages,
    cmd: &mut uapi::Command,
) -> Result {
    let is_writable = |run: &Mapped<'_>| run.access() == Access::Write;
    let (mut at, mut tries) = (0, Tries::default());
    let mut looked = 0;
    while at < pages.count() {
        check_killed()?;
        let at_once = AT_ONCE.min(pages.count() - at);
        if looked < at + at_once {
            // A bad pointer is to fail before anything is written.
            from.fault_in_readable(at, at_once)?;
            looked = at + at_once;
        }
        match step(client, pages, at, is_writable, |run, at| {
            copy_from_user(run, from, at)
        })? {
            Step::Copied(copied) => {
                at += copied;
                cmd.cpages += copied as u64;
                tries = Tries::default();
                continue;
            }
            Step::NotAtHand => from.fault_in_readable(at, at_once)?,
            Step::NotMapped => {
                let lock = lock_for_write(client, pages, at)?;
                fault_in(client, pages, at, Want::Write, lock)?;
                cmd.faults += 1;
                unshare(client, pages.start() + (at << PAGE_SHIFT))?;
            }
        }
        tries.again()?;
    }
    Ok(())
}

/// Migrates a read-only page of our own private memory back to system memory, so that a write fault is handled.
///
/// For such a page, which is shared by fork or write-protected, `hmm_range_fault()` answers a write request without a
/// fault and without write permission (K8 in docs/defects.md).
fn unshare(client: &Client, address: usize) -> Result {
    let is_stuck = client
        .mirror()
        .lock()
        .page(address)
        .is_some_and(|page| page.access() == Access::Read && page.memory() == Memory::Private);
    if is_stuck {
        let page = Pages::new(address as u64, 1, usize::MAX)?;
        migrate::migrate(client, page, Direction::ToSystem, &mut Report::default())?;
    }
    Ok(())
}

/// Copies pages of the range that are on the device to user space, up to the first that is not. Returns their
/// number.
pub(crate) fn read_back(client: &Client, pages: Pages, to: &UserPages) -> Result<usize> {
    let is_wanted = |run: &Mapped<'_>| is_own(client.device().state(), run);
    let (mut at, mut tries) = (0, Tries::default());
    while at < pages.count() {
        check_killed()?;
        match step_out(client, pages, at, to, is_wanted)? {
            Step::Copied(copied) => {
                at += copied;
                tries = Tries::default();
                continue;
            }
            Step::NotAtHand => to.fault_in_writeable(at, AT_ONCE.min(pages.count() - at))?,
            Step::NotMapped => {
                if !find_own(client, pages, at)? {
                    break;
                }
            }
        }
        if tries.again().is_err() {
            break;
        }
    }
    Ok(at)
}

/// Returns whether page `at` of the range is on the device. Does not fault, which would migrate it back.
fn find_own(client: &Client, pages: Pages, at: usize) -> Result<bool> {
    let address = pages.start() + (at << PAGE_SHIFT);
    let mut is_there = false;
    if let Some(window) = pages.windows(address).next() {
        let page = (address - window.start) >> PAGE_SHIFT;
        let look = |at: usize, nr: usize, seen: Seen<'_>| {
            if (at..at + nr).contains(&page) {
                is_there = seen
                    .page()
                    .is_some_and(|page| is_own(client.device().state(), &page));
            }
        };
        let scratch = &client.device().state().scratch;
        scratch.with(|scratch| {
            client
                .mirror()
                .fill(&mut scratch.room, window, Want::Look, look)
        })?;
    }
    Ok(is_there)
}
