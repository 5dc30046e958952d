// SPDX-License-Identifier: GPL-2.0

//! A device of its own, without a node, an open file on it, and 2 MiB of anonymous memory.

use super::{
    log::Log,
    watch::{
        words,
        Watch, //
    }, //
};
use crate::{
    client::Client,
    device::{
        chunk::ChunkPagemap,
        state::{
            MemoryType,
            Settings, //
        },
        Device, //
    },
    inject::Point,
    ioctl::File,
    layer::mm::{
        fault::Fault,
        folio::{
            Counts,
            LockedFolio, //
        },
        hmm::Want,
        lock::{
            MmapReadLock,
            Vma, //
        },
        migrate::{
            Batch,
            Collected,
            Destination,
            Select,
            Source, //
        },
        mirror::Room,
        system::Blank,
        testing,
        Size,
        HUGE_PAGES,
        HUGE_SIZE, //
    },
    ledger::{
        Direction,
        Ledger, //
    },
    migrate::{
        self,
        Origin,
        Report, //
    },
    policy::plan::CoreSplits,
    range::Pages, //
};
use core::ops::Range;
use kernel::{
    mm::MmWithUser,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// What a case works with.
pub(super) struct Rig {
    file: Pin<KBox<File>>,
    /// The device.
    pub(super) device: Arc<Device>,
    mm: ARef<MmWithUser>,
    ledger: Arc<Ledger>,
    watch: Arc<Watch>,
    /// The huge page.
    pub(super) base: usize,
}

impl Rig {
    /// As [`Rig::run`], with the pattern written, `before` done, and then a copy of the mm made, as `fork()` does;
    /// nothing where the kernel cannot make one for tests.
    pub(super) fn run_shared(
        before: impl FnOnce(&Rig) -> Result,
        case: impl FnOnce(&Rig, &mut Log, ARef<MmWithUser>) -> Result,
    ) -> Result<Option<Log>> {
        let mut is_supported = true;
        let log = Rig::run(|rig, log| {
            rig.write_pattern()?;
            before(rig)?;
            let Some(copy) = testing::duplicate_mm() else {
                is_supported = false;
                pr_info!("# SKIP: this kernel cannot duplicate an mm for tests\n");
                return Ok(());
            };
            case(rig, log, copy)
        })?;
        Ok(is_supported.then_some(log))
    }

    /// Runs a case and hands out what it saw, after everything is gone: unmaps the memory, and looks
    /// whether any folio is missing from the device.
    pub(super) fn run(case: impl FnOnce(&Rig, &mut Log) -> Result) -> Result<Log> {
        // Twice as much, to have an aligned huge page in it.
        let area = testing::map_anonymous(2 * HUGE_SIZE)?;
        let mm = {
            let task = kernel::current!();
            ARef::from(task.mm().ok_or(EINVAL)?)
        };
        let ledger = Ledger::new()?;
        ledger.enable(true);
        let device = Device::new(0, MemoryType::Private, Settings::DEFAULT, ledger.clone())?;
        device.memory.make_room(device.state());
        let rig = Rig {
            file: File::new(device.clone(), &mm)?,
            watch: Watch::new(mm.clone(), device.memory.chunks()?)?,
            device,
            mm,
            ledger,
            base: area.next_multiple_of(HUGE_SIZE),
        };
        let mut log = Log::default();
        let done = case(&rig, &mut log);
        rig.ledger.set_observer(None);
        rig.client().owner().inject.clear();
        testing::unmap(area, 2 * HUGE_SIZE)?;
        log.check(rig.watch.rss() == 0, "no page is counted after unmap")?;
        // The worker that splits for faults collects pages beside them, and takes a reference on each before it
        // tries the lock: a count may be too high then.
        let mismatches = match rig.device.state().core_splits() {
            CoreSplits::Allowed => rig.ledger.totals().1,
            CoreSplits::Avoided => rig.ledger.too_low(),
        };
        log.check(mismatches == 0, "the ledger found no mismatch")?;
        let Rig {
            file,
            device,
            watch,
            ..
        } = rig;
        // It knows the device's memory, which is to go below.
        drop((file, watch));
        let is_free = device.memory.usage().1 == 0;
        log.check(is_free, "no folio is missing from the device")?;
        if is_free {
            log.check(
                migrate::release(&device).is_ok(),
                "the device gives its memory up",
            )?;
        } else {
            // To wait for what was leaked would be to wait for ever.
            core::mem::forget(device);
        }
        done?;
        Ok(log)
    }

    /// The client of the open file.
    pub(super) fn client(&self) -> &Client {
        self.file.client()
    }

    /// Arms an injection point for this file.
    pub(super) fn inject(&self, point: Point, skip: u64, times: u64) {
        self.client().owner().inject.arm(point, skip, times);
    }

    /// Anonymous pages of the mm.
    pub(super) fn rss(&self) -> usize {
        self.watch.rss()
    }

    /// Lets a part of a case run, and notes every folio at every stage that the driver takes it
    /// through meanwhile.
    pub(super) fn watch<T>(&self, log: &mut Log, part: impl FnOnce() -> Result<T>) -> Result<T> {
        self.ledger.set_observer(Some(self.watch.clone()));
        let done = part();
        self.ledger.set_observer(None);
        self.watch.report(log)?;
        done
    }

    /// Lets per-CPU lists go of the pages that they hold for the LRU, each with a reference.
    pub(super) fn drain_lru(&self, log: &mut Log) {
        if !testing::drain_lru() {
            log.is_undrained = true;
        }
    }

    /// The addresses of the huge page.
    pub(super) fn range(&self) -> Range<usize> {
        self.base..self.base + HUGE_SIZE
    }

    fn words(&self, page: usize) -> [(UserSlice, u64); 2] {
        words(page).map(|(offset, value)| {
            let address = self.base + page * PAGE_SIZE + offset;
            (UserSlice::new(UserPtr::from_addr(address), 8), value)
        })
    }

    /// Writes the pattern into every page, as the process would.
    pub(super) fn write_pattern(&self) -> Result {
        for (slice, value) in (0..HUGE_PAGES).flat_map(|page| self.words(page)) {
            slice.writer().write(&value)?;
        }
        Ok(())
    }

    /// Reads a page, as the process would; says whether it holds what was written.
    pub(super) fn read_page(&self, page: usize) -> Result<bool> {
        let mut is_right = true;
        for (slice, value) in self.words(page) {
            is_right &= slice.reader().read::<u64>()? == value;
        }
        Ok(is_right)
    }

    /// Whether all pages of a range hold what was written.
    pub(super) fn has_pattern(&self, mut pages: Range<usize>) -> Result<bool> {
        pages.try_fold(true, |so_far, page| Ok(self.read_page(page)? && so_far))
    }

    /// Notes the folio that is mapped at a page.
    pub(super) fn note_mapped(&self, log: &mut Log, stage: &'static str, page: usize) -> Result {
        let start = self.base + page * PAGE_SIZE;
        let mut line = Err(ENOENT);
        let mut room = Room::new()?;
        self.client().mirror().fill(
            &mut room,
            start..start + PAGE_SIZE,
            Want::Look,
            |_, _, seen| {
                let counts = seen.page().map(|page| page.counts()).ok_or(ENOENT);
                line = counts.map(|counts| self.watch.line(stage, counts));
            },
        )?;
        log.note(line?)
    }

    /// Notes a folio that is held.
    pub(super) fn note(&self, log: &mut Log, stage: &'static str, counts: Counts) -> Result {
        log.note(self.watch.line(stage, counts))
    }

    /// Collects the huge page, or part of it, and lets `then` go on from there.
    pub(super) fn collect<T>(
        &self,
        batch: &mut Batch,
        range: Range<usize>,
        select: Select,
        then: impl FnOnce(Collected<'_>, Vma<'_>) -> Result<T>,
    ) -> Result<T> {
        let mmap = MmapReadLock::new(&self.mm)?;
        let vma = mmap.vma(range.start).ok_or(EFAULT)?;
        let owner = self.device.state().pgmap_owner();
        let collected = batch.setup(vma, range, select, true, owner)?;
        then(collected, vma)
    }

    /// A filled destination on the device.
    pub(super) fn device_folio(
        &self,
        source: Option<Source<'_>>,
        size: Size,
    ) -> Result<Destination> {
        let supply = self.device.memory.supply()?;
        let mut taker = supply.taker(self.client().owner());
        let folio = taker.next(size, 1)?.fill(source)?;
        Ok(Destination::Device(folio))
    }

    /// A filled destination in system memory.
    pub(super) fn system_folio(&self, source: &Source<'_>, size: Size) -> Result<Destination> {
        let folio = Blank::anywhere(size)?;
        let injection = self.client().injection();
        migrate::copy_back(&injection, &mut Origin::default(), source, folio).map_err(|_| EIO)
    }

    /// The folio that is mapped at a page, locked.
    pub(super) fn lock(&self, page: usize) -> Result<LockedFolio> {
        let start = self.base + page * PAGE_SIZE;
        let mut folio = None;
        let mut room = Room::new()?;
        self.client().mirror().fill(
            &mut room,
            start..start + PAGE_SIZE,
            Want::Look,
            |_, _, seen| folio = seen.page().and_then(|page| page.folio()),
        )?;
        folio.ok_or(ENOENT)?.try_lock().map_err(|_| EBUSY)
    }

    /// Has the driver handle a fault at a page, on an entry that was for `folio` when it was looked at.
    pub(super) fn fault(&self, page: usize, folio: &LockedFolio) -> Result {
        let memory = self.memory()?;
        self.in_fault(page, folio, |fault| migrate::on_fault(&memory, fault))?
            .map_err(|_| EFAULT)
    }

    /// Does some work in such a fault.
    pub(super) fn in_fault<T>(
        &self,
        page: usize,
        folio: &LockedFolio,
        work: impl FnOnce(&Fault<'_>) -> T,
    ) -> Result<T> {
        let address = self.base + page * PAGE_SIZE;
        let mmap = MmapReadLock::new(&self.mm)?;
        let vma = mmap.vma(address).ok_or(EFAULT)?;
        testing::fault(vma, address, folio, work)
    }

    /// The memory of the device.
    pub(super) fn memory(&self) -> Result<Arc<ChunkPagemap>> {
        self.device.memory.chunks()?.first().cloned().ok_or(ENODEV)
    }

    /// Migrates the huge page, or part of it, as the ioctl does.
    pub(super) fn migrate(&self, range: Range<usize>, direction: Direction) -> Result<Report> {
        let npages = (range.len() / PAGE_SIZE) as u64;
        let pages = Pages::new(range.start as u64, npages, usize::MAX)?;
        let mut report = Report::default();
        migrate::migrate(self.client(), pages, direction, &mut report)?;
        Ok(report)
    }
}
