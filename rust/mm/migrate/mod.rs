// SPDX-License-Identifier: GPL-2.0

//! Migrates a range of addresses to device memory or back.
//!
//! The types follow the protocol of C:
//!
//! - [`Batch::setup`] returns [`Collected`]: the sources, locked and unmapped.
//! - [`Collected::give`] gives a locked and filled destination to an entry, which owns it from then on.
//! - [`Collected::commit`] migrates and returns [`Committed`], which has the outcome of each entry.
//! - Dropping [`Committed`] finalizes. Dropping [`Collected`] frees every destination and finalizes, so that nothing
//!   migrates.
//!
//! There is no other way to finalize. It therefore never runs with a destination that `migrate_vma_pages()` has not
//! seen (K1 in docs/defects.md).
//!
//! C header: [`include/linux/migrate.h`](srctree/include/linux/migrate.h)

mod collected;
mod committed;
mod entries;
mod setup;
mod source;

pub use collected::{
    Collected,
    Destination,
    Kind, //
};
pub use committed::{
    Committed,
    Outcome, //
};
pub use source::Source;

use super::{
    bindings,
    fault::Fault,
    lock::Vma,
    mpfn::Mpfn,
    pagemap::OwnerId,
    HUGE_PAGES,
    HUGE_SIZE, //
};
use core::ops::Range;
use entries::{
    Arrays,
    Entries, //
};
use kernel::{
    error::to_result,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*, //
};
use setup::{
    By,
    Keeps,
    Setup, //
};

/// The pages to migrate. C: `enum migrate_vma_direction`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Select {
    /// Pages of system memory, to a device.
    System,
    /// Pages of private memory of the device with the given owner.
    DevicePrivate,
    /// Pages of coherent memory of the device with the given owner.
    DeviceCoherent,
}

/// The arrays of a migration, to be allocated once and used for many.
///
/// They are twice as long as the largest migration: if page tables are freed while the core collects, it may collect
/// a range twice (K9 in docs/defects.md).
///
/// # Invariants
///
/// All arrays have the same length.
pub struct Batch {
    src: Entries,
    dst: Entries,
    before: Entries,
    setup: Setup,
}

impl Batch {
    /// Allocates the arrays for migrations of up to one huge page. May sleep.
    pub fn new() -> Result<Self> {
        Self::for_pages(HUGE_PAGES)
    }

    /// Allocates the arrays for migrations of up to `npages` pages. May sleep.
    pub fn for_pages(npages: usize) -> Result<Self> {
        let npages = npages.min(HUGE_PAGES);
        // INVARIANT: All are for `npages` pages.
        Ok(Batch {
            src: Entries::new(npages)?,
            dst: Entries::new(npages)?,
            before: Entries::new(npages)?,
            setup: Setup::default(),
        })
    }

    /// Returns the number of pages that a migration may have at most.
    pub(super) fn room(&self) -> usize {
        self.src.len() / 2
    }

