// SPDX-License-Identifier: GPL-2.0

//! For `src/trace.rs`: the static key of the ledger, and no tracepoint.

use kernel::{
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        advance,
        Delta, //
    }, //
};

/// `struct rust_dmirror_record`.
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct Record {
    pub pfn: usize,
    pub stage: u32,
    pub direction: u32,
    pub device: u32,
    pub order: u32,
    pub refs: i32,
    pub mapcount: i32,
    pub expected: i32,
    pub held: i32,
}

/// The enable count of the static key: one per test thread, or per loom execution.
struct Key(Atomic<u64>);

#[cfg(loom)]
loom::lazy_static! {
    static ref KEY: Key = Key(Atomic::new(0));
}

#[cfg(not(loom))]
std::thread_local! {
    static KEY: &'static Key = Box::leak(Box::new(Key(Atomic::new(0))));
}

fn key() -> &'static Atomic<u64> {
    #[cfg(loom)]
    return &KEY.0;
    #[cfg(not(loom))]
    return &KEY.with(|key| *key).0;
}

/// `static_branch_inc()`, `static_branch_dec()`: the kernel warns about a count below zero.
pub fn enable_ledger(on: bool) {
    let by = if on { 1 } else { u64::MAX };
    let before = key().fetch_add(by, Relaxed);
    assert!(on || before > 0, "jump label: negative count!");
}

/// Whether some ledger is switched on.
pub fn is_ledger_enabled() -> bool {
    key().load(Relaxed) > 0
}

/// Whether somebody listens to the tracepoint.
pub fn is_folio_traced() -> bool {
    false
}

/// Advances the clock by a nanosecond, so that a test can tell whether it was called.
pub fn trace_folio(_: &Record) {
    advance(Delta::from_nanos(1));
}
