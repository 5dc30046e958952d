// SPDX-License-Identifier: GPL-2.0

//! Reports what is mapped where to user space. Faults nothing in, and copies no data.

use crate::{
    client::Client,
    device::chunk::is_own,
    layer::mm::{
        hmm::Want,
        lock::check_killed,
        mapped::{
            Place,
            Seen, //
        },
        mirror::Room,
        pagemap::OwnerId,
        HUGE_ORDER,
        HUGE_PAGES, //
    },
    range::Pages,
    uapi, //
};
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

fn describe(owner: OwnerId, seen: &Seen<'_>) -> u8 {
    let pfn = seen.pfn();
    if pfn.is_error() {
        return uapi::PROT_ERROR as u8;
    }
    let Some(page) = seen.page() else {
        return uapi::PROT_NONE as u8;
    };
    let place = match page.place(owner) {
        Place::Private { is_own: true } => uapi::PROT_DEV_PRIVATE_LOCAL,
        Place::Private { is_own: false } => uapi::PROT_DEV_PRIVATE_REMOTE,
        Place::Coherent { is_own: true } => uapi::PROT_DEV_COHERENT_LOCAL,
        Place::Coherent { is_own: false } => uapi::PROT_DEV_COHERENT_REMOTE,
        Place::Zero => uapi::PROT_ZERO,
        Place::System => uapi::PROT_NONE,
    };
    let access = match pfn.writable() {
        true => uapi::PROT_WRITE,
        false => uapi::PROT_READ,
    };
    let size = match pfn.map_order() {
        HUGE_ORDER => uapi::PROT_PMD,
        order if order == 2 * HUGE_ORDER => uapi::PROT_PUD,
        _ => 0,
    };
    (place | access | size) as u8
}

/// Writes one byte per page to user space that says what is mapped there. Faults nothing in.
pub(crate) fn snapshot(client: &Client, pages: Pages, ptr: u64, cmd: &mut uapi::Command) -> Result {
    let ptr = usize::try_from(ptr).map_err(|_| EFAULT)?;
    let mut to = UserSlice::new(UserPtr::from_addr(ptr), pages.count()).writer();
    let mut bytes = [0u8; HUGE_PAGES];
    let owner = client.device().state().pgmap_owner();
    client.device().state().scratch.with(|scratch| {
        for window in pages.windows(0) {
            check_killed()?;
            let nr = window.len() >> PAGE_SHIFT;
            client
                .mirror()
                .look(&mut scratch.room, window, |at, nr, seen| {
                    let byte = describe(owner, &seen);
                    match nr {
                        1 => bytes[at] = byte,
                        nr => bytes[at..at + nr].fill(byte),
                    }
                })?;
            to.write_slice(&bytes[..nr])?;
            cmd.cpages += nr as u64;
        }
        Ok(())
    })
}

/// Reports where a page is, its reference counts and its flags.
pub(crate) fn page(client: &Client, page: Pages, arg: &mut uapi::Page) -> Result {
    arg.where_ = uapi::NOWHERE;
    let range = page.start()..page.end();
    let mut room = Room::new()?;
    client
        .mirror()
        .fill(&mut room, range, Want::Look, |_, _, seen| {
            if seen.pfn().is_error() {
                arg.where_ = uapi::UNREADABLE;
                return;
            }
            let Some(page) = seen.page() else {
                return;
            };
            let counts = page.counts();
            arg.where_ = match (is_own(client.device().state(), &page), page.is_zero()) {
                (true, _) => uapi::DEVICE,
                (_, true) => uapi::ZERO,
                _ => uapi::SYSTEM,
            };
            arg.pfn = page.pfn() as u64;
            arg.order = counts.order;
            arg.map_order = seen.pfn().map_order();
            arg.refs = counts.refs as u32;
            arg.expected = counts.expected as u32;
            arg.mapcount = counts.mapcount as u32;
            arg.flags = [
                (seen.pfn().writable(), uapi::PAGE_WRITE),
                (counts.anon, uapi::PAGE_ANON),
                (counts.locked, uapi::PAGE_LOCKED),
                (counts.lru, uapi::PAGE_LRU),
                (counts.device_private, uapi::PAGE_PRIVATE),
                (counts.device_coherent, uapi::PAGE_COHERENT),
            ]
            .iter()
            .fold(0, |flags, (is, flag)| flags | if *is { *flag } else { 0 });
        })
}
