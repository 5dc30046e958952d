// SPDX-License-Identifier: GPL-2.0

//! SIGSEGV and SIGBUS in the stressed process and its children.
//!
//! Injected failures may end a CPU fault with SIGBUS; then the access is simply tried again, since
//! they are counted down. Any other one is a failure of the run, and says so before the end.

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

/// How a process ends that was hit.
pub const HIT: i32 = 101;

/// Who the present thread is, for what is reported.
pub fn name_thread(thread: usize) {
    PLACE.with(|place| place.set(Some(thread)));
}

/// The present thread is a child of what it was.
pub fn name_child() {
    PLACE.with(|place| place.set(place.get().map(|thread| thread + MAX_THREADS)));
}

/// To be called before each touch by the CPU.
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
