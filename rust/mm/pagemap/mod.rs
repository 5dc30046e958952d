// SPDX-License-Identifier: GPL-2.0

//! Device memory with `struct page`s: private, which the CPU cannot reach, or coherent.
//!
//! A [`Pagemap`] owns a range of such pages. It hands them out as locked folios ([`DeviceFolio`]), and takes them
//! back when their last reference is put. Each folio has an *owner*, a value of the driver. All folios in use in a
//! block of 2 MiB have the same owner, to which the block holds a counted reference. The range stays registered while
//! a folio of it is in use.
//!
//! C header: [`include/linux/memremap.h`](srctree/include/linux/memremap.h)

mod callbacks;
mod device_folio;
mod driver;
mod region;
mod run;

pub use device_folio::DeviceFolio;
pub use driver::{
    Driver,
    OwnerId, //
};
pub use region::{
    Memory,
    SpecialPurpose, //
};
pub use run::Run;

use super::{
    bindings,
    fault::Fault,
    folio::{
        Counts,
        Folio,
        LockedFolio, //
    },
    slots::Slots,
    Size,
    HUGE_SIZE, //
};
use core::{
    any::TypeId,
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    sync::{
        new_spinlock_irq,
        Arc,
        SpinLockIrq, //
    },
    task::might_sleep,
    types::Opaque, //
};
use region::Region;

/// The owner of the folios in a block.
struct Holder<O>(Arc<O>);

impl<O> Clone for Holder<O> {
    fn clone(&self) -> Self {
        Holder(self.0.clone())
    }
}

impl<O> PartialEq for Holder<O> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Whether folios can be allocated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Closed,
    /// Closed for good.
    Retired,
}

struct State<O> {
    slots: Slots<Holder<O>>,
    door: Door,
}

/// A range of device memory.
///
/// # Invariants
///
/// - `raw` was registered by `memremap_pages()` and is unregistered on drop only.
/// - A page whose slot in `state.slots` is free belongs to no folio with a reference. The slot is taken if the page
///   belongs to such a folio or to a [`Run`], and for a moment while a folio is being made or has just been freed.
/// - `zone_device_data` of a folio in use points to its owner, to which its block has a reference.
/// - `driver` is the identity of `T`.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub struct Pagemap<T: Driver> {
    // These two are the first fields, so that they can be read without knowing `T`.
    #[pin]
    raw: Opaque<bindings::dev_pagemap>,
    driver: TypeId,
    memory: Memory,
    region: Region,
    // Interrupts are off with it held: the last reference on a page pinned for I/O may be put in an interrupt.
    #[pin]
    state: SpinLockIrq<State<T::Owner>>,
    data: T,
}

// SAFETY: Any thread may unregister a pagemap, and its fields are `Send`.
unsafe impl<T: Driver> Send for Pagemap<T> {}
// SAFETY: All methods on `&self` may be called concurrently, and the fields are `Sync`.
unsafe impl<T: Driver> Sync for Pagemap<T> {}

impl<T: Driver> Pagemap<T> {
    /// Makes device memory of `size` bytes, a multiple of [`HUGE_SIZE`]. C: `memremap_pages()`.
    ///
    /// # Errors
    ///
    /// - `EINVAL` for a bad size or address.
    /// - For coherent memory: `ENXIO` if the range is not reserved; `ENODEV` if it belongs to a bus or a device;
    ///   `EBUSY` if it is in use; `EEXIST` if it was tried before and memory was short then, after which the core
    ///   always fails (K25 in docs/defects.md).
    /// - For private memory: `ERANGE` if there is no hole in the physical address space.
    /// - `ENOMEM`.
    ///
    /// May sleep for long. No lock may be held that freeing memory needs.
    pub fn new(memory: Memory, size: usize, owner: OwnerId, data: T) -> impl PinInit<Self, Error> {
        let prepare = move || -> Result<(Region, State<T::Owner>)> {
            if size == 0 || size % HUGE_SIZE != 0 {
                return Err(EINVAL);
            }
            let state = State {
                slots: Slots::new(size / HUGE_SIZE)?,
                door: Door::Open,
            };
            Ok((Region::new(memory, size, T::NAME)?, state))
        };
        pin_init::pin_init_scope(move || {
            let (region, state) = prepare()?;
            let start = region.start;
            // INVARIANT: `driver` is the identity of `T`.
            Ok(try_pin_init!(Self {
                driver: TypeId::of::<T>(),
                memory,
                region,
                state <- new_spinlock_irq!(state, "pagemap_state"),
                data,
                // The last field: from here on the core may call the operations.
                raw <- Opaque::try_ffi_init(move |slot: *mut bindings::dev_pagemap| {
                    // SAFETY: `slot` is valid for writes, and C initialises it to zeroes as well.
                    unsafe { slot.write_bytes(0, 1) };
                    // SAFETY: `slot` was initialised above.
                    unsafe {
                        (*slot).type_ = match memory {
                            Memory::Private => bindings::MEMORY_PRIVATE,
                            Memory::Coherent(_) => bindings::MEMORY_COHERENT,
                        };
                        (*slot).ops = Self::OPS;
                        (*slot).owner = owner.as_raw();
                        bindings::rust_dmirror_pagemap_set_range(
                            slot,
                            start,
                            start + size as u64 - 1,
                        );
                    }
                    // SAFETY: `slot` is pinned, and is unregistered before it is dropped.
                    let mapped = unsafe {
                        bindings::memremap_pages(slot, bindings::rust_dmirror_numa_mem_id())
                    };
                    kernel::error::from_err_ptr(mapped).map(|_| ())
                }),
            }? Error))
        })
    }

