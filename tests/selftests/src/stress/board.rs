// SPDX-License-Identifier: GPL-2.0

//! The memory that the stressed process, its children and the watching process share: counters, the last operations of
//! every thread, and the first failure. It survives a crash of the stressed process.

use std::{
    cell::UnsafeCell,
    fmt::{self, Write},
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{
        AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release, SeqCst},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    libc,
    sys::mman::{mmap_anonymous, MapFlags, ProtFlags},
};

use super::plan::{Op, Step};

pub const MAX_THREADS: usize = 15;
pub const MAX_AREAS: usize = 8;
/// Errno values, with 0 for success.
const ERRNOS: usize = 134;
/// Not tried, because a lock was held or there was nothing to do.
const SKIPPED: usize = ERRNOS;
const REMEMBERED: usize = 8;
const TEXT: usize = 2048;

/// Types that are valid as all zeroes and made to be shared.
///
/// # Safety
///
/// All zeroes are a valid value, and other processes may change it meanwhile.
pub unsafe trait Shared: Sync {}

// SAFETY: an atomic integer.
unsafe impl Shared for AtomicU64 {}
// SAFETY: atomics and text that is handed over by atomics, see `Slot`.
unsafe impl Shared for Board {}

/// Zeroed memory that children share, for as long as the program runs.
pub fn share<T: Shared>(count: usize) -> Result<&'static [T]> {
    let size = NonZeroUsize::new(count * size_of::<T>()).context("nothing to share")?;
    let flags = MapFlags::MAP_SHARED;
    // SAFETY: the kernel chooses a free range.
    let memory = unsafe {
        mmap_anonymous(
            None,
            size,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            flags,
        )
    }
    .context("shared memory")?;
    let first: NonNull<T> = memory.cast();
    // SAFETY: zeroed, page aligned, long enough, and never unmapped.
    Ok(unsafe { std::slice::from_raw_parts(first.as_ptr(), count) })
}

/// A text that is written once, by the first caller, which may be a signal handler.
#[repr(C)]
pub struct Slot {
    claimed: AtomicBool,
    ready: AtomicBool,
    text: UnsafeCell<[u8; TEXT]>,
}

// SAFETY: who claimed it writes, others read once it is ready.
unsafe impl Sync for Slot {}

struct Cursor<'a>(&'a mut [u8], usize);

impl Write for Cursor<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.0.len() - self.1;
        let taken = &text.as_bytes()[..text.len().min(room)];
        self.0[self.1..self.1 + taken.len()].copy_from_slice(taken);
        self.1 += taken.len();
        Ok(())
    }
}

impl Slot {
    /// Allocates nothing and takes no lock. Later texts are lost.
    pub fn fill(&self, text: fmt::Arguments<'_>) {
        if self.claimed.swap(true, SeqCst) {
            return;
        }
        // SAFETY: claimed by us alone, and nobody reads before it is ready.
        let bytes = unsafe { &mut *self.text.get() };
        // The last byte stays zero.
        let _ = Cursor(&mut bytes[..TEXT - 1], 0).write_fmt(text);
        self.ready.store(true, Release);
    }

    pub fn get(&self) -> Option<String> {
        if !self.ready.load(Acquire) {
            return None;
        }
        // SAFETY: ready, so that nobody writes any more.
        let bytes = unsafe { &*self.text.get() };
        let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(TEXT);
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }
}

/// A recorded operation.
#[repr(C)]
struct Entry {
    number: AtomicU64,
    what: AtomicU64,
    /// [`RUNNING`], or the index of the result plus 1.
    state: AtomicU64,
}

const RUNNING: u64 = u64::MAX;

/// The part of the board that belongs to a thread.
#[repr(C)]
pub struct Lane {
    /// The number of operations that were begun.
    pub begun: AtomicU64,
    /// The PID of the child that the thread has forked for its operation, or 0.
    pub in_child: AtomicU32,
    ring: [Entry; REMEMBERED],
}

/// Which injections there were when a touch by the CPU began.
#[repr(C)]
pub struct Touch {
    pub epoch: AtomicU64,
    pub armed: AtomicBool,
}

#[repr(C)]
pub struct Board {
    pub stop: AtomicBool,
    /// Threads that have ended.
    pub ended: AtomicU32,
    /// The first failure.
    pub failure: Slot,
    /// A failure of the final checks of the data or of the memory's size.
    pub data: Slot,
    pub rss: Slot,
    /// Checks of the end that were reached.
    pub checked: AtomicU32,
    /// Values compared with the model.
    pub compared: AtomicU64,
    /// Pages that migrations moved.
    pub moved: AtomicU64,
    /// Injections that are armed, and how often that changed.
    armed: AtomicU32,
    epoch: AtomicU64,
    /// Hogs that came and went: odd while there is one.
    hogs: AtomicU64,
    /// Signals that injected failures explain.
    pub excused: AtomicU64,
    pub bases: [AtomicUsize; MAX_AREAS],
    pub lanes: [Lane; MAX_THREADS],
    /// Of the threads, and of their children.
    pub touches: [Touch; 2 * MAX_THREADS],
    counts: [[AtomicU64; ERRNOS + 1]; Op::COUNT],
    /// Microseconds that operations took, together and the longest one.
    times: [[AtomicU64; 2]; Op::COUNT],
}

/// How an operation ended, if it was not a failure of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Yes,
    /// Refused, for a reason that the model allows.
    Refused(nix::errno::Errno),
    Skipped,
}

impl Done {
    fn index(self) -> usize {
        match self {
            Done::Yes => 0,
            Done::Refused(errno) => (errno as usize).min(ERRNOS - 1),
            Done::Skipped => SKIPPED,
        }
    }
}

