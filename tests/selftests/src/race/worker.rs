// SPDX-License-Identifier: GPL-2.0

//! The operations that threads repeat on the huge page.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{bail, Context, Result};
use nix::{
    errno::Errno,
    libc::{self, c_int, c_void, siginfo_t},
    sys::{
        mman::{MmapAdvise, ProtFlags},
        signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal},
        wait::{waitpid, WaitStatus},
    },
    unistd::{fork, ForkResult},
};

use crate::{
    abi,
    area::{Area, HUGE},
    device::{Device, PAGE_SIZE},
};

/// The state that the workers share.
pub struct Page<'a> {
    pub dev: &'a Device,
    pub area: &'a Area,
}

/// The workers. Their numbers are their indices in [`Worker::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    ToDevice,
    ToSystem,
    Release,
    CpuRead,
    OpenClose,
    Zap,
    DeviceRead,
    DeviceWrite,
    Fork,
    ProtectHalf,
    FailAlloc,
    Exclusive,
    CpuWrite,
}

impl Worker {
    pub const ALL: [Worker; 13] = [
        Worker::ToDevice,
        Worker::ToSystem,
        Worker::Release,
        Worker::CpuRead,
        Worker::OpenClose,
        Worker::Zap,
        Worker::DeviceRead,
        Worker::DeviceWrite,
        Worker::Fork,
        Worker::ProtectHalf,
        Worker::FailAlloc,
        Worker::Exclusive,
        Worker::CpuWrite,
    ];

    pub fn numbered(number: u8) -> Option<Worker> {
        Worker::ALL.get(usize::from(number)).copied()
    }

    pub fn about(self) -> &'static str {
        match self {
            Worker::ToDevice => "migration to the device",
            Worker::ToSystem => "migration back",
            Worker::Release => "RELEASE",
            Worker::CpuRead => "CPU reads",
            Worker::OpenClose => "open and close",
            Worker::Zap => "MADV_DONTNEED",
            Worker::DeviceRead => "device read",
            Worker::DeviceWrite => "device write",
            Worker::Fork => "fork, and a write by the child",
            Worker::ProtectHalf => "mprotect of a half, and back",
            Worker::FailAlloc => "FLAGS with FAIL_ALLOC",
            Worker::Exclusive => "EXCLUSIVE",
            Worker::CpuWrite => "CPU writes",
        }
    }

    /// Repeats the operation while `running`, which is called with the number of rounds, returns true. Returns that
    /// number.
    pub fn work(self, page: &Page<'_>, running: &dyn Fn(u64) -> bool) -> Result<u64> {
        let mut times = 0;
        let mut data = vec![0u8; HUGE * PAGE_SIZE];
        while running(times) {
            self.once(page, &mut data)
                .with_context(|| self.about().to_string())?;
            times += 1;
        }
        Ok(times)
    }

    fn once(self, page: &Page<'_>, data: &mut [u8]) -> Result<()> {
        let Page { dev, area } = page;
        let mut command = |code, npages| {
            let answer = dev.command(code, area.addr(), data.as_mut_ptr() as usize, npages);
            allowed(answer.map(drop))
        };
        match self {
            Worker::ToDevice => command(abi::MIGRATE_TO_DEV, HUGE as u64),
            Worker::ToSystem => command(abi::MIGRATE_TO_SYS, HUGE as u64),
            Worker::Release => command(abi::RELEASE, 1),
            Worker::CpuRead => {
                (0..HUGE).step_by(7).for_each(|index| {
                    area.word(index, 0);
                });
                Ok(())
            }
            Worker::OpenClose => Device::open(0).map(drop),
            Worker::Zap => area.advise(MmapAdvise::MADV_DONTNEED),
            Worker::DeviceRead => command(abi::READ, HUGE as u64),
            Worker::DeviceWrite => command(abi::WRITE, HUGE as u64),
            Worker::Fork => child_writes(area),
            Worker::ProtectHalf => {
                let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
                area.protect_pages(0, HUGE / 2, ProtFlags::PROT_READ)?;
                area.protect_pages(0, HUGE / 2, both)
            }
            Worker::FailAlloc => command(abi::FLAGS, abi::FLAG_FAIL_ALLOC),
            Worker::Exclusive => command(abi::EXCLUSIVE, HUGE as u64),
            Worker::CpuWrite => {
                for index in (0..HUGE).step_by(7) {
                    area.set_word(index, 0, index as u64);
                }
                Ok(())
            }
        }
    }
}

/// Accepts the errors that a driver may return while other threads use the same page. EINVAL is not one of them: the
/// memory stays mapped, and the requests are valid.
fn allowed(answer: Result<(), Errno>) -> Result<()> {
    use Errno::{EAGAIN, EBUSY, EFAULT, EINTR, ENOENT, ENOMEM, EPERM};
    match answer {
        Ok(()) | Err(EAGAIN | EBUSY | EFAULT | EINTR | ENOENT | ENOMEM | EPERM) => Ok(()),
        Err(errno) => bail!("{errno}"),
    }
}

fn child_writes(area: &Area) -> Result<()> {
    // SAFETY: the child writes one word and ends; it takes no lock that another thread may hold.
    let forked = match unsafe { fork() } {
        // fork() may fail if a page is exclusive while a migration holds the lock of its folio (docs/limits.md).
        Err(Errno::ENOMEM) => return Ok(()),
        forked => forked.context("fork")?,
    };
    match forked {
        ForkResult::Child => {
            area.set_word(0, 0, 1);
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => match waitpid(child, None).context("waitpid")? {
            WaitStatus::Exited(_, 0) => Ok(()),
            status => bail!("the child: {status:?}"),
        },
    }
}

/// The address of the area that a write may find read-only.
static START: AtomicUsize = AtomicUsize::new(0);

/// Handles the SIGSEGV of writes to `area` that meet [`Worker::ProtectHalf`], by making it writable again. Any other
/// SIGSEGV ends the process.
pub fn survive_read_only(area: &Area) {
    START.store(area.addr(), Ordering::Relaxed);
    let action = SigAction::new(
        SigHandler::SigAction(make_writable),
        SaFlags::SA_SIGINFO,
        SigSet::empty(),
    );
    // SAFETY: the handler only calls mprotect() and _exit(), which a signal handler may call.
    unsafe { sigaction(Signal::SIGSEGV, &action) }.expect("SIGSEGV can be handled");
}

extern "C" fn make_writable(_signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: for a SIGSEGV, the kernel passes a valid `info`, with the address of the access.
    let address = unsafe { (*info).si_addr() } as usize;
    let start = START.load(Ordering::Relaxed);
    let half = HUGE / 2 * PAGE_SIZE;
    if !(start..start + half).contains(&address) {
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(139) }
    }
    let both = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the pages belong to the area, and should be writable.
    unsafe { libc::mprotect(start as *mut c_void, half, both) };
}
