// SPDX-License-Identifier: GPL-2.0

//! The ledger of reference counts.
//!
//! While a folio is locked and unmapped, its reference count is what the kernel expects plus what is
//! held, exactly. The driver knows at each stage what it holds, says so, and the ledger checks it. A
//! mismatch is counted and shown; nothing else happens.

mod record;

pub(crate) use record::{
    Direction,
    Record,
    Stage, //
};

use crate::{
    stats::Counter,
    trace, //
};
use kernel::{
    new_mutex,
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        SpinLock, //
    }, //
};

/// Records that are kept: a huge page that is split on its way makes about a thousand.
pub(crate) const KEPT: usize = 4096;

/// Is told of each record while the ledger is on, in the middle of the migration: for tests.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) trait Observe: Send + Sync {
    /// A record was written. Called under a spinlock.
    fn record(&self, record: &Record);
}

struct Ring {
    records: KVVec<Option<Record>>,
    /// Records ever written.
    written: u64,
    #[cfg(CONFIG_KUNIT = "y")]
    observer: Option<Arc<dyn Observe>>,
}

/// The ledger.
#[pin_data(PinnedDrop)]
pub(crate) struct Ledger {
    enabled: Atomic<bool>,
    #[pin]
    switch: Mutex<()>,
    checks: Counter,
    mismatches: Counter,
    too_low: Counter,
    #[pin]
    ring: SpinLock<Ring>,
}

impl Ledger {
    /// An empty one, switched off.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let ring = Ring {
            records: KVVec::from_elem(None, KEPT, GFP_KERNEL)?,
            written: 0,
            #[cfg(CONFIG_KUNIT = "y")]
            observer: None,
        };
        Arc::pin_init(
            pin_init!(Ledger {
                enabled: Atomic::new(false),
                switch <- new_mutex!((), "dmirror_ledger_switch"),
                checks: Counter::default(),
                mismatches: Counter::default(),
                too_low: Counter::default(),
                ring <- new_spinlock!(ring, "dmirror_ledger"),
            }),
            GFP_KERNEL,
        )
    }

    /// Switches it on or off. Sleeps.
    pub(crate) fn enable(&self, on: bool) {
        // The static key is a counter: it must be incremented before it is decremented.
        let _switch = self.switch.lock();
        if self.enabled.xchg(on, Relaxed) != on {
            trace::enable_ledger(on);
        }
    }

    /// Whether it keeps records.
    #[inline(always)]
    pub(crate) fn is_enabled(&self) -> bool {
        trace::is_ledger_enabled() && self.enabled.load(Relaxed)
    }

    /// Whether anybody wants records. Two jumps that are patched out while nobody does.
    #[inline(always)]
    pub(crate) fn wants_records(&self) -> bool {
        self.is_enabled() || trace::is_folio_traced()
    }

    /// Traces a record, and if the ledger is on, checks and keeps it.
    pub(crate) fn write(&self, record: Record) {
        trace::trace_folio(&record.for_trace());
        if !self.is_enabled() {
            return;
        }
        self.checks.add(1);
        if !record.is_right() {
            self.mismatches.add(1);
        }
        if record.surplus() < 0 {
            self.too_low.add(1);
        }
        let mut ring = self.ring.lock();
        let at = (ring.written % KEPT as u64) as usize;
        ring.records[at] = Some(record);
        ring.written += 1;
        #[cfg(CONFIG_KUNIT = "y")]
        if let Some(observer) = &ring.observer {
            observer.record(&record);
        }
    }

    /// Who is told of records from now on.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn set_observer(&self, observer: Option<Arc<dyn Observe>>) {
        let before = core::mem::replace(&mut self.ring.lock().observer, observer);
        // Its last reference may go here: not under the lock.
        drop(before);
    }

    /// Checks made, and mismatches found.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.checks.get(), self.mismatches.get())
    }

    /// How many of the mismatches were too few references.
    pub(crate) fn too_low(&self) -> u64 {
        self.too_low.get()
    }

    /// Calls `each` for the records kept, the oldest first, with their numbers.
    ///
    /// Takes a copy first: `each` may sleep.
    pub(crate) fn each(&self, mut each: impl FnMut(u64, &Record) -> Result) -> Result {
        let mut copies = KVVec::with_capacity(KEPT, GFP_KERNEL)?;
        {
            let ring = self.ring.lock();
            let first = ring.written.saturating_sub(KEPT as u64);
            for number in first..ring.written {
                let record = ring.records[(number % KEPT as u64) as usize];
                copies
                    .push_within_capacity((number, record))
                    .map_err(|_| ENOMEM)?;
            }
        }
        for (number, record) in &copies {
            if let Some(record) = record {
                each(*number, record)?;
            }
        }
        Ok(())
    }
}

