// SPDX-License-Identifier: GPL-2.0

//! Interval notifiers: callbacks before the mapping of an address range changes.
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

/// Why a mapping is about to change, as far as it matters to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A migration by the device with this owner. C: `MMU_NOTIFY_MIGRATE`.
    Migrate,
    /// The device with this owner makes a page exclusive. C: `MMU_NOTIFY_EXCLUSIVE`.
    Exclusive,
    /// Anything else.
    Other,
}

/// An invalidation: a change of a mapping that is about to happen.
pub struct Event<'a> {
    notifier: *mut bindings::mmu_interval_notifier,
    range: &'a bindings::mmu_notifier_range,
    seq: usize,
}

impl Event<'_> {
    /// Returns the addresses, in bytes.
    pub fn range(&self) -> Range<usize> {
        self.range.start..self.range.end
    }

    /// Returns whether the callback may sleep.
    pub fn may_block(&self) -> bool {
        // SAFETY: The range is valid during the callback.
        unsafe { bindings::rust_dmirror_range_blockable(self.range) }
    }

    /// Returns the reason.
    pub fn reason(&self) -> Reason {
        match self.range.event {
            bindings::NOTIFY_MIGRATE => Reason::Migrate,
            bindings::NOTIFY_EXCLUSIVE => Reason::Exclusive,
            _ => Reason::Other,
        }
    }

    /// Returns whether the device with this owner causes it.
    pub fn is_by(&self, owner: OwnerId) -> bool {
        self.range.owner == owner.as_raw()
    }

    /// Makes [`Notifier::read_retry`] fail for readers that have begun. C: `mmu_interval_set_seq()`.
    ///
    /// Must be called with the lock held under which readers call [`Notifier::read_retry`].
    pub fn set_seq(&self) {
        // SAFETY: This runs in the callback of this notifier, as required.
        unsafe { bindings::rust_dmirror_interval_set_seq(self.notifier, self.seq) };
    }
}

/// A user of a notifier.
///
/// It is `'static`, because a notifier that is forgotten keeps calling it.
pub trait Invalidate: Send + Sync + 'static {
    /// Drops everything that was derived from the mapping of the event's range.
    ///
    /// Called with locks of the address space held, perhaps from reclaim: it must not allocate memory in a way that may
    /// reclaim, nor wait for a task that does. If [`Event::may_block`] is false and it would have to sleep, it does
    /// nothing and returns false.
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

// SAFETY: Any thread may remove a notifier.
unsafe impl<T: Invalidate> Send for Notifier<T> {}
// SAFETY: The methods on `&self` are thread safe in C.
unsafe impl<T: Invalidate> Sync for Notifier<T> {}

impl<T: Invalidate> Notifier<T> {
    /// Registers a notifier for all addresses of `mm`. C: `mmu_interval_notifier_insert()`. Sleeps.
    pub fn new<'a, I: PinInit<T>>(
        mm: &'a MmWithUser,
        data: I,
    ) -> impl PinInit<Self, Error> + use<'a, T, I> {
        try_pin_init!(Self {
            data <- data,
            mm: ARef::from(&**mm),
            // The last field: from here on the core may call the operations.
            raw <- Opaque::try_ffi_init(move |slot: *mut bindings::mmu_interval_notifier| {
                // SAFETY: `slot` is valid for writes, and pinned until drop, which removes it. The address
                // space has users, since `mm` is a reference.
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

    /// The operations of the notifier. C keeps a pointer to them, so they must be `'static`; the type has the compiler
    /// check that, which no test could.
    const OPS: &'static bindings::mmu_interval_notifier_ops = &{
        let mut ops: bindings::mmu_interval_notifier_ops = pin_init::zeroed();
        ops.invalidate = Some(Self::invalidate);
        ops
    };

    /// Returns the data that was given to [`Notifier::new`].
    pub fn data(&self) -> &T {
        &self.data
    }

    /// Returns the address space.
    pub fn mm(&self) -> &ARef<Mm> {
        &self.mm
    }

    pub(super) fn as_raw(&self) -> *mut bindings::mmu_interval_notifier {
        self.raw.get()
    }

    /// Begins to read the mapping: waits for changes in progress. C: `mmu_interval_read_begin()`.
    ///
    /// Sleeps; must not be called with a lock held that [`Invalidate::invalidate`] takes.
    pub fn read_begin(&self) -> usize {
        // SAFETY: It is registered by the type invariants.
        unsafe { bindings::mmu_interval_read_begin(self.as_raw()) }
    }

    /// Returns whether the mapping has changed since `seq`. C: `mmu_interval_read_retry()`.
    ///
    /// Must be called with the lock held that [`Invalidate::invalidate`] takes.
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
        // SAFETY: `raw` is the field `raw` of a `Self` that is registered, so it is initialised and not dropped.
        // `Opaque` has the layout of its content.
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
        // SAFETY: By the type invariants, it is registered, and only this removes it. This waits until no callback is
        // running.
        unsafe { bindings::mmu_interval_notifier_remove(self.as_raw()) };
    }
}
