// SPDX-License-Identifier: GPL-2.0

//! The operations. Each gives how it ended, or an error that fails the run: something that the
//! model does not allow.

mod child;
mod data;
mod device;
mod machine;
mod shape;

use anyhow::Result;

use super::{
    board::Done,
    plan::{Op, Step},
    world::Worker,
};

pub use child::wait_for_child;

pub fn run(worker: &mut Worker<'_>, step: &Step) -> Result<Done> {
    match step.op {
        Op::CpuRead => data::cpu_read(worker, step),
        Op::CpuWrite => data::cpu_write(worker, step),
        Op::DeviceRead => data::device_read(worker, step),
        Op::DeviceWrite => data::device_write(worker, step),
        Op::Exclusive => data::exclusive(worker, step),
        Op::Discard => data::discard(worker, step),
        Op::ToDevice => device::to_device(worker, step),
        Op::ToSystem => device::to_system(worker, step),
        Op::Snapshot => device::snapshot(worker, step),
        Op::Look => device::look(worker, step),
        Op::Reopen => device::reopen(worker, step),
        Op::Release => device::release(worker, step),
        Op::Inject => device::inject(worker, step),
        Op::Cold | Op::Pageout | Op::Huge | Op::NoHuge | Op::Collapse => {
            shape::advise(worker, step)
        }
        Op::Protect => shape::protect(worker, step),
        Op::Move => shape::relocate(worker, step),
        Op::Remap | Op::Punch => shape::renew(worker, step),
        Op::Fork => child::fork(worker, step),
        Op::Pressure => machine::pressure(worker, step),
        Op::Compact => machine::compact(),
    }
}
