// SPDX-License-Identifier: GPL-2.0

//! A mirror of a process's page tables for a device, kept true by an interval notifier.
//!
//! The table is filled in one way only: [`Mirror::fill`] asks `hmm_range_fault()` and stores the
//! answer under the table's lock after checking that nothing changed meanwhile. Every change of a
//! mapping, also by a migration of our own, takes the entries out first, under that same lock. So
//! while the lock is held ([`Locked`]), what the table says is mapped *is* mapped, and its page can
//! be reached without a reference. That is what every `unsafe` block here rests on.
//!
//! Lock order: `mmap_lock`, then the table's lock. It is taken by invalidation, also out of
//! reclaim: nothing below it allocates or faults.
//!
//! C header: [`include/linux/hmm.h`](srctree/include/linux/hmm.h)

use super::{
    bindings,
    hmm::{
        Pfn,
        Want,
        REQ_FAULT,
        REQ_WRITE, //
    },
    interval::{
        Event,
        Invalidate,
        Notifier,
        Reason, //
    },
    lock::{
        check_killed,
        MmapReadLock, //
    },
    pagemap::{
        Driver,
        OwnerId,
        Pagemap, //
    },
    table::{
        Spare,
        Table,
        Word, //
    },
    HUGE_ORDER,
    HUGE_PAGES,
    HUGE_SIZE, //
};
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::{
    error::to_result,
    mm::{
        Mm,
        MmWithUser, //
    },
    new_mutex,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Mutex, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// How a page may be used by the device, beside being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Not at all.
    Read,
    /// It may be written.
    Write,
    /// The device alone may use it: C `make_device_exclusive()`.
    Exclusive,
}

const PFN_BITS: u32 = 60;

fn pack(pfn: usize, access: Access) -> Option<Word> {
    let access = match access {
        Access::Read => 1,
        Access::Write => 2,
        Access::Exclusive => 3,
    };
    Word::new((access << PFN_BITS) | (pfn & ((1 << PFN_BITS) - 1)))
}

fn unpack(word: Word) -> (usize, Access) {
    let access = match word.get() >> PFN_BITS {
        2 => Access::Write,
        3 => Access::Exclusive,
        _ => Access::Read,
    };
    (word.get() & ((1 << PFN_BITS) - 1), access)
}

#[pin_data]
struct Shared {
    #[pin]
    table: Mutex<Table>,
    owner: OwnerId,
}

impl Invalidate for Shared {
    fn invalidate(&self, event: &Event<'_>) -> bool {
        let mut table = if event.may_block() {
            self.table.lock()
        } else {
            match self.table.try_lock() {
                Some(table) => table,
                None => return false,
            }
        };
        // Making a page exclusive to us does not move it, and the caller's own sequence number
        // must survive this, or it would never get done.
        if !(event.reason() == Reason::Exclusive && event.is_by(self.owner)) {
            event.set_seq();
        }
        let range = event.range();
        table.clear((range.start >> PAGE_SHIFT)..range.end.div_ceil(PAGE_SIZE));
        true
    }
}

/// The page tables of a process, as a device sees them.
#[pin_data]
pub struct Mirror {
    #[pin]
    notifier: Notifier<Shared>,
}

