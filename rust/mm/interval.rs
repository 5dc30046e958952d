// SPDX-License-Identifier: GPL-2.0

//! Interval notifiers: being told before the mapping of an address range changes.
//!
//! C header: [`include/linux/mmu_notifier.h`](srctree/include/linux/mmu_notifier.h)

use super::{
    bindings,
    pagemap::OwnerId, //
};
use core::ops::Range;
use kernel::{
    error::to_result,
    mm::{
        Mm,
        MmWithUser, //
    },
    page::PAGE_MASK,
    prelude::*,
    sync::aref::ARef,
    types::Opaque, //
};

/// Why a mapping is about to change, as far as a device treats reasons differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A migration by the device with this owner. C: `MMU_NOTIFY_MIGRATE`.
    Migrate,
    /// A page is made exclusive to a device by the device with this owner.
    /// C: `MMU_NOTIFY_EXCLUSIVE`.
    Exclusive,
    /// Anything else.
    Other,
}

/// A change of a mapping that is about to happen.
pub struct Event<'a> {
    notifier: *mut bindings::mmu_interval_notifier,
    range: &'a bindings::mmu_notifier_range,
    seq: usize,
}

impl Event<'_> {
    /// The addresses, in bytes.
    pub fn range(&self) -> Range<usize> {
        self.range.start..self.range.end
    }

    /// Whether the callback may sleep.
    pub fn may_block(&self) -> bool {
        // SAFETY: The range is valid during the callback.
        unsafe { bindings::rust_dmirror_range_blockable(self.range) }
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        match self.range.event {
            bindings::NOTIFY_MIGRATE => Reason::Migrate,
            bindings::NOTIFY_EXCLUSIVE => Reason::Exclusive,
            _ => Reason::Other,
        }
    }

    /// Whether the device with this owner caused it.
    pub fn is_by(&self, owner: OwnerId) -> bool {
        self.range.owner == owner.as_raw()
    }

    /// Makes readers that began before fail. C: `mmu_interval_set_seq()`.
    ///
    /// To be called under the lock under which readers ask [`Notifier::read_retry`].
    pub fn set_seq(&self) {
        // SAFETY: We are in the callback of this notifier, which is when this may be called.
        unsafe { bindings::rust_dmirror_interval_set_seq(self.notifier, self.seq) };
    }
}

/// Somebody who wants to be told.
///
/// It borrows nothing: a notifier that is forgotten goes on calling.
pub trait Invalidate: Send + Sync + 'static {
    /// Drops everything that was derived from the mapping of the event's range.
    ///
    /// Called with locks of the mm held, maybe out of reclaim: it must not allocate memory that
    /// may need reclaim, nor wait for what does. Returns false, having done nothing, if it would
    /// have to sleep and [`Event::may_block`] says no.
    fn invalidate(&self, event: &Event<'_>) -> bool;
}

/// A registered notifier for a whole address space.
///
/// # Invariants
///
/// `raw` is registered from the end of the initialisation until drop.
#[pin_data(PinnedDrop)]
pub struct Notifier<T: Invalidate> {
    #[pin]
    data: T,
    mm: ARef<Mm>,
    #[pin]
    raw: Opaque<bindings::mmu_interval_notifier>,
}

// SAFETY: It may be removed by any thread.
unsafe impl<T: Invalidate> Send for Notifier<T> {}
// SAFETY: The methods on `&self` are thread safe in C.
unsafe impl<T: Invalidate> Sync for Notifier<T> {}

impl<T: Invalidate> Notifier<T> {
    /// Registers for all of `mm`. C: `mmu_interval_notifier_insert()`. Sleeps.
    pub fn new<'a, I: PinInit<T>>(
        mm: &'a MmWithUser,
        data: I,
    ) -> impl PinInit<Self, Error> + use<'a, T, I> {
        try_pin_init!(Self {
            data <- data,
            mm: ARef::from(&**mm),
            // Last: from here on the core may call back.
            raw <- Opaque::try_ffi_init(move |slot: *mut bindings::mmu_interval_notifier| {
                // SAFETY: `slot` is ours to write, and pinned until drop, which removes it. The mm
                // has users since `mm` is a reference.
                to_result(unsafe {
                    bindings::mmu_interval_notifier_insert(
                        slot,
                        mm.as_raw(),
                        0,
                        usize::MAX & PAGE_MASK,
                        Self::OPS,
                    )
                })
            }),
        }? Error)
    }

    /// What C keeps a pointer to. Its type, a reference that is `'static`, is the check that it stays: the
    /// compiler refuses a constant that it cannot keep. A test could not tell.
    const OPS: &'static bindings::mmu_interval_notifier_ops = &{
        let mut ops: bindings::mmu_interval_notifier_ops = pin_init::zeroed();
        ops.invalidate = Some(Self::invalidate);
        ops
    };

    /// What was given to [`Notifier::new`].
    pub fn data(&self) -> &T {
        &self.data
    }

    /// The address space.
    pub fn mm(&self) -> &ARef<Mm> {
        &self.mm
    }

    pub(super) fn as_raw(&self) -> *mut bindings::mmu_interval_notifier {
        self.raw.get()
    }

    /// Begins to read the mapping; waits for changes in progress. C: `mmu_interval_read_begin()`.
    ///
    /// Sleeps; must not be called with a lock held that [`Invalidate::invalidate`] takes.
    pub fn read_begin(&self) -> usize {
        // SAFETY: It is registered by the type invariants.
        unsafe { bindings::mmu_interval_read_begin(self.as_raw()) }
    }

    /// Whether what was read since `seq` is stale. C: `mmu_interval_read_retry()`.
    ///
    /// To be called under the lock that [`Invalidate::invalidate`] takes.
    pub fn read_retry(&self, seq: usize) -> bool {
        // SAFETY: It is registered by the type invariants.
        unsafe { bindings::rust_dmirror_interval_read_retry(self.as_raw(), seq) }
    }

    /// # Safety
    ///
    /// Called by the core for a notifier that was registered by [`Notifier::new`].
    unsafe extern "C" fn invalidate(
        raw: *mut bindings::mmu_interval_notifier,
        range: *const bindings::mmu_notifier_range,
        seq: usize,
    ) -> bool {
        // SAFETY: `raw` is the field of a `Self` that is registered, so it is initialised and
        // alive. `Opaque` has the layout of what it holds.
        let this = unsafe { &*kernel::container_of!(Opaque::cast_from(raw), Self, raw) };
        let event = Event {
            notifier: raw,
            // SAFETY: The range is valid during the callback.
            range: unsafe { &*range },
            seq,
        };
        this.data.invalidate(&event)
    }
}

#[pinned_drop]
impl<T: Invalidate> PinnedDrop for Notifier<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants, it is registered; it is removed only here. This waits
        // until no callback is running.
        unsafe { bindings::mmu_interval_notifier_remove(self.as_raw()) };
    }
}