    /// Returns the driver's data.
    pub fn data(&self) -> &T {
        &self.data
    }

    /// Returns the page frame numbers of the range.
    pub fn pfns(&self) -> Range<usize> {
        let first = self.region.start as usize >> PAGE_SHIFT;
        first..first + (self.region.size >> PAGE_SHIFT)
    }

    /// Returns the number of pages in use, and of all pages.
    pub fn usage(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.slots.used(), state.slots.total())
    }

    /// Returns whether no page of the huge block `block` is in use. Another thread may allocate one at any time.
    pub fn block_is_free(&self, block: usize) -> bool {
        self.state.lock().slots.is_free(block)
    }

    /// Makes allocations fail (true), or lets them succeed again (false).
    pub fn close(&self, closed: bool) {
        let mut state = self.state.lock();
        if state.door != Door::Retired {
            state.door = if closed { Door::Closed } else { Door::Open };
        }
    }

    /// Makes all further allocations fail if no page is in use. Returns the number of pages in use. If that is 0,
    /// dropping the pagemap does not wait.
    pub fn retire(&self) -> usize {
        let mut state = self.state.lock();
        let used = state.slots.used();
        if used == 0 {
            state.door = Door::Retired;
        }
        used
    }

    /// Allocates a folio, huge or of one page. It is locked and has one reference. `None` if none is free.
    ///
    /// The memory must be filled before the folio is given to a migration: it has the previous user's data.
    ///
    /// May sleep: the core locks the new page by `lock_page()`, although nobody else can have locked a page without
    /// references. C: `zone_device_folio_init()`.
    ///
    /// Coherent memory has no huge folios. The core cannot select them back (K10 in docs/defects.md). If it splits one,
    /// the pages lose their pagemap, since it calls `folio_split` for private memory only.
    pub fn alloc(&self, size: Size, owner: &Arc<T::Owner>) -> Option<DeviceFolio> {
        if size == Size::Page {
            return self.alloc_run(1, owner)?.next();
        }
        if self.memory != Memory::Private {
            return None;
        }
        let offset = self.take(owner, |slots, owner| slots.take(size, owner))?;
        // SAFETY: We just took the slots of these pages, a huge block, for this owner.
        Some(unsafe { self.init_folio(offset, size, owner) })
    }

    /// Allocates up to `most` consecutive single pages of one huge block. The iterator makes a folio of each, as
    /// [`Pagemap::alloc`] returns it. `None` if no page is free, or if `most` is 0.
    ///
    /// This takes the lock once for all pages; once for each would be most of the cost.
    pub fn alloc_run<'a>(&'a self, most: usize, owner: &'a Arc<T::Owner>) -> Option<Run<'a, T>> {
        let (first, nr) = self.take(owner, |slots, owner| slots.take_run(most, owner))?;
        // SAFETY: We just took the slots of these pages, for this owner.
        Some(unsafe { Run::new(self, owner, first..first + nr) })
    }

    /// Takes slots, unless the pagemap is closed.
    fn take<S>(
        &self,
        owner: &Arc<T::Owner>,
        take: impl FnOnce(&mut Slots<Holder<T::Owner>>, &Holder<T::Owner>) -> Option<S>,
    ) -> Option<S> {
        // Making a folio of the slots may.
        might_sleep();
        let owner = Holder(owner.clone());
        let mut state = self.state.lock();
        match state.door {
            Door::Open => take(&mut state.slots, &owner),
            Door::Closed | Door::Retired => None,
        }
    }

    /// Makes a folio of pages whose slots were taken.
    ///
    /// # Safety
    ///
    /// The pages are those from page `offset` of the range on, as many as `size` says. The caller must have taken their
    /// slots for `owner` and not made a folio of them. If `size` is huge, they must be a huge block.
    unsafe fn init_folio(&self, offset: usize, size: Size, owner: &Arc<T::Owner>) -> DeviceFolio {
        let pfn = self.pfns().start + offset;
        // SAFETY: The page is part of our registered range.
        let raw: *mut bindings::folio = unsafe { bindings::rust_dmirror_pfn_to_page(pfn) }.cast();
        let owner = Arc::as_ptr(owner).cast_mut().cast();
        // INVARIANT: The block of these slots has a reference to `owner`.
        // SAFETY: By the type invariants, these pages belonged to no folio when their slots were taken,
        // and nobody else makes a folio of them. The pagemap is registered.
        unsafe {
            bindings::rust_dmirror_zone_device_folio_init(raw, self.raw.get(), size.order(), owner)
        };
        // SAFETY: A page with a page frame number has a `struct page`. The folio was just made, locked and with one
        // reference, and both are ours.
        let folio = unsafe { LockedFolio::from_raw(NonNull::new_unchecked(raw)) };
        // SAFETY: The folio is new, has this size, and its first page is page `offset`, with this `pfn`.
        unsafe { DeviceFolio::new(folio, pfn, offset, size) }
    }

    /// Frees the slots of pages that no longer belong to a folio.
    fn give_back(&self, pages: Range<usize>) {
        if pages.is_empty() {
            return;
        }
        let put = self.state.lock().slots.put(pages.start, pages.len());
        // The owner's destructor, if this was the last reference, runs after the lock is released.
        kernel::warn_on!(put.is_err());
    }

    /// Returns whether a folio of the largest size could be allocated. Another thread may allocate it at any time.
    pub fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.door == Door::Open
            && match self.memory {
                Memory::Private => state.slots.has_free_block(),
                Memory::Coherent(_) => state.slots.used() < state.slots.total(),
            }
    }

    /// Returns the number of pages in use by folios of an owner.
    pub fn owned_by(&self, owner: &Arc<T::Owner>) -> usize {
        let owner = Holder(owner.clone());
        self.state.lock().slots.used_by(&owner)
    }

    /// Returns the owner of the folio of a CPU fault, if it is a folio of this pagemap. Takes no lock.
    pub fn owner_of<'a>(&self, fault: &Fault<'a>) -> Option<&'a T::Owner> {
        if fault.pgmap() != self.raw.get() {
            return None;
        }
        // SAFETY: By the type invariants, `zone_device_data` points to the folio's owner, to which its block has a
        // reference until the folio is freed. The core holds a reference on the folio for `'a`.
        unsafe {
            bindings::rust_dmirror_page_zone_device_data(fault.page())
                .cast::<T::Owner>()
                .as_ref()
        }
    }

    /// Appends the page frame numbers of folios in use to `pfns`, from page `*cursor` of the range on, until `pfns` is
    /// full or a huge folio was appended. Moves `cursor` behind the last one.
    ///
    /// If an owner is given, lists only its folios. Returns the number of folios that were appended, 0 at the end of
    /// the range. A listed page may be free again, or not be a folio yet, when the caller uses it.
    pub fn in_use(
        &self,
        owner: Option<&Arc<T::Owner>>,
        cursor: &mut usize,
        pfns: &mut KVec<usize>,
    ) -> usize {
        let base = self.pfns().start;
        let owner = owner.map(|owner| Holder(owner.clone()));
        let state = self.state.lock();
        let before = pfns.len();
        while let Some((page, size)) = state.slots.next_used(*cursor, owner.as_ref()) {
            *cursor = page + 1;
            // A huge folio comes alone. A full vector cannot grow under a spinlock.
            let is_alone = size == Size::Page || pfns.len() == before;
            if !is_alone || pfns.push_within_capacity(base + page).is_err() {
                *cursor = page;
                break;
            }
            if size == Size::Huge {
                break;
            }
        }
        pfns.len() - before
    }

    /// Returns the counts of the folio that a page of the range belongs to, not counting the reference that this takes
    /// meanwhile. `None` if the page is not in use.
    pub fn inspect(&self, pfn: usize) -> Option<Counts> {
        if !self.pfns().contains(&pfn) {
            return None;
        }
        // SAFETY: The page is part of our registered range.
        let folio = unsafe { Folio::try_get_pfn(pfn) }?;
        let counts = folio.counts();
        Some(Counts {
            refs: counts.refs - 1,
            ..counts
        })
    }
}

#[pinned_drop]
impl<T: Driver> PinnedDrop for Pagemap<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants, the range is registered. This waits until no folio is in use.
        unsafe { bindings::memunmap_pages(self.raw.get()) };
    }
}