impl Mirror {
    /// Begins to mirror `mm` for the device that has this owner. Sleeps.
    pub fn new(mm: &MmWithUser, owner: OwnerId) -> impl PinInit<Self, Error> + use<'_> {
        try_pin_init!(Self {
            notifier <- Notifier::new(mm, pin_init!(Shared {
                table <- new_mutex!(Table::default(), "dmirror_table"),
                owner,
            })),
        }? Error)
    }

    /// The address space.
    pub fn mm(&self) -> &ARef<Mm> {
        self.notifier.mm()
    }

    /// The device's identity.
    pub fn owner(&self) -> OwnerId {
        self.notifier.data().owner
    }

    /// Locks the table. Sleeps; must not be called with a page table lock or folio lock held.
    pub fn lock(&self) -> Locked<'_> {
        Locked {
            table: self.notifier.data().table.lock(),
        }
    }

    /// Fills the table with what is mapped at `range`, which must lie within one huge page, and
    /// calls `look` for each page under the table's lock. C: `hmm_range_fault()`.
    ///
    /// With `keep_lock` false, faults may drop `mmap_lock`, which some kinds of mappings need. C:
    /// `hmm_range_fault_unlocked_timeout()`. Sleeps; must not be called with `mmap_lock` held.
    ///
    /// # Errors
    ///
    /// `EFAULT` if a page that is wanted cannot be had, or the process is gone; `EPERM` if it may not
    /// be written; `EBUSY` if the mapping did not hold still for a second, nor for two rounds per page;
    /// `EINTR` if killed; `ENOMEM`; `EINVAL` for a bad range or mapping.
    pub fn fill(
        &self,
        range: Range<usize>,
        want: Want,
        keep_lock: bool,
        mut look: impl FnMut(usize, Seen<'_>),
    ) -> Result {
        // A range that begins inside a huge device entry is answered with the PFN of its head
        // (K7): ask from the boundary on, but want only what was wanted.
        let start = range.start & !(HUGE_SIZE - 1);
        let is_good = range.start < range.end
            && range.start % PAGE_SIZE == 0
            && range.end % PAGE_SIZE == 0
            && range.end - start <= HUGE_SIZE;
        if !is_good {
            return Err(EINVAL);
        }
        let skipped = (range.start - start) >> PAGE_SHIFT;
        let nr = (range.end - start) >> PAGE_SHIFT;
        let mm = self.mm().mmget_not_zero().ok_or(EFAULT)?;
        let mut pfns = KVVec::from_elem(0usize, nr, GFP_KERNEL)?;
        let mut spare = Some(Spare::new()?);
        let timeout = Delta::from_millis(bindings::HMM_RANGE_DEFAULT_TIMEOUT as i64);
        let begin = Instant::<Monotonic>::now();
        // A fault changes the mapping as well, for one when it copies a shared page: each page may cost
        // a round, and on a slow machine all of them more than a second. The other function has rounds
        // of its own, which end by time.
        let mut rounds = if keep_lock { 2 * nr } else { 0 };

        let mut locked = loop {
            check_killed()?;
            if rounds == 0 && begin.elapsed() > timeout {
                return Err(EBUSY);
            }
            rounds = rounds.saturating_sub(1);
            pfns[..skipped].fill(0);
            pfns[skipped..].fill(want.request());
            let mut request = bindings::hmm_range {
                notifier: self.notifier.as_raw(),
                notifier_seq: 0,
                start,
                end: range.end,
                hmm_pfns: pfns.as_mut_ptr(),
                default_flags: 0,
                pfn_flags_mask: REQ_FAULT | REQ_WRITE,
                dev_private_owner: self.owner().as_raw(),
            };
            let answer = if keep_lock {
                request.notifier_seq = self.notifier.read_begin();
                let _mmap = MmapReadLock::new(&mm)?;
                // SAFETY: The notifier is registered, `pfns` has an entry for each page of the
                // range, and `mmap_lock` is held.
                to_result(unsafe { bindings::hmm_range_fault(&mut request) })
            } else {
                let jiffies = kernel::time::msecs_to_jiffies(timeout.as_millis() as u32);
                // SAFETY: As above, and `mmap_lock` is not held by us.
                to_result(unsafe {
                    bindings::hmm_range_fault_unlocked_timeout(&mut request, jiffies)
                })
            };
            match answer {
                Err(error) if error == EBUSY => continue,
                answer => answer?,
            }
            let locked = self.lock();
            if !self.notifier.read_retry(request.notifier_seq) {
                break locked;
            }
        };

        locked.store(start, &pfns, &mut spare)?;
        for (at, raw) in pfns[skipped..].iter().enumerate() {
            let seen = Seen {
                pfn: Pfn::from_raw(*raw),
                _locked: PhantomData,
            };
            look(range.start + (at << PAGE_SHIFT), seen);
        }
        Ok(())
    }

    pub(super) fn notifier(&self) -> &Notifier<impl Invalidate> {
        &self.notifier
    }
}

/// The table of a mirror, locked: what it says is mapped stays mapped.
#[must_use = "dropping it unlocks the table"]
pub struct Locked<'a> {
    table: Guard<'a, Table, MutexBackend>,
}

