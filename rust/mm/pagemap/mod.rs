// SPDX-License-Identifier: GPL-2.0

//! Memory of a device that has `struct page`s: private (the CPU cannot reach it) or coherent.
//!
//! A [`Pagemap`] owns a range of such pages, hands them out as locked folios ([`DeviceFolio`]) and
//! takes them back when the last reference goes. Folios belong to an *owner*, a value of the driver:
//! each block of 2 MiB with a folio in use holds a counted reference to the one owner of all folios
//! in it. The range cannot go while one of its folios is in use.
//!
//! C header: [`include/linux/memremap.h`](srctree/include/linux/memremap.h)

mod device_folio;
mod region;
mod run;

pub use device_folio::DeviceFolio;
pub use region::Memory;
pub use run::Run;

use super::{
    bindings,
    fault::{
        Fault,
        FaultError, //
    },
    folio::{
        Counts,
        Folio,
        LockedFolio, //
    },
    migrate::Source,
    slots::Slots,
    HUGE_SIZE, //
};
use core::{
    any::TypeId,
    mem::offset_of,
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    page::PAGE_SHIFT,
    prelude::*,
    str::CStr,
    sync::{
        new_spinlock_irq,
        Arc,
        SpinLockIrq, //
    },
    types::Opaque, //
};
use region::Region;

/// Tells whose device memory is whose: the `owner` of pagemaps, ranges and migrations.
///
/// Only ever compared. Two devices must not use the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnerId(usize);

impl OwnerId {
    /// The identity of a value that stays where it is for as long as the identity is used.
    pub fn of<T>(value: &T) -> Self {
        OwnerId(core::ptr::from_ref(value).addr())
    }

    pub(super) fn as_raw(self) -> *mut kernel::ffi::c_void {
        core::ptr::without_provenance_mut(self.0)
    }
}

