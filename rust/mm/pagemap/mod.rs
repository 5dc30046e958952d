// SPDX-License-Identifier: GPL-2.0

//! Memory of a device that has `struct page`s: private (the CPU cannot reach it) or coherent.
//!
//! A [`Pagemap`] owns a range of such pages, hands them out as locked folios ([`DeviceFolio`]) and
//! takes them back when the last reference goes. Folios belong to an *owner*, a value of the driver:
//! each block of 2 MiB with a folio in use holds a counted reference to the one owner of all folios
//! in it. The range cannot go while one of its folios is in use.
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

/// Whose pages they are.
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

/// Whether folios are handed out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Closed,
    /// For good.
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
/// - A page whose slot in `state.slots` is free belongs to no folio with a reference. The slot of a
///   page that does is taken, as are those of a [`Run`], and for a moment those of a folio that is
///   being made or has just been freed.
/// - `zone_device_data` of a folio in use points to its owner, the one that its block has a reference to.
/// - `driver` is the identity of `T`.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub struct Pagemap<T: Driver> {
    // These two come first, so that they are found without knowing `T`.
    #[pin]
    raw: Opaque<bindings::dev_pagemap>,
    driver: TypeId,
    memory: Memory,
    region: Region,
    // The last reference on a page that was pinned for I/O may be put in an interrupt.
    #[pin]
    state: SpinLockIrq<State<T::Owner>>,
    data: T,
}

// SAFETY: A pagemap may be unregistered by any thread; what is in it is `Send`.
unsafe impl<T: Driver> Send for Pagemap<T> {}
// SAFETY: All methods on `&self` are written for concurrent use; what is in it is `Sync`.
unsafe impl<T: Driver> Sync for Pagemap<T> {}

