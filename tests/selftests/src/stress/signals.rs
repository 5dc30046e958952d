// SPDX-License-Identifier: GPL-2.0

//! SIGSEGV and SIGBUS in the stressed process and its children.
//!
//! Injected failures may end a CPU fault with SIGBUS. The access is then repeated, since the failures are counted
//! down. Any other signal is a failure of the run, which is reported before the process ends.

use std::{
    cell::Cell,
    sync::atomic::{
        AtomicPtr,
        Ordering::{Relaxed, SeqCst},
    },
};

use anyhow::{Context, Result};
use nix::{
    libc,
    sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal},
};

use super::board::{leave, Board, Weather, MAX_THREADS};

static BOARD: AtomicPtr<Board> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The exit status of a process that has received such a signal.
pub const HIT: i32 = 101;

/// Sets the number of the thread for reports.
pub fn name_thread(thread: usize) {
    PLACE.with(|place| place.set(Some(thread)));
}

/// Records that this is a forked child of the thread.
pub fn name_child() {
    PLACE.with(|place| place.set(place.get().map(|thread| thread + MAX_THREADS)));
}

/// Must be called before each access by the CPU.
pub fn touching(board: &Board) {
    let Some(place) = PLACE.with(Cell::get) else {
        return;
    };
    let weather = board.weather();
    let touch = &board.touches[place];
    touch.armed.store(weather.armed, Relaxed);
    touch.epoch.store(weather.epoch, SeqCst);
}

extern "C" fn hit(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: set once, to what is never freed.
    let Some(board) = (unsafe { BOARD.load(SeqCst).as_ref() }) else {
        leave(HIT);
    };
    let place = PLACE.with(Cell::get);
    if let (Some(place), libc::SIGBUS) = (place, signal) {
        let touch = &board.touches[place];
        let since = Weather {
            epoch: touch.epoch.load(SeqCst),
            armed: touch.armed.load(Relaxed),
            hogs: 0,
        };
        if board.is_injected(since) {
            board.excused.fetch_add(1, Relaxed);
            return;
        }
    }
    // SAFETY: the kernel gives it to a handler that asks for it.
    let address = unsafe { (*info).si_addr() } as usize;
    let name = if signal == libc::SIGBUS {
        "SIGBUS"
    } else {
        "SIGSEGV"
    };
    match place {
        Some(place) => board.fail(format_args!(
            "thread {}, operation #{}{}: {name} at {address:#x}, which nothing explains",
            place % MAX_THREADS,
            board.lanes[place % MAX_THREADS].begun.load(Relaxed),
            if place < MAX_THREADS {
                ""
            } else {
                ", in a child"
            }
        )),
        None => board.fail(format_args!(
            "{name} at {address:#x}, in no thread of the stress"
        )),
    }
    leave(HIT);
}

/// Installs the handler for this process and those that it forks.
pub fn install(board: &'static Board) -> Result<()> {
    BOARD.store(std::ptr::from_ref(board).cast_mut(), SeqCst);
    let handler = SigHandler::SigAction(hit);
    let action = SigAction::new(handler, SaFlags::SA_SIGINFO, SigSet::empty());
    for signal in [Signal::SIGSEGV, Signal::SIGBUS] {
        // SAFETY: the handler uses atomics and formats numbers into a buffer, nothing else.
        unsafe { sigaction(signal, &action) }.context("sigaction")?;
    }
    Ok(())
}
