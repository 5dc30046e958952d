// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/rust_dmirror`: the ledger, and for each device its counters, limits, injected failures and pause.
//!
//! - `ledger_enabled`: 0 or 1; may be written.
//! - `ledger`: the last records, one per line, below a line of headings.
//! - `ledger_totals`: the numbers of checks, of mismatches, and of those with too few references.
//! - `hmm_dmirrorN/stats`: the device's counters.
//! - `hmm_dmirrorN/stuck`: the folios that the last eviction could not evict, with their counts at that time.
//! - `hmm_dmirrorN/limit`: the private memory that the device may have, in MiB; may be written.
//! - `hmm_dmirrorN/huge_ready`: the number of huge pages of system memory that are kept ready; may be written.
//! - `hmm_dmirrorN/core_splits`: whether the core splits huge pages while they migrate, 0 or 1; may be written. With 1,
//!   kernels without the fixes of K19, K20 and K24 (docs/defects.md) leak or crash if such a page is zapped.
//! - `hmm_dmirrorN/inject`: writing `POINT SKIP TIMES` arms a point for all files of the device. Reading lists the
//!   points and how often each has failed. Writing `clear` clears all.
//! - `hmm_dmirrorN/pause`: writing `STAGE DIRECTION SKIP MS` stops one migration or eviction of the device at a stage
//!   (`collected`, `filled`, `committed`, `finalize`) of a direction (`to-device`, `to-system`, `fault`, `evict`,
//!   `any`), after `SKIP` others have passed, for up to `MS` milliseconds (at most 10000; 0 means 2000). Writing
//!   `resume` lets it continue; `clear` also disarms. Reading shows what is armed, how many have been stopped, and how
//!   many are stopped now.

use crate::{
    device::{
        memory::Limit,
        Device, //
    },
    inject::Point,
    ledger::Ledger,
    pause::{
        Armed,
        Directions,
        PausePoint,
        Timeout, //
    },
    policy::plan::CoreSplits,
    spare::ready::MaxReady, //
};
use kernel::{
    debugfs::{
        Dir,
        File,
        Reader,
        Writer, //
    },
    fmt,
    prelude::*,
    str::CStr,
    sync::Arc,
    uaccess::UserSliceReader, //
};

/// The size in bytes of the longest text that may be written to a file.
const LONGEST: usize = 64;

fn words<'a>(reader: &mut UserSliceReader, buffer: &'a mut [u8; LONGEST]) -> Result<&'a str> {
    let len = reader.len();
    if len > LONGEST {
        return Err(EINVAL);
    }
    reader.read_slice(&mut buffer[..len])?;
    core::str::from_utf8(&buffer[..len]).map_err(|_| EINVAL)
}

/// `ledger_enabled`.
struct LedgerEnabled(Arc<Ledger>);

impl Writer for LedgerEnabled {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", u8::from(self.0.is_enabled()))
    }
}

impl Reader for LedgerEnabled {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        match words(reader, &mut [0; LONGEST])?.trim() {
            "0" => self.0.enable(false),
            "1" => self.0.enable(true),
            _ => return Err(EINVAL),
        }
        Ok(())
    }
}

/// `ledger`.
struct LedgerRecords(Arc<Ledger>);

impl Writer for LedgerRecords {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seq stage device direction pfn order refs mapcount expected held ok"
        )?;
        self.0
            .each(|number, record| writeln!(f, "{number} {record}").map_err(|_| EINVAL))
            .map_err(|_| fmt::Error)
    }
}

/// `ledger_totals`.
struct LedgerTotals(Arc<Ledger>);

impl Writer for LedgerTotals {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (checks, mismatches) = self.0.totals();
        let too_low = self.0.too_low();
        writeln!(
            f,
            "checks {checks}\nmismatches {mismatches}\ntoo_low {too_low}"
        )
    }
}

/// `stats`.
struct StatsFile(Arc<Device>);