/// What a driver says about its device memory.
pub trait Driver: Sized + Send + Sync + 'static {
    /// What its memory is called in /proc/iomem.
    const NAME: &'static CStr;

    /// What the folios in use hold a reference to. Its last reference may go under a page table
    /// lock or in an interrupt, so its destructor must be fit for that: it must not sleep, nor take a
    /// lock that is taken elsewhere with interrupts on.
    type Owner: Send + Sync + 'static;

    /// Brings the folio of a CPU fault on private memory back. C: `migrate_to_ram`.
    ///
    /// Called with `mmap_lock` held for reading and the folio locked and referenced. May sleep, but
    /// others spin on the folio's lock meanwhile.
    fn migrate_to_ram(
        pagemap: &Pagemap<Self>,
        fault: &Fault<'_>,
    ) -> core::result::Result<(), FaultError>;
}

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
                        (*slot).ops = &Self::OPS;
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

    const OPS: bindings::dev_pagemap_ops = bindings::dev_pagemap_ops {
        folio_free: Some(Self::folio_free),
        migrate_to_ram: Some(Self::migrate_to_ram),
        memory_failure: None,
        folio_split: Some(Self::folio_split),
    };

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
    /// C: `zone_device_folio_init()`. `None` if there is none. Does not sleep. Fill the memory
    /// before the folio is given to a migration: it holds what the user before left. There are no huge
    /// folios of coherent memory: they cannot be selected back (K10), and when the core splits one its
    /// pages lose their pagemap, since only private memory has a callback for that.
    pub fn alloc(&self, huge: bool, owner: &Arc<T::Owner>) -> Option<DeviceFolio> {
        if !huge {
            return self.alloc_run(1, owner)?.next();
        }
        if self.memory != Memory::Private {
            return None;
        }
        let offset = self.take(owner, |slots, owner| slots.take(true, owner))?;
        // SAFETY: We just took the slots of these pages, a huge block.
        let folio = unsafe { self.init_folio(offset, super::HUGE_ORDER) };
        // SAFETY: It is new, huge, and begins there.
        Some(unsafe { DeviceFolio::new(folio, offset, true) })
    }

    /// New folios of single pages that follow each other, `most` at most and all of one huge block,
    /// each as [`Pagemap::alloc`] gives it.
    ///
    /// To take the lock for each page would cost more than the rest of it. `None` if there is none, or
    /// `most` is 0.
    pub fn alloc_run(&self, most: usize, owner: &Arc<T::Owner>) -> Option<Run<'_, T>> {
        let (first, nr) = self.take(owner, |slots, owner| slots.take_run(most, owner))?;
        // SAFETY: We just took the slots of these pages.
        Some(unsafe { Run::new(self, first..first + nr) })
    }

    /// Takes slots, if folios are handed out.
    fn take<S>(
        &self,
        owner: &Arc<T::Owner>,
        take: impl FnOnce(&mut Slots<Holder<T::Owner>>, &Holder<T::Owner>) -> Option<S>,
    ) -> Option<S> {
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
    /// The `1 << order` pages from number `offset` of the range on must have slots that the caller took
    /// and has not made a folio of; an `order` beyond 0 is [`HUGE_ORDER`](super::HUGE_ORDER), and the
    /// slots are a huge block.
    unsafe fn init_folio(&self, offset: usize, order: u32) -> LockedFolio {
        let pfn = self.pfns().start + offset;
        // SAFETY: The page is part of our registered range.
        let raw: *mut bindings::folio = unsafe { bindings::rust_dmirror_pfn_to_page(pfn) }.cast();
        // SAFETY: By the type invariants, these pages belonged to no folio when their slots were taken,
        // and nobody else makes a folio of them. The pagemap is registered.
        unsafe { bindings::rust_dmirror_zone_device_folio_init(raw, self.raw.get(), order) };
        // SAFETY: A page that has a number has a `struct page`. The folio was made with one reference,
        // locked, and both are ours.
        unsafe { LockedFolio::from_raw(NonNull::new_unchecked(raw)) }
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

    /// The owner of the page with number `offset` of the range, if it is in use.
    pub fn owner(&self, offset: usize) -> Option<Arc<T::Owner>> {
        let state = self.state.lock();
        state.slots.owner(offset).map(|holder| holder.0.clone())
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
        while let Some((page, huge)) = state.slots.next_used(*cursor, owner.as_ref()) {
            *cursor = page + 1;
            // A huge folio comes alone. A full vector cannot grow under a spinlock.
            let is_alone = !huge || pfns.len() == before;
            if !is_alone || pfns.push_within_capacity(base + page).is_err() {
                *cursor = page;
                break;
            }
            if huge {
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

    /// The pagemap that a device page belongs to and the number of the page in it, if the pagemap
    /// is one of this driver.
    ///
    /// # Safety
    ///
    /// The page `pfn` must belong to a folio with a reference that stays for `'a`.
    pub(super) unsafe fn of_pfn<'a>(pfn: usize) -> Option<(&'a Self, usize)> {
        // SAFETY: The page is in use by the requirements of this function.
        let raw = NonNull::new(unsafe { bindings::rust_dmirror_pfn_pgmap(pfn) })?.as_ptr();
        // SAFETY: The page is in use, so its pagemap stays; `ops` is set by whoever registered it.
        let ops = unsafe { (*raw).ops.as_ref() }?;
        let ours: unsafe extern "C" fn(*mut bindings::folio) = Self::folio_free;
        if !ops
            .folio_free
            .is_some_and(|free| core::ptr::fn_addr_eq(free, ours))
        {
            return None;
        }
        // Functions that compile alike may have one address, whatever their type: of another driver's
        // pagemap, nothing but what comes first may be looked at.
        // SAFETY: The operations are those of a `Pagemap` of some driver, of which `raw` is the field.
        let driver = unsafe { *raw.byte_add(offset_of!(Self, driver)).cast::<TypeId>() };
        if driver != TypeId::of::<T>() {
            return None;
        }
        // SAFETY: By the type invariants of `Pagemap`, it is a `Self`.
        let this = unsafe { Self::from_raw(raw) };
        Some((this, pfn.checked_sub(this.pfns().start)?))
    }

    /// The pagemap of a migration's source page and the number of the page in it, if the pagemap is
    /// one of this driver.
    pub fn of_source<'a>(source: &Source<'a>) -> Option<(&'a Self, usize)> {
        // SAFETY: A source is referenced and locked for its lifetime.
        unsafe { Self::of_pfn(source.pfn()) }
    }

    /// # Safety
    ///
    /// `raw` must be the field of a `Self` that lives for `'a`.
    unsafe fn from_raw<'a>(raw: *mut bindings::dev_pagemap) -> &'a Self {
        // SAFETY: By the requirements of this function; `Opaque` has the layout of what it holds.
        unsafe { &*kernel::container_of!(Opaque::cast_from(raw), Self, raw) }
    }

    /// # Safety
    ///
    /// Called by the core when the last reference on `folio`, which belongs to a pagemap with our
    /// operations, is gone.
    unsafe extern "C" fn folio_free(folio: *mut bindings::folio) {
        // SAFETY: The folio is of a pagemap of ours, which waits for it to be freed.
        let this = unsafe { Self::from_raw(bindings::rust_dmirror_folio_pgmap(folio)) };
        // SAFETY: The folio is still whole.
        let (pfn, order) = unsafe {
            (
                bindings::rust_dmirror_folio_pfn(folio),
                bindings::rust_dmirror_folio_order(folio),
            )
        };
        let first = pfn - this.pfns().start;
        this.give_back(first..first + (1 << order));
    }

    /// # Safety
    ///
    /// Called by the core on a fault at an entry for a folio of a pagemap with our operations.
    unsafe extern "C" fn migrate_to_ram(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The core holds what `Fault` asks for during this call.
        let fault = unsafe { Fault::from_raw(&*vmf) };
        // SAFETY: The folio is of a pagemap of ours, and the core holds a reference on it during this call.
        let this = unsafe { Self::from_raw(bindings::rust_dmirror_folio_pgmap(fault.folio())) };
        match T::migrate_to_ram(this, &fault) {
            Ok(()) => 0,
            Err(error) => error.as_raw(),
        }
    }

    /// # Safety
    ///
    /// Called by the core, with interrupts off, while it splits `head`: for each `tail`, and once
    /// with none at the end.
    unsafe extern "C" fn folio_split(head: *mut bindings::folio, tail: *mut bindings::folio) {
        // SAFETY: The folio is of a pagemap of ours, which stays while it is in use.
        let this = unsafe { Self::from_raw(bindings::rust_dmirror_folio_pgmap(head)) };
        // SAFETY: Pages of a range in use; the number follows from the address alone.
        let offset = unsafe { bindings::rust_dmirror_folio_pfn(head) } - this.pfns().start;
        if tail.is_null() {
            let split = this.state.lock().slots.split(offset);
            kernel::warn_on!(split.is_err());
            return;
        }
        // SAFETY: The core made `tail` out of `head`, and both are frozen.
        unsafe { bindings::rust_dmirror_folio_inherit(head, tail) };
    }
}

#[pinned_drop]
impl<T: Driver> PinnedDrop for Pagemap<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants, it is registered. This waits until no folio is in use.
        unsafe { bindings::memunmap_pages(self.raw.get()) };
    }
}