    /// Collects, locks and unmaps the pages at `range`. C: `migrate_vma_setup()`. Sleeps.
    ///
    /// `range` must be within `vma` and within one huge page, and not larger than the batch. With `compound`, huge
    /// folios are collected whole. Without it, the core splits them first, in every process that maps them.
    ///
    /// Pages that are pinned, locked or of another kind are skipped; that is no error. Pages that must not leave
    /// system memory (see [`super::leave`]) are locked and unmapped, but take no destination and count as not
    /// collected. A hole where no huge page is allowed is collected page by page.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a bad range or a VMA that cannot be migrated (hugetlbfs, DAX, special mappings); `EAGAIN` if the
    /// page tables changed while the core collected.
    pub fn setup<'a>(
        &'a mut self,
        vma: Vma<'a>,
        range: Range<usize>,
        select: Select,
        compound: bool,
        owner: OwnerId,
    ) -> Result<Collected<'a>> {
        self.collect(vma, range, select, compound, owner, None)
    }

    /// As [`Batch::setup`], for a CPU fault on private memory, whose folio the core has locked already. Collects the
    /// page that faulted and the following ones of `range`, or a huge mapping whole.
    ///
    /// # Errors
    ///
    /// As [`Batch::setup`], and `EINVAL` if `range` does not begin where the fault's own range does.
    pub fn setup_fault<'a>(
        &'a mut self,
        fault: &'a Fault<'a>,
        range: Range<usize>,
        owner: OwnerId,
    ) -> Result<Collected<'a>> {
        if range.start != fault.range().start {
            return Err(EINVAL);
        }
        // Without COMPOUND, a fault on a huge mapping would be repeated for ever (K5).
        let (select, compound) = (Select::DevicePrivate, fault.is_huge());
        self.collect(
            fault.collectable_vma(),
            range,
            select,
            compound,
            owner,
            Some(fault),
        )
    }

    fn collect<'a>(
        &'a mut self,
        vma: Vma<'a>,
        range: Range<usize>,
        select: Select,
        compound: bool,
        owner: OwnerId,
        fault: Option<&'a Fault<'a>>,
    ) -> Result<Collected<'a>> {
        let is_good = range.start < range.end
            && (range.end - range.start) >> PAGE_SHIFT <= self.room()
            && range.start % PAGE_SIZE == 0
            && range.end % PAGE_SIZE == 0
            && range.start / HUGE_SIZE == (range.end - 1) / HUGE_SIZE;
        if !is_good {
            return Err(EINVAL);
        }
        let mut flags = match select {
            Select::System => bindings::MIGRATE_VMA_SELECT_SYSTEM,
            Select::DevicePrivate => bindings::MIGRATE_VMA_SELECT_DEVICE_PRIVATE,
            Select::DeviceCoherent => bindings::MIGRATE_VMA_SELECT_DEVICE_COHERENT,
        };
        if compound {
            flags |= bindings::MIGRATE_VMA_SELECT_COMPOUND;
        }
        let npages = (range.end - range.start) >> PAGE_SHIFT;
        let by = match fault {
            Some(_) => By::Fault,
            None => By::Address,
        };
        self.setup.begin(by, select == Select::System);
        let args = &mut self.setup.args;
        *args = bindings::migrate_vma {
            vma: vma.as_ptr(),
            dst: self.dst.as_mut_ptr(),
            src: self.src.as_mut_ptr(),
            cpages: 0,
            npages: 0,
            start: range.start,
            end: range.end,
            pgmap_owner: owner.as_raw(),
            flags,
            fault_page: fault.map_or(core::ptr::null_mut(), Fault::page),
        };
        // SAFETY: `mmap_lock` is held by the invariants of `Vma`, for as long as `'a`; the arrays have
        // room for twice the pages.
        to_result(unsafe { bindings::migrate_vma_setup(args) })?;
        let mut collected = args.npages;
        if select == Select::System {
            if collected == npages && Mpfn::from_raw(self.src[0]).is_huge_hole() {
                collected = self.collect_hole(vma, range.start)?;
            }
            self.setup.keeps = Keeps::of(vma);
        }
        // SAFETY: The core has set up `collected` entries, and no destinations. What its arguments refer to
        // stays for `'a`.
        let this = unsafe { self.collected(collected) };
        if collected != npages {
            // Dropping `this` maps all pages again.
            return Err(EAGAIN);
        }
        Ok(this)
    }

    /// Collects a huge hole again: page by page if no huge page may be made there. Nothing was locked the first time.
    /// Returns the number of entries.
    #[inline(never)]
    fn collect_hole(&mut self, vma: Vma<'_>, start: usize) -> Result<usize> {
        let args = &mut self.setup.args;
        if !vma.may_fill_holes() {
            return Ok(args.npages);
        }
        if !vma.may_make_huge(start) {
            args.flags &= !bindings::MIGRATE_VMA_SELECT_COMPOUND;
        }
        // SAFETY: As for the first call. That one collected a hole, so nothing is locked that had to be finalized.
        to_result(unsafe { bindings::migrate_vma_setup(args) })?;
        Ok(args.npages)
    }

    /// Collects, locks and unmaps the device pages that are listed in the first `len` entries of
    /// [`Batch::listed`]. C: `migrate_device_pfns()`. Sleeps.
    ///
    /// # Safety
    ///
    /// The entries must be page frame numbers of a pagemap that stays registered for `'a`.
    pub(super) unsafe fn setup_listed(&mut self, len: usize) -> Result<Collected<'_>> {
        if !(1..=self.room()).contains(&len) {
            return Err(EINVAL);
        }
        self.setup.begin(By::Device, false);
        // SAFETY: By the requirements of this function. There are `len` entries, as was just checked.
        to_result(unsafe { bindings::migrate_device_pfns(self.listed().as_mut_ptr(), len) })?;
        self.dst[..len].fill(0);
        // SAFETY: The core has set up `len` entries, and there are no destinations.
        Ok(unsafe { self.collected(len) })
    }

    /// Returns the array in which device pages are listed.
    pub(super) fn listed(&mut self) -> &mut [usize] {
        &mut self.src
    }

    /// # Safety
    ///
    /// The core must have set up `len` entries, within the arrays, as `self.setup` says, without destinations. What
    /// `self.setup` refers to must stay for the lifetime of the returned value.
    unsafe fn collected(&mut self, len: usize) -> Collected<'_> {
        let arrays = Arrays::new(&mut self.src, &mut self.dst, &mut self.before, len);
        // SAFETY: By the requirements of this function.
        unsafe { Collected::new(arrays, &mut self.setup) }
    }
}