impl Writer for StatsFile {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (chunks, used, total) = self.0.memory.usage();
        writeln!(f, "chunks {chunks}\npages_used {used}\npages_total {total}")?;
        writeln!(f, "huge_ready {}", self.0.state().ready.count())?;
        writeln!(f, "split_by_worker {}", self.0.state().splitter.done())?;
        let stats = &self.0.state().stats;
        for (name, counter) in [
            ("to_device", &stats.to_device),
            ("to_system", &stats.to_system),
            ("faulted", &stats.faulted),
            ("evicted", &stats.evicted),
            ("split_refused", &stats.split_refused),
            ("retries", &stats.retries),
            ("stuck", &stats.stuck),
        ] {
            writeln!(f, "{name} {}", counter.get())?;
        }
        Ok(())
    }
}

/// `stuck`.
struct StuckFile(Arc<Device>);

impl Writer for StuckFile {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pfn order refs mapcount expected")?;
        for folio in self.0.state().stuck.lock().iter() {
            writeln!(
                f,
                "{} {} {} {} {}",
                folio.pfn, folio.order, folio.refs, folio.mapcount, folio.expected
            )?;
        }
        Ok(())
    }
}

/// `limit`.
struct LimitFile(Arc<Device>);

impl Writer for LimitFile {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.0.memory.limit_mib())
    }
}

impl Reader for LimitFile {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let mib = words(reader, &mut [0; LONGEST])?.trim().parse();
        self.0
            .memory
            .set_limit(Limit::new(mib.map_err(|_| EINVAL)?)?);
        Ok(())
    }
}

/// `huge_ready`.
struct HugeReadyFile(Arc<Device>);

impl Writer for HugeReadyFile {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.0.state().ready.most().get())
    }
}

impl Reader for HugeReadyFile {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let most = words(reader, &mut [0; LONGEST])?.trim().parse();
        let most = MaxReady::new(most.map_err(|_| EINVAL)?)?;
        let state = self.0.state();
        // Coherent devices never allocate huge folios.
        if !state.is_private() && most != MaxReady::NONE {
            return Err(EINVAL);
        }
        state.ready.set_most(most);
        Ok(())
    }
}

/// `core_splits`.
struct CoreSplitsFile(Arc<Device>);

impl Writer for CoreSplitsFile {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let may = self.0.state().core_splits() == CoreSplits::Allowed;
        writeln!(f, "{}", u8::from(may))
    }
}

impl Reader for CoreSplitsFile {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let splits = match words(reader, &mut [0; LONGEST])?.trim() {
            "0" => CoreSplits::Avoided,
            "1" => CoreSplits::Allowed,
            _ => return Err(EINVAL),
        };
        self.0.state().set_core_splits(splits);
        Ok(())
    }
}

/// `inject`.
struct InjectFile(Arc<Device>);

impl Writer for InjectFile {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for point in Point::ALL {
            let state = self.0.state().inject.state(point);
            writeln!(
                f,
                "{} skip {} times {} hits {}",
                point.name(),
                state.skip,
                state.times,
                state.hits
            )?;
        }
        Ok(())
    }
}

impl Reader for InjectFile {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let mut buffer = [0; LONGEST];
        let mut words = words(reader, &mut buffer)?.split_whitespace();
        let name = words.next().ok_or(EINVAL)?;
        let mut number = || -> Result<Option<u64>> {
            match words.next() {
                None => Ok(None),
                Some(word) => word.parse().map(Some).map_err(|_| EINVAL),
            }
        };
        let (skip, times, rest) = (number()?, number()?, number()?);
        match (name, skip, times, rest) {
            ("clear", None, None, None) => self.0.state().inject.clear(),
            (name, Some(skip), Some(times), None) => {
                let point = Point::ALL.iter().find(|point| point.name() == name);
                self.0
                    .state()
                    .inject
                    .arm(*point.ok_or(EINVAL)?, skip, times);
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }
}

/// `pause`.
struct PauseFile(Arc<Device>);

impl Writer for PauseFile {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0.state().inject.pause.status();
        match status.armed {
            None => writeln!(f, "armed none")?,
            Some(armed) => writeln!(
                f,
                "armed {} {} skip {} ms {}",
                armed.point.name(),
                armed.directions.name(),
                armed.skip,
                armed.timeout.milliseconds()
            )?,
        }
        writeln!(f, "reached {}\nwaiting {}", status.reached, status.waiting)
    }
}

