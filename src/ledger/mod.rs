// SPDX-License-Identifier: GPL-2.0

//! The ledger of reference counts.
//!
//! While a folio is locked and unmapped, its reference count is exactly the number that the kernel expects plus the
//! number of references that are held. At each stage, the driver reports how many it holds, and the ledger checks
//! the sum. A mismatch is counted and recorded; nothing else happens.

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

/// The number of records that are kept; chosen: the migration of a huge page that is split makes about a thousand.
pub(crate) const KEPT: usize = 4096;

/// Sees each record during the migration, while the ledger is on. For tests.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) trait Observe: Send + Sync {
    /// Called when a record has been written, with a spinlock held.
    fn record(&self, record: &Record);
}

struct Ring {
    records: KVVec<Option<Record>>,
    /// The number of records ever written.
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
    /// Makes an empty ledger, switched off.
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
        // The static key counts: an increment must come before its decrement.
        let _switch = self.switch.lock();
        if self.enabled.xchg(on, Relaxed) != on {
            trace::enable_ledger(on);
        }
    }

    /// Returns whether it keeps records.
    #[inline(always)]
    pub(crate) fn is_enabled(&self) -> bool {
        trace::is_ledger_enabled() && self.enabled.load(Relaxed)
    }

    /// Returns whether records are kept or traced. While they are not, this costs two jumps that are patched out.
    #[inline(always)]
    pub(crate) fn wants_records(&self) -> bool {
        self.is_enabled() || trace::is_folio_traced()
    }

    /// Traces a record. If the ledger is on, also checks and keeps it.
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

    /// Sets the observer, which sees the records from now on.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn set_observer(&self, observer: Option<Arc<dyn Observe>>) {
        let before = core::mem::replace(&mut self.ring.lock().observer, observer);
        // Dropped after the lock is released, since it may be the last reference.
        drop(before);
    }

    /// Returns the number of checks, and of mismatches.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.checks.get(), self.mismatches.get())
    }

    /// Returns the number of mismatches with too few references.
    pub(crate) fn too_low(&self) -> u64 {
        self.too_low.get()
    }

    /// Calls `each` with the number of each kept record and the record, the oldest first.
    ///
    /// Copies the records first, so that `each` may sleep.
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
        // A mapped folio may have any number of other references.
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

    /// A writer that accepts exactly this text, in any number of parts.
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

    /// Returns the nanoseconds that a thousand calls of the ledger take, as a migration makes them at each stage.
    fn cost(ledger: &Ledger) -> i64 {
        let begin = Instant::<Monotonic>::now();
        for _ in 0..1000 {
            if core::hint::black_box(ledger).wants_records() {
                ledger.write(record(Stage::Setup, 1, 0, 1));
            }
        }
        begin.elapsed().as_nanos()
    }

    /// Compares the fastest of some runs, since others may have been interrupted.
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
