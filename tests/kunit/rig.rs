// SPDX-License-Identifier: GPL-2.0

//! A device of its own, without a node, an open file on it, and 2 MiB of anonymous memory.

use super::log::Log;
use crate::{
    device::{
        Device,
        Kind, //
    },
    devmem::Chunk,
    file::File,
    inject::Point,
    layer::mm::{
        folio::{
            Counts,
            SystemFolio, //
        },
        hmm::Want,
        lock::{
            anon_rss,
            MmapReadLock, //
        },
        migrate::{
            Batch,
            Collected,
            Destination,
            Select,
            Source, //
        },
        pagemap::DeviceFolio,
        testing,
        HUGE_PAGES,
        HUGE_SIZE, //
    },
    ledger::Ledger,
    migrate::{
        self,
        Direction,
        Report, //
    },
    range::Pages, //
};
use core::ops::Range;
use kernel::{
    mm::{
        virt::VmaRef,
        MmWithUser, //
    },
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
    /// The huge page.
    pub(super) base: usize,
}

/// Where in a page something is written, and what.
fn word(page: usize) -> (usize, u64) {
    (8 * (page % 500), 0x1234_5678_0000_0000 | page as u64)
}

impl Rig {
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
        let device = Device::new(0, Kind::Private, ledger.clone())?;
        let rig = Rig {
            file: File::new(device.clone(), &mm)?,
            device,
            mm,
            ledger,
            base: area.next_multiple_of(HUGE_SIZE),
        };
        rig.device.memory.make_room(rig.device.core());
        let mut log = Log::default();
        let done = case(&rig, &mut log);
        rig.file.owner().inject.clear();
        testing::unmap(area, 2 * HUGE_SIZE)?;
        log.check(rig.rss() == 0, "no page is counted after unmap")?;
        log.check(rig.ledger.totals().1 == 0, "the ledger found no mismatch")?;
        let Rig { file, device, .. } = rig;
        drop(file);
        let is_free = device.memory.usage().1 == 0;
        log.check(is_free, "no folio is missing from the device")?;
        if is_free {
            log.check(device.release().is_ok(), "the device gives its memory up")?;
        } else {
            // To wait for what was leaked would be to wait for ever.
            core::mem::forget(device);
        }
        done?;
        Ok(log)
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Arms an injection point for this file.
    pub(super) fn inject(&self, point: Point, skip: u64, times: u64) {
        self.file.owner().inject.arm(point, skip, times);
    }

    /// Anonymous pages of the mm.
    pub(super) fn rss(&self) -> usize {
        anon_rss(&self.mm)
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

    fn word(&self, page: usize) -> (UserSlice, u64) {
        let (offset, value) = word(page);
        let address = self.base + page * PAGE_SIZE + offset;
        (UserSlice::new(UserPtr::from_addr(address), 8), value)
    }

    /// Writes something into every page, as the process would.
    pub(super) fn write_pattern(&self) -> Result {
        for page in 0..HUGE_PAGES {
            let (slice, value) = self.word(page);
            slice.writer().write(&value)?;
        }
        Ok(())
    }

    /// Reads a page, as the process would; says whether it holds what was written.
    pub(super) fn read_page(&self, page: usize) -> Result<bool> {
        let (slice, value) = self.word(page);
        Ok(slice.reader().read::<u64>()? == value)
    }

    /// Whether all pages of a range hold what was written.
    pub(super) fn has_pattern(&self, mut pages: Range<usize>) -> Result<bool> {
        pages.try_fold(true, |so_far, page| Ok(self.read_page(page)? && so_far))
    }

    /// The folio that is mapped at a page.
    pub(super) fn look(&self, page: usize) -> Result<Counts> {
        let start = self.base + page * PAGE_SIZE;
        let mut counts = Err(ENOENT);
        self.file
            .mirror()
            .fill(start..start + PAGE_SIZE, Want::Look, true, |_, seen| {
                counts = seen.page().map(|page| page.counts()).ok_or(ENOENT);
            })?;
        counts
    }

    /// Notes the folio that is mapped at a page.
    pub(super) fn note_mapped(&self, log: &mut Log, stage: &'static str, page: usize) -> Result {
        log.note_rss(stage, self.look(page)?, self.rss())
    }

    /// Collects the huge page, or part of it, and lets `then` go on from there.
    pub(super) fn collect<T>(
        &self,
        batch: &mut Batch,
        range: Range<usize>,
        select: Select,
        then: impl FnOnce(Collected<'_>, &VmaRef) -> Result<T>,
    ) -> Result<T> {
        let mmap = MmapReadLock::new(&self.mm)?;
        let vma = mmap.vma(range.start).ok_or(EFAULT)?;
        let owner = self.device.core().owner();
        let collected = batch.setup(vma, range, select, true, owner, None)?;
        then(collected, vma)
    }

    /// A filled destination on the device.
    pub(super) fn device_folio(
        &self,
        source: Option<Source<'_>>,
        huge: bool,
    ) -> Result<Destination> {
        let folio = self.device.memory.alloc(huge, self.file.owner())?;
        Ok(Destination::Device(folio.fill(source)?))
    }

    /// Whether the device holds what was written to the pages, from page `first` on.
    pub(super) fn device_has_pattern(&self, folio: &DeviceFolio, first: usize) -> Result<bool> {
        let chunk = folio.pagemap::<Chunk>().ok_or(EINVAL)?.data();
        let mut page = KVVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
        for at in 0..folio.folio().pfns().len() {
            chunk.read(folio.offset() + at, &mut page)?;
            let (offset, value) = word(first + at);
            if page[offset..offset + 8] != value.to_ne_bytes() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A filled destination in system memory.
    pub(super) fn system_folio(&self, source: &Source<'_>, huge: bool) -> Result<Destination> {
        let folio = SystemFolio::anywhere(huge)?;
        let faults = self.file.faults();
        migrate::fill::copy_back(&faults, source, folio).map_err(|_| EIO)
    }

    /// Migrates the huge page, or part of it, as the ioctl does.
    pub(super) fn migrate(&self, range: Range<usize>, direction: Direction) -> Result<Report> {
        let npages = (range.len() / PAGE_SIZE) as u64;
        let pages = Pages::new(range.start as u64, npages, usize::MAX)?;
        let mut report = Report::default();
        migrate::migrate(&self.file, pages, direction, &mut report)?;
        Ok(report)
    }
}