impl Reader for PauseFile {
    fn read_from_slice(&self, reader: &mut UserSliceReader) -> Result {
        let pause = &self.0.state().inject.pause;
        let mut buffer = [0; LONGEST];
        let mut words = words(reader, &mut buffer)?.split_whitespace();
        let mut next = || words.next();
        match (next(), next(), next(), next(), next()) {
            (Some("resume"), None, ..) => pause.resume(),
            (Some("clear"), None, ..) => pause.clear(),
            (Some(point), Some(directions), Some(skip), Some(ms), None) => pause.arm(Armed {
                point: PausePoint::from_name(point).ok_or(EINVAL)?,
                directions: Directions::from_name(directions).ok_or(EINVAL)?,
                skip: skip.parse().map_err(|_| EINVAL)?,
                timeout: Timeout::new(ms.parse().map_err(|_| EINVAL)?)?,
            }),
            _ => return Err(EINVAL),
        }
        Ok(())
    }
}

/// The files of a device.
#[pin_data]
pub(crate) struct DeviceFiles {
    // Files are dropped before their directory.
    #[pin]
    stats: File<StatsFile>,
    #[pin]
    stuck: File<StuckFile>,
    #[pin]
    limit: File<LimitFile>,
    #[pin]
    huge_ready: File<HugeReadyFile>,
    #[pin]
    core_splits: File<CoreSplitsFile>,
    #[pin]
    inject: File<InjectFile>,
    #[pin]
    pause: File<PauseFile>,
    dir: Dir,
}

impl DeviceFiles {
    /// Makes the files of a device.
    pub(crate) fn new(files: &Files, name: &CStr, device: &Arc<Device>) -> Result<Pin<KBox<Self>>> {
        let dir = files.dir.subdir(name);
        KBox::pin_init(
            pin_init!(DeviceFiles {
                stats <- dir.read_only_file(c"stats", StatsFile(device.clone())),
                stuck <- dir.read_only_file(c"stuck", StuckFile(device.clone())),
                limit <- dir.read_write_file(c"limit", LimitFile(device.clone())),
                huge_ready <- dir.read_write_file(c"huge_ready", HugeReadyFile(device.clone())),
                core_splits <- dir.read_write_file(c"core_splits", CoreSplitsFile(device.clone())),
                inject <- dir.read_write_file(c"inject", InjectFile(device.clone())),
                pause <- dir.read_write_file(c"pause", PauseFile(device.clone())),
                dir: dir.clone(),
            }),
            GFP_KERNEL,
        )
    }
}

/// The files of the module.
#[pin_data]
pub(crate) struct Files {
    #[pin]
    enabled: File<LedgerEnabled>,
    #[pin]
    records: File<LedgerRecords>,
    #[pin]
    totals: File<LedgerTotals>,
    dir: Dir,
}

impl Files {
    /// Makes the files of the module.
    pub(crate) fn new(ledger: &Arc<Ledger>) -> Result<Pin<KBox<Self>>> {
        let dir = Dir::new(c"rust_dmirror");
        KBox::pin_init(
            pin_init!(Files {
                enabled <- dir.read_write_file(c"ledger_enabled", LedgerEnabled(ledger.clone())),
                records <- dir.read_only_file(c"ledger", LedgerRecords(ledger.clone())),
                totals <- dir.read_only_file(c"ledger_totals", LedgerTotals(ledger.clone())),
                dir: dir.clone(),
            }),
            GFP_KERNEL,
        )
    }
}