#[pinned_drop]
impl PinnedDrop for Ledger {
    fn drop(self: Pin<&mut Self>) {
        self.as_ref().enable(false);
    }
}

#[kunit_tests(rust_dmirror_ledger)]
mod tests {
    use super::*;
    use crate::layer::mm::folio::Counts;
    use core::fmt;
    use kernel::time::{
        Instant,
        Monotonic, //
    };

    fn record(stage: Stage, refs: i32, expected: i32, held: i32) -> Record {
        Record {
            stage,
            device: 0,
            direction: Direction::ToDevice,
            counts: Counts {
                pfn: 1,
                order: 9,
                refs,
                mapcount: 0,
                expected,
                locked: true,
                lru: false,
                anon: true,
                device_private: false,
                device_coherent: false,
            },
            held,
        }
    }

    #[test]
    fn a_leak_and_a_double_put_are_found() -> Result {
        let ledger = Ledger::new()?;
        ledger.write(record(Stage::Setup, 2, 0, 1));
        assert_eq!(ledger.totals(), (0, 0));
        ledger.enable(true);
        ledger.write(record(Stage::Setup, 1, 0, 1));
        assert_eq!(ledger.totals(), (1, 0));
        ledger.write(record(Stage::Setup, 2, 0, 1));
        assert_eq!((ledger.totals(), ledger.too_low()), ((2, 1), 0));
        ledger.write(record(Stage::PagesSource, 0, 0, 1));
        assert_eq!((ledger.totals(), ledger.too_low()), ((3, 2), 1));
        // What is mapped may have other references.
        ledger.write(record(Stage::Final, 600, 512, 1));
        ledger.write(record(Stage::Final, 500, 512, 1));
        assert_eq!((ledger.totals(), ledger.too_low()), ((5, 2), 1));
        Ok(())
    }

    #[test]
    fn each_is_switched_on_by_itself() -> Result {
        let (on, off) = (Ledger::new()?, Ledger::new()?);
        on.enable(true);
        off.write(record(Stage::Setup, 1, 0, 1));
        assert_eq!(off.totals(), (0, 0));
        on.write(record(Stage::Setup, 1, 0, 1));
        assert_eq!(on.totals(), (1, 0));
        Ok(())
    }

    /// A writer that expects this text, in any number of parts; anything else is an error.
    struct Expect(&'static str);

    impl fmt::Write for Expect {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(part).ok_or(fmt::Error)?;
            Ok(())
        }
    }

    #[test]
    fn a_record_is_a_line() {
        for (refs, line) in [
            (1, "setup 0 to-device 1 9 1 0 0 1 ok"),
            (2, "setup 0 to-device 1 9 2 0 0 1 MISMATCH"),
        ] {
            let mut rest = Expect(line);
            let record = record(Stage::Setup, refs, 0, 1);
            assert!(fmt::write(&mut rest, format_args!("{record}")).is_ok());
            assert_eq!(rest.0, "");
        }
    }

    /// Nanoseconds for a thousand times what a stage of a migration does about the ledger.
    fn cost(ledger: &Ledger) -> i64 {
        let begin = Instant::<Monotonic>::now();
        for _ in 0..1000 {
            if core::hint::black_box(ledger).wants_records() {
                ledger.write(record(Stage::Setup, 1, 0, 1));
            }
        }
        begin.elapsed().as_nanos()
    }

    /// The best of some runs, since something else may run in between.
    #[test]
    fn it_costs_next_to_nothing_while_it_is_off() -> Result {
        let ledger = Ledger::new()?;
        let best = |ledger: &Ledger| (0..20).map(|_| cost(ledger)).min().unwrap_or(i64::MAX);
        let off = best(&ledger);
        ledger.enable(true);
        let on = best(&ledger);
        ledger.enable(false);
        pr_info!("the ledger for 1000 folios: {off} ns while off, {on} ns while on\n");
        assert!(off * 4 < on);
        Ok(())
    }

    #[test]
    fn the_last_records_are_kept() -> Result {
        let ledger = Ledger::new()?;
        ledger.enable(true);
        for refs in 0..KEPT as i32 + 10 {
            ledger.write(record(Stage::Setup, refs, 0, refs));
        }
        let mut seen = 0;
        let mut in_order = true;
        ledger.each(|number, record| {
            in_order &= number == 10 + seen && record.counts.refs as u64 == number;
            seen += 1;
            Ok(())
        })?;
        assert_eq!(seen, KEPT as u64);
        assert!(in_order);
        Ok(())
    }
}
