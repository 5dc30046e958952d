// SPDX-License-Identifier: GPL-2.0

//! The ten commands of `lib/test_hmm_uapi.h`.

use super::argument::Argument;
use crate::{
    access::{
        self,
        MmapLock, //
    },
    client::Client,
    layer::mm::user::UserPages,
    ledger::Direction,
    migrate::{
        self,
        Report, //
    },
    uapi, //
};
use kernel::prelude::*;

impl Argument for uapi::Command {
    fn asked(self) -> Self {
        uapi::Command {
            cpages: 0,
            faults: 0,
            ..self
        }
    }
}

/// Runs a command of test_hmm.
pub(super) fn run(client: &Client, number: u32, cmd: &mut uapi::Command) -> Result {
    // These two have no range.
    match number {
        uapi::FLAGS => return client.owner().inject.set_flags(cmd.npages),
        uapi::RELEASE => return migrate::release(client.device()),
        _ => {}
    }
    let pages = client.range(cmd.addr, cmd.npages)?;
    let user = UserPages::new(cmd.ptr, pages.count());
    match number {
        uapi::READ => access::read(client, pages, &user?, MmapLock::Kept, cmd),
        uapi::READ_UNLOCKED => access::read(client, pages, &user?, MmapLock::MayBeDropped, cmd),
        uapi::WRITE => access::write(client, pages, &user?, cmd),
        uapi::SNAPSHOT => access::snapshot(client, pages, cmd.ptr, cmd),
        uapi::EXCLUSIVE => access::exclusive(client, pages, &user?, cmd),
        uapi::CHECK_EXCLUSIVE => access::check_exclusive(client, pages),
        uapi::MIGRATE_TO_DEV => {
            migrate::migrate(client, pages, Direction::ToDevice, &mut Report::default())?;
            cmd.cpages = access::read_back(client, pages, &user?)? as u64;
            // test_hmm's error if not all pages of the range are on the device.
            match cmd.cpages == pages.count() as u64 {
                true => Ok(()),
                false => Err(ENOENT),
            }
        }
        uapi::MIGRATE_TO_SYS => {
            let mut report = Report::default();
            let done = migrate::migrate(client, pages, Direction::ToSystem, &mut report);
            cmd.cpages = report.counts.migrated();
            done
        }
        _ => Err(EINVAL),
    }
}