impl<T: Driver> Pagemap<T> {
    /// Makes `size` bytes of device memory, a multiple of [`HUGE_SIZE`]. C: `memremap_pages()`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a bad size or address; `ENXIO` if what is to be coherent memory is not reserved; `ENODEV` if it
    /// belongs to a bus or a device; `EBUSY` if somebody uses it; `EEXIST` if memory was short for it before, which the
    /// core does not get over (K25); `ERANGE` if there is no hole for private memory; `ENOMEM`.
    ///
    /// May sleep for long, and must not be called with locks held that freeing memory needs.
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
            // INVARIANT: That is the identity of `T`.
            Ok(try_pin_init!(Self {
                driver: TypeId::of::<T>(),
                memory,
                region,
                state <- new_spinlock_irq!(state, "pagemap_state"),
                data,
                // Last: from here on the core may call back.
                raw <- Opaque::try_ffi_init(move |slot: *mut bindings::dev_pagemap| {
                    // SAFETY: `slot` is ours to write; all zeroes is what C starts from.
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
                    // SAFETY: `slot` is pinned, and unregistered before it goes.
                    let mapped = unsafe {
                        bindings::memremap_pages(slot, bindings::rust_dmirror_numa_mem_id())
                    };
                    kernel::error::from_err_ptr(mapped).map(|_| ())
                }),
            }? Error))
        })
    }

    /// The driver's own.
    pub fn data(&self) -> &T {
        &self.data
    }

    /// The page frame numbers of the range.
    pub fn pfns(&self) -> Range<usize> {
        let first = self.region.start as usize >> PAGE_SHIFT;
        first..first + (self.region.size >> PAGE_SHIFT)
    }

    /// Pages in use, and in all.
    pub fn usage(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.slots.used(), state.slots.total())
    }

    /// Whether no page of the huge block `block` is in use. True only until somebody takes one.
    pub fn block_is_free(&self, block: usize) -> bool {
        self.state.lock().slots.is_free(block)
    }

    /// Hands out no more folios (true), or hands them out again.
    pub fn close(&self, closed: bool) {
        let mut state = self.state.lock();
        if state.door != Door::Retired {
            state.door = if closed { Door::Closed } else { Door::Open };
        }
    }

    /// Hands out no more folios, ever, if none is in use; gives how many pages are. From then on, it
    /// can be dropped without waiting for anybody.
    pub fn retire(&self) -> usize {
        let mut state = self.state.lock();
        let used = state.slots.used();
        if used == 0 {
            state.door = Door::Retired;
        }
        used
    }

    /// A new folio of the range, huge or of one page, locked, with one reference.
    ///
    /// C: `zone_device_folio_init()`. `None` if there is none. Only where one may sleep: the core locks the new
    /// page by `lock_page()`. It is not waited for, since who locks a page has a reference on it, and this one
    /// has none, but the core insists. Fill the memory before the folio is given to a migration: it holds what the user before left. There are no huge
    /// folios of coherent memory: they cannot be selected back (K10), and when the core splits one its
    /// pages lose their pagemap, since only private memory has a callback for that.
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

    /// New folios of single pages that follow each other, `most` at most and all of one huge block,
    /// each as [`Pagemap::alloc`] gives it.
    ///
    /// To take the lock for each page would cost more than the rest of it. `None` if there is none, or
    /// `most` is 0.
    pub fn alloc_run<'a>(&'a self, most: usize, owner: &'a Arc<T::Owner>) -> Option<Run<'a, T>> {
        let (first, nr) = self.take(owner, |slots, owner| slots.take_run(most, owner))?;
        // SAFETY: We just took the slots of these pages, for this owner.
        Some(unsafe { Run::new(self, owner, first..first + nr) })
    }

    /// Takes slots, if folios are handed out.
    fn take<S>(
        &self,
        owner: &Arc<T::Owner>,
        take: impl FnOnce(&mut Slots<Holder<T::Owner>>, &Holder<T::Owner>) -> Option<S>,
    ) -> Option<S> {
        // What makes a folio of them may.
        might_sleep();
        let owner = Holder(owner.clone());
        let mut state = self.state.lock();
        match state.door {
            Door::Open => take(&mut state.slots, &owner),
            Door::Closed | Door::Retired => None,
        }
    }

    /// Makes a folio of pages without one.
    ///
    /// # Safety
    ///
    /// The pages from number `offset` of the range on, as many as `size` says, must have slots that the
    /// caller took for `owner` and has not made a folio of; those of a huge folio are a huge block.
    unsafe fn init_folio(&self, offset: usize, size: Size, owner: &Arc<T::Owner>) -> DeviceFolio {
        let pfn = self.pfns().start + offset;
        // SAFETY: The page is part of our registered range.
        let raw: *mut bindings::folio = unsafe { bindings::rust_dmirror_pfn_to_page(pfn) }.cast();
        let owner = Arc::as_ptr(owner).cast_mut().cast();
        // INVARIANT: The block of these slots has a reference to this owner.
        // SAFETY: By the type invariants, these pages belonged to no folio when their slots were taken,
        // and nobody else makes a folio of them. The pagemap is registered.
        unsafe {
            bindings::rust_dmirror_zone_device_folio_init(raw, self.raw.get(), size.order(), owner)
        };
        // SAFETY: A page that has a number has a `struct page`. The folio was made with one reference,
        // locked, and both are ours.
        let folio = unsafe { LockedFolio::from_raw(NonNull::new_unchecked(raw)) };
        // SAFETY: It is new, of this size, and begins there.
        unsafe { DeviceFolio::new(folio, pfn, offset, size) }
    }

    /// Gives slots back whose pages have no folio any more.
    fn give_back(&self, pages: Range<usize>) {
        if pages.is_empty() {
            return;
        }
        let put = self.state.lock().slots.put(pages.start, pages.len());
        // The owner's destructor, if this was the last reference, runs after the lock is released.
        kernel::warn_on!(put.is_err());
    }

    /// Whether a folio of the largest kind there is could be handed out. True only until somebody takes
    /// it.
    pub fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.door == Door::Open
            && match self.memory {
                Memory::Private => state.slots.has_free_block(),
                Memory::Coherent(_) => state.slots.used() < state.slots.total(),
            }
    }

    /// Pages in use by folios of an owner.
    pub fn owned_by(&self, owner: &Arc<T::Owner>) -> usize {
        let owner = Holder(owner.clone());
        self.state.lock().slots.used_by(&owner)
    }

    /// The owner of the folio that a CPU fault wants, if it is one of this pagemap. No lock is taken.
    pub fn owner_of<'a>(&self, fault: &Fault<'a>) -> Option<&'a T::Owner> {
        if fault.pgmap() != self.raw.get() {
            return None;
        }
        // SAFETY: By our invariants, that is the owner of the folio, to which its block has a reference
        // until the folio is free. The core holds a reference on the folio for `'a`.
        unsafe {
            bindings::rust_dmirror_page_zone_device_data(fault.page())
                .cast::<T::Owner>()
                .as_ref()
        }
    }

    /// Appends the page frame numbers of folios in use to `pfns`, from page `*cursor` of the range
    /// on, until `pfns` is full or a huge folio was appended; moves `cursor` behind them.
    ///
    /// Only those of `owner`, if given. Gives the number appended: 0 at the end of the range. What is
    /// listed may be free again, or not be a folio yet, by the time it is looked at.
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

    /// The counts of the folio that holds a page of the range, without the reference taken to look;
    /// `None` if it is not in use.
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
        // SAFETY: By the type invariants, it is registered. This waits until no folio is in use.
        unsafe { bindings::memunmap_pages(self.raw.get()) };
    }
}