fn name_of(index: usize) -> String {
    match index {
        0 => "done".into(),
        SKIPPED => "skipped".into(),
        errno => format!("{:?}", nix::errno::Errno::from_raw(errno as i32)),
    }
}

impl Board {
    pub fn new() -> Result<&'static Board> {
        Ok(&share::<Board>(1)?[0])
    }

    /// Ends the run, with the first reason.
    pub fn fail(&self, text: fmt::Arguments<'_>) {
        self.failure.fill(text);
        self.stop.store(true, SeqCst);
    }

    pub fn begin(&self, thread: usize, step: &Step) -> u64 {
        let lane = &self.lanes[thread];
        let number = lane.begun.load(Relaxed) + 1;
        let entry = &lane.ring[number as usize % REMEMBERED];
        entry.what.store(step.packed(), Relaxed);
        entry.state.store(RUNNING, Relaxed);
        entry.number.store(number, Release);
        lane.begun.store(number, Release);
        number
    }

    pub fn end(&self, thread: usize, number: u64, op: Op, done: Done, took: Duration) {
        let [total, longest] = &self.times[op as usize];
        let took = took.as_micros() as u64;
        total.fetch_add(took, Relaxed);
        longest.fetch_max(took, Relaxed);
        let entry = &self.lanes[thread].ring[number as usize % REMEMBERED];
        entry.state.store(done.index() as u64 + 1, Release);
        self.counts[op as usize][done.index()].fetch_add(1, Relaxed);
    }

    /// Returns the last operations of a thread, the latest last.
    pub fn last(&self, thread: usize) -> Vec<String> {
        let lane = &self.lanes[thread];
        let mut entries: Vec<_> = lane.ring.iter().collect();
        entries.sort_by_key(|entry| entry.number.load(Acquire));
        entries
            .iter()
            .filter(|entry| entry.number.load(Acquire) > 0)
            .map(|entry| {
                let end = match entry.state.load(Acquire) {
                    RUNNING if lane.in_child.load(Relaxed) != 0 => "RUNNING, with a child".into(),
                    RUNNING => "RUNNING".into(),
                    index => name_of((index as usize).saturating_sub(1)),
                };
                let number = entry.number.load(Relaxed);
                let step = Step::describe(entry.what.load(Relaxed));
                format!("#{number} {step}: {end}")
            })
            .collect()
    }

    /// Operations that were done or refused, with how often each end came.
    pub fn ends(&self, op: Op) -> Vec<(String, u64)> {
        self.counts[op as usize]
            .iter()
            .enumerate()
            .map(|(index, count)| (name_of(index), count.load(Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// The time that an operation took, all together and at most.
    pub fn times(&self, op: Op) -> [Duration; 2] {
        let times = &self.times[op as usize];
        [0, 1].map(|which| Duration::from_micros(times[which].load(Relaxed)))
    }

    pub fn done(&self, op: Op) -> u64 {
        self.counts[op as usize][0].load(Relaxed)
    }

    /// Operations that were begun by all threads.
    pub fn begun(&self) -> u64 {
        self.lanes.iter().map(|l| l.begun.load(Relaxed)).sum()
    }

    /// Records that failures are injected, until the value is dropped.
    pub fn armed(&self) -> Armed<'_> {
        self.armed.fetch_add(1, SeqCst);
        self.epoch.fetch_add(1, SeqCst);
        Armed(self)
    }

    pub fn weather(&self) -> Weather {
        // In this order: what is armed in between shows in one of them.
        let epoch = self.epoch.load(SeqCst);
        Weather {
            epoch,
            armed: self.armed.load(SeqCst) > 0,
            hogs: self.hogs.load(SeqCst),
        }
    }

    /// Records that a hog begins or ends. There is at most one.
    pub fn hog(&self) {
        self.hogs.fetch_add(1, SeqCst);
    }

    /// Whether memory was short at any time since.
    pub fn is_short(&self, since: Weather) -> bool {
        since.hogs % 2 == 1 || self.hogs.load(SeqCst) != since.hogs
    }

    /// Whether a failure was injected at any time since.
    pub fn is_injected(&self, since: Weather) -> bool {
        since.armed || self.epoch.load(SeqCst) != since.epoch
    }
}

/// What failures there were reasons for at some moment.
#[derive(Clone, Copy)]
pub struct Weather {
    pub epoch: u64,
    pub armed: bool,
    pub hogs: u64,
}

pub struct Armed<'a>(&'a Board);

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.0.epoch.fetch_add(1, SeqCst);
        self.0.armed.fetch_sub(1, SeqCst);
    }
}

/// Ends this process at once.
pub fn leave(code: i32) -> ! {
    // SAFETY: nothing of this process's is needed any more; what others wait for is in the board.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_counts() {
        let board = Board::new().unwrap();
        assert_eq!(board.failure.get(), None);
        board.fail(format_args!("page {}", 7));
        board.fail(format_args!("another"));
        assert_eq!(board.failure.get().as_deref(), Some("page 7"));
        assert!(board.stop.load(Relaxed));
        board.data.fill(format_args!("{}", "x".repeat(3 * TEXT)));
        assert_eq!(board.data.get().unwrap().len(), TEXT - 1);
    }

    #[test]
    fn injections_are_seen_also_after_their_end() {
        let board = Board::new().unwrap();
        let calm = board.weather();
        assert!(!board.is_injected(calm));
        let armed = board.armed();
        assert!(board.is_injected(calm));
        let storm = board.weather();
        drop(armed);
        assert!(board.is_injected(calm) && board.is_injected(storm));
        assert!(!board.is_injected(board.weather()));
    }
}
