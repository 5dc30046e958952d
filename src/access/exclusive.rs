// SPDX-License-Identifier: GPL-2.0

//! Makes pages exclusive to the device, so that a CPU access faults.

use super::step::{
    step_out,
    Step,
    Tries,
    AT_ONCE, //
};
use crate::{
    client::Client,
    layer::mm::{
        lock::check_killed,
        mapped::Access,
        user::UserPages, //
    },
    range::Pages,
    uapi, //
};
use core::ops::Range;
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// Makes the pages exclusive to the device, and copies their data to user space.
pub(crate) fn exclusive(
    client: &Client,
    pages: Pages,
    to: &UserPages,
    cmd: &mut uapi::Command,
) -> Result {
    if let Err(error) = make(client, pages.start()..pages.end()) {
        // Unless all pages could be made exclusive, the device maps none of them.
        client.mirror().lock().forget(pages.start()..pages.end());
        return Err(error);
    }
    let (mut at, mut tries) = (0, Tries::default());
    while at < pages.count() {
        check_killed()?;
        match step_out(client, pages, at, to, |_| true)? {
            Step::Copied(copied) => {
                at += copied;
                tries = Tries::default();
            }
            // A CPU access has ended the exclusive access already, or khugepaged has, by looking at the page.
            Step::NotMapped => {
                tries.again().map_err(|_| ENOENT)?;
                let page = pages.start() + at * PAGE_SIZE;
                make(client, page..page + PAGE_SIZE)?;
            }
            Step::NotAtHand => {
                tries.again()?;
                to.fault_in_writeable(at, AT_ONCE.min(pages.count() - at))?;
            }
        }
        cmd.cpages = at as u64;
    }
    Ok(())
}

/// Makes pages exclusive to the device, up to the first for which that fails.
fn make(client: &Client, range: Range<usize>) -> Result {
    let mm = client.mm()?;
    client.device().state().scratch.with(|scratch| {
        range.step_by(PAGE_SIZE).try_for_each(|address| {
            client
                .mirror()
                .make_exclusive(&mut scratch.room, &mm, address)
        })
    })
}

/// Fails with `EPERM` if one of the pages is exclusive to the device.
pub(crate) fn check_exclusive(client: &Client, pages: Pages) -> Result {
    for window in pages.windows(0) {
        check_killed()?;
        let locked = client.mirror().lock();
        for address in window.step_by(PAGE_SIZE) {
            let page = locked.page(address);
            if page.is_some_and(|page| page.access() == Access::Exclusive) {
                return Err(EPERM);
            }
        }
    }
    Ok(())
}
