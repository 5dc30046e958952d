// SPDX-License-Identifier: GPL-2.0

//! userfaultfd: memory whose faults user space handles, because pages are protected or missing.

use std::{
    io::{ErrorKind, Read},
    os::fd::{AsRawFd, FromRawFd},
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc, Mutex,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    libc::{self, Ioctl},
};

use crate::{area::Area, device::PAGE_SIZE};

/// Modes of registration.
pub const MISSING: u64 = 1;
pub const WP: u64 = 2;
pub const RWP: u64 = 8;

pub const FEATURE_WP: u64 = 1;
/// Pages that are not populated can be protected, too.
pub const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
pub const FEATURE_RWP: u64 = 1 << 17;

const API: Ioctl = 0xc018_aa3f;
const REGISTER: Ioctl = 0xc020_aa00;
const WRITEPROTECT: Ioctl = 0xc018_aa06;
const RWPROTECT: Ioctl = 0xc018_aa09;
const VERSION: u64 = 0xaa;

const EVENT_PAGEFAULT: u8 = 0x12;
/// The size of `struct uffd_msg`. Its first byte is the event's number. The address follows one word and the flags.
const MESSAGE: usize = 32;
const ADDRESS: std::ops::Range<usize> = 16..24;

/// A userfaultfd with an area registered.
pub struct Uffd {
    file: std::fs::File,
    mode: u64,
}

impl Uffd {
    fn call(&self, code: Ioctl, argument: &mut [u64]) -> Result<(), Errno> {
        // SAFETY: the number of each of these ioctls includes the size that the kernel reads and writes: that of
        // `argument`.
        assert_eq!((code >> 16) as usize & 0x3fff, size_of_val(argument));
        Errno::result(unsafe { libc::ioctl(self.file.as_raw_fd(), code, argument.as_mut_ptr()) })
            .map(drop)
    }

    /// Opens a userfaultfd and registers an area.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the kernel does not have these features or this mode.
    pub fn register(area: &Area, features: u64, mode: u64) -> Result<Uffd, Errno> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: no memory is passed.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) })?;
        // SAFETY: it was just opened, and has no other owner.
        let file = unsafe { std::fs::File::from_raw_fd(fd as i32) };
        let uffd = Uffd { file, mode };
        uffd.call(API, &mut [VERSION, features, 0])?;
        let range = [area.addr() as u64, area.size() as u64];
        uffd.call(REGISTER, &mut [range[0], range[1], mode, 0])?;
        Ok(uffd)
    }

    /// Protects pages. Or unprotects them, and wakes the threads that wait for that.
    pub fn protect(&self, addr: usize, npages: usize, on: bool) -> Result<(), Errno> {
        let code = match self.mode {
            RWP => RWPROTECT,
            _ => WRITEPROTECT,
        };
        let size = (npages * PAGE_SIZE) as u64;
        self.call(code, &mut [addr as u64, size, u64::from(on)])
    }

    /// Starts a thread that unprotects each page for which a thread waits.
    pub fn handle(self) -> Handler {
        let shared = Arc::new(Shared {
            uffd: self,
            seen: Mutex::default(),
            end: AtomicBool::new(false),
        });
        let thread = thread::spawn({
            let shared = shared.clone();
            move || shared.run()
        });
        Handler {
            shared,
            thread: Some(thread),
        }
    }
}

struct Shared {
    uffd: Uffd,
    seen: Mutex<Vec<usize>>,
    end: AtomicBool,
}

impl Shared {
    fn run(&self) -> Result<()> {
        let mut message = [0; MESSAGE];
        while !self.end.load(Ordering::Relaxed) {
            match (&self.uffd.file).read(&mut message) {
                Ok(MESSAGE) if message[0] == EVENT_PAGEFAULT => {}
                Ok(_) => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
                Err(error) => return Err(error).context("reading a userfaultfd"),
            }
            let mut address = [0; 8];
            address.copy_from_slice(&message[ADDRESS]);
            let page = u64::from_ne_bytes(address) as usize & !(PAGE_SIZE - 1);
            // Recorded before the thread that waits is woken, since that one may call `has_seen()`.
            self.seen.lock().unwrap().push(page);
            self.uffd.protect(page, 1, false).context("unprotecting")?;
        }
        Ok(())
    }
}

/// The thread that unprotects pages. Ends when this is dropped.
pub struct Handler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Handler {
    /// Returns whether a thread had to wait for a page, given by its address.
    pub fn has_seen(&self, page: usize) -> bool {
        self.shared.seen.lock().unwrap().contains(&page)
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("userfaultfd: {error:#}");
        }
    }
}