impl Locked<'_> {
    /// Stores an answer of `hmm_range_fault()` for the pages from `start`, a huge boundary, on.
    fn store(&mut self, start: usize, pfns: &[usize], spare: &mut Option<Spare>) -> Result {
        let access = |pfn: Pfn| match pfn.writable() {
            true => Access::Write,
            false => Access::Read,
        };
        let first = start >> PAGE_SHIFT;
        let whole = Pfn::from_raw(pfns[0]);
        if pfns.len() == HUGE_PAGES && whole.map_order() >= HUGE_ORDER {
            if let Some(word) = whole.pfn().and_then(|pfn| pack(pfn, access(whole))) {
                return self.table.set_huge(first, word, spare);
            }
        }
        for (at, raw) in pfns.iter().enumerate() {
            let pfn = Pfn::from_raw(*raw);
            if let Some(word) = pfn.pfn().and_then(|number| pack(number, access(pfn))) {
                self.table.set(first + at, word, spare)?;
            }
        }
        Ok(())
    }

    /// # Safety
    ///
    /// The page must be mapped at `address` for this device's exclusive use, and any change of that
    /// must go through invalidation that waits for the lock of this table.
    pub(super) unsafe fn store_exclusive(
        &mut self,
        address: usize,
        pfn: usize,
        spare: &mut Option<Spare>,
    ) -> Result {
        let word = pack(pfn, Access::Exclusive).ok_or(EINVAL)?;
        self.table.set(address >> PAGE_SHIFT, word, spare)
    }

    /// The page that is mapped at an address.
    pub fn page(&self, address: usize) -> Option<Mapped<'_>> {
        let hit = self.table.get(address >> PAGE_SHIFT)?;
        let (pfn, access) = unpack(hit.word);
        // INVARIANT: The table is locked for as long as `self` is borrowed.
        Some(Mapped {
            pfn: pfn + hit.offset,
            access,
            _locked: PhantomData,
        })
    }

    /// Forgets what is mapped at the addresses.
    pub fn forget(&mut self, range: Range<usize>) {
        self.table
            .clear((range.start >> PAGE_SHIFT)..(range.end >> PAGE_SHIFT));
    }
}

/// What is mapped at an address, while the table is locked.
///
/// # Invariants
///
/// The page is mapped in the mirrored address space and stays that for `'a`.
pub struct Seen<'a> {
    pfn: Pfn,
    _locked: PhantomData<&'a ()>,
}

impl<'a> Seen<'a> {
    /// The answer of `hmm_range_fault()`.
    pub fn pfn(&self) -> Pfn {
        self.pfn
    }

    /// The page, if there is one.
    pub fn page(&self) -> Option<Mapped<'a>> {
        // INVARIANT: By our own invariants.
        Some(Mapped {
            pfn: self.pfn.pfn()?,
            access: if self.pfn.writable() {
                Access::Write
            } else {
                Access::Read
            },
            _locked: PhantomData,
        })
    }
}

/// A page that is mapped, while the table is locked.
///
/// # Invariants
///
/// The page is mapped in the mirrored address space and stays that for `'a`.
pub struct Mapped<'a> {
    pfn: usize,
    access: Access,
    _locked: PhantomData<&'a ()>,
}

impl<'a> Mapped<'a> {
    /// Its page frame number.
    pub fn pfn(&self) -> usize {
        self.pfn
    }

    /// How the device may use it.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Whether it is the zero page, or part of the huge one.
    pub fn is_zero(&self) -> bool {
        // SAFETY: By the type invariants, the page is mapped, so it has a `struct page` in use.
        unsafe { bindings::rust_dmirror_is_zero_pfn(self.pfn) }
    }

    /// The counts of its folio. They include no reference of ours.
    pub fn counts(&self) -> super::folio::Counts {
        // SAFETY: By the type invariants, the page is mapped, which holds a reference on its folio.
        unsafe { super::folio::Counts::read(bindings::rust_dmirror_pfn_folio(self.pfn)) }
    }

    /// A reference on its folio, if it may be had.
    pub fn folio(&self) -> Option<super::folio::Folio> {
        // SAFETY: The page has a `struct page`.
        unsafe { super::folio::Folio::try_get_pfn(self.pfn) }
    }

    /// The pagemap it belongs to and its number there, if it is memory of a device of this driver.
    pub fn device<T: Driver>(&self) -> Option<(&'a Pagemap<T>, usize)> {
        // SAFETY: By the type invariants, the page is mapped, which holds a reference.
        unsafe { Pagemap::of_pfn(self.pfn) }
    }

    /// Copies the page out. For memory that the CPU can reach.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is private memory of a device, or `to` is not as long as a page.
    pub fn read(&self, to: &mut [u8]) -> Result {
        self.check(to.len())?;
        // SAFETY: By the type invariants, the page is mapped; the CPU can reach it, and `to` has
        // room for it. Others may write to it meanwhile, as with any memory of user space.
        unsafe { bindings::rust_dmirror_memcpy_from_page(to.as_mut_ptr().cast(), self.pfn) };
        Ok(())
    }

    /// Copies a page in. For memory that the CPU can reach.
    ///
    /// # Errors
    ///
    /// `EPERM` if it may not be written; otherwise as [`Mapped::read`].
    pub fn write(&self, from: &[u8]) -> Result {
        self.check(from.len())?;
        if self.access != Access::Write {
            return Err(EPERM);
        }
        // SAFETY: As above, and the page is mapped writable.
        unsafe { bindings::rust_dmirror_memcpy_to_page(self.pfn, from.as_ptr().cast()) };
        Ok(())
    }

    fn check(&self, len: usize) -> Result {
        if len != PAGE_SIZE || self.counts().device_private {
            return Err(EINVAL);
        }
        Ok(())
    }
}
