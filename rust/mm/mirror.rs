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
        Want, //
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
    mapped::{
        Locked,
        Seen, //
    },
    pagemap::OwnerId,
    table::{
        Spare,
        Table, //
    },
    HUGE_PAGES,
    HUGE_SIZE, //
};
use core::ops::Range;
use kernel::{
    error::to_result,
    mm::{
        virt::{
            flags,
            VmaRef, //
        },
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
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

#[pin_data]
struct Shared {
    #[pin]
    table: Mutex<Table>,
    owner: OwnerId,
    /// Whether a page was ever exclusive, which is rare.
    knows_exclusive: Atomic<bool>,
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
        // must survive this, or it would never get done. A fill by another thread does not begin anew
        // either: it leaves what is exclusive alone when it stores its answer.
        if !(event.reason() == Reason::Exclusive && event.is_by(self.owner)) {
            event.set_seq();
        }
        let range = event.range();
        table.clear((range.start >> PAGE_SHIFT)..range.end.div_ceil(PAGE_SIZE));
        true
    }
}

/// Room for the answers of `hmm_range_fault()` and for a leaf of the table, to be had before locks are
/// taken, and to be used again.
pub struct Room {
    pfns: KVVec<usize>,
    spare: Option<Spare>,
}

impl Room {
    /// For [`Mirror::fill`]. May sleep.
    pub fn new() -> Result<Self> {
        Ok(Room {
            pfns: KVVec::from_elem(0usize, HUGE_PAGES, GFP_KERNEL)?,
            spare: None,
        })
    }

    /// Has memory for a leaf. May sleep.
    pub(super) fn provide_spare(&mut self) -> Result {
        if self.spare.is_none() {
            self.spare = Some(Spare::new()?);
        }
        Ok(())
    }

    /// The memory for a leaf, to be taken.
    pub(super) fn spare(&mut self) -> &mut Option<Spare> {
        &mut self.spare
    }

    /// Gives the memory for a leaf up, which was charged to the caller's cgroup, if it was not used.
    pub fn drop_spare(&mut self) {
        self.spare = None;
    }
}

/// The page tables of a process, as a device sees them.
#[pin_data]
pub struct Mirror {
    #[pin]
    notifier: Notifier<Shared>,
}

/// What [`Mirror::ask`] is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Fill the table.
    Fill,
    /// As above, by faults that may drop `mmap_lock`.
    FillUnlocked,
    /// Leave the table as it is.
    Look,
}

fn is_hugetlb(vma: &VmaRef) -> bool {
    vma.flags() & flags::HUGETLB != 0
}

/// How long a mapping may keep changing under whoever looks at it.
const TIMEOUT: Delta = Delta::from_millis(bindings::HMM_RANGE_DEFAULT_TIMEOUT as i64);

impl Mirror {
    /// Begins to mirror `mm` for the device that has this owner. Sleeps.
    pub fn new(mm: &MmWithUser, owner: OwnerId) -> impl PinInit<Self, Error> + use<'_> {
        try_pin_init!(Self {
            notifier <- Notifier::new(mm, pin_init!(Shared {
                table <- new_mutex!(Table::default(), "mirror_table"),
                owner,
                knows_exclusive: Atomic::new(false),
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

    /// Locks the table. Sleeps; must not be called with a page table lock held. A folio lock may be: the
    /// core invalidates with one, too.
    pub fn lock(&self) -> Locked<'_> {
        Locked::new(self.notifier.data().table.lock())
    }

    /// Fills the table with what is mapped at `range`, which must lie within one huge page, and
    /// calls `look` under the table's lock: for each page, or once if all is one huge mapping, with the
    /// number of the page in the range, and how many pages are meant. C: `hmm_range_fault()`. Sleeps;
    /// must not be called with `mmap_lock` held.
    ///
    /// Private memory of this device that is wanted for writing may be there for reading only nevertheless
    /// (K8): [`Locked`] tells. A page that is exclusive to this device and wanted for reading stays that;
    /// for writing, it is faulted in and not exclusive any more. So may be a page that is made exclusive while
    /// this is faulting it in.
    ///
    /// # Errors
    ///
    /// `EFAULT` if a page that is wanted cannot be had, or the process is gone; `EPERM` if it may not
    /// be written; `EBUSY` if the mapping did not hold still for a second, nor for two rounds per page;
    /// `EINTR` if killed; `ENOMEM`; `EINVAL` for a bad range or mapping.
    pub fn fill(
        &self,
        room: &mut Room,
        range: Range<usize>,
        want: Want,
        look: impl FnMut(usize, usize, Seen<'_>),
    ) -> Result {
        self.ask(room, range, want, Way::Fill, look)
    }

    /// As [`Mirror::fill`], by faults that may drop `mmap_lock`, which some kinds of mappings need. C:
    /// `hmm_range_fault_unlocked_timeout()`.
    ///
    /// What changed right after such a fault may be there for reading only, too.
    pub fn fill_unlocked(
        &self,
        room: &mut Room,
        range: Range<usize>,
        want: Want,
        look: impl FnMut(usize, usize, Seen<'_>),
    ) -> Result {
        self.ask(room, range, want, Way::FillUnlocked, look)
    }

    /// As [`Mirror::fill`] with [`Want::Look`], and leaves the table as it is.
    pub fn look(
        &self,
        room: &mut Room,
        range: Range<usize>,
        look: impl FnMut(usize, usize, Seen<'_>),
    ) -> Result {
        self.ask(room, range, Want::Look, Way::Look, look)
    }

    fn ask(
        &self,
        room: &mut Room,
        range: Range<usize>,
        want: Want,
        way: Way,
        mut look: impl FnMut(usize, usize, Seen<'_>),
    ) -> Result {
        // A range that begins inside a huge device entry is answered with the PFN of its head
        // (K7): ask from the boundary on, but want only what was wanted. Not so in hugetlb.
        let start = range.start & !(HUGE_SIZE - 1);
        let is_good = range.start < range.end
            && range.start % PAGE_SIZE == 0
            && range.end % PAGE_SIZE == 0
            && range.end - start <= HUGE_SIZE;
        if !is_good {
            return Err(EINVAL);
        }
        if way != Way::Look {
            room.provide_spare()?;
        }
        let skipped = (range.start - start) >> PAGE_SHIFT;
        let nr = (range.end - start) >> PAGE_SHIFT;
        let mm = self.mm().mmget_not_zero().ok_or(EFAULT)?;
        let pfns = &mut room.pfns[..nr];
        let begin = Instant::<Monotonic>::now();
        // A fault changes the mapping as well, for one when it copies a shared page: each page may cost
        // a round, and on a slow machine all of them more than a second.
        let mut rounds = 2 * nr;

        // The first page tells whether all is one huge mapping: then there is no need to have the others
        // written down one by one.
        let mut asked = if nr == HUGE_PAGES && skipped == 0 {
            1
        } else {
            nr
        };
        let (mut locked, is_huge) = loop {
            check_killed()?;
            if rounds == 0 && begin.elapsed() > TIMEOUT {
                return Err(EBUSY);
            }
            rounds = rounds.saturating_sub(1);
            let wanted = match way {
                Way::Fill | Way::Look => want,
                Way::FillUnlocked => {
                    match self.fault_in_unlocked(&mut pfns[skipped..asked], range.start, want) {
                        // It had rounds of its own for as long as we have.
                        Err(error) if error == EBUSY => {
                            rounds = 0;
                            continue;
                        }
                        Err(error) => return Err(error),
                        Ok(()) => Want::Look,
                    }
                }
            };
            pfns[..skipped].fill(0);
            pfns[skipped..asked].fill(wanted.request());
            if wanted == Want::Read && self.notifier.data().knows_exclusive.load(Relaxed) {
                self.lock()
                    .spare_exclusive(range.start, &mut pfns[skipped..asked]);
            }
            let mut request = self.request(pfns, start, asked);
            request.pfn_flags_mask = wanted.mask();
            request.notifier_seq = self.notifier.read_begin();
            let answer = {
                let mmap = MmapReadLock::new(&mm)?;
                if skipped > 0 && mmap.vma(range.start).is_some_and(|vma| is_hugetlb(&vma)) {
                    // The core looks at the request for the first page only, and answers for all that are
                    // in one hugetlb page, also from its middle on.
                    request.start = range.start;
                    request.hmm_pfns = request.hmm_pfns.wrapping_add(skipped);
                }
                // SAFETY: The notifier is registered, `hmm_pfns` has an entry for each page that is
                // asked for, and `mmap_lock` is held.
                to_result(unsafe { bindings::hmm_range_fault(&mut request) })
            };
            match answer {
                Err(error) if error == EBUSY => continue,
                answer => answer?,
            }
            let locked = self.lock();
            if self.notifier.read_retry(request.notifier_seq) {
                continue;
            }
            let is_there = |raw: &usize| Pfn::from_raw(*raw).pfn().is_some();
            if wanted != want && !pfns[skipped..asked].iter().all(is_there) {
                // Gone again meanwhile.
                continue;
            }
            let is_huge = nr == HUGE_PAGES && Locked::is_huge(pfns[0]);
            if is_huge || asked == nr {
                break (locked, is_huge);
            }
            asked = nr;
        };

        if way != Way::Look {
            // SAFETY: Nothing changed since it was answered, and what changes it from now on waits for
            // the lock.
            unsafe { locked.store(start, pfns, is_huge, &mut room.spare) }?;
        }
        let all = nr - skipped;
        let (told, each) = if is_huge { (1, all) } else { (all, 1) };
        for (at, raw) in pfns[skipped..][..told].iter().enumerate() {
            // SAFETY: Nothing changed since it was answered, and what changes it from now on waits for
            // the lock, which outlives the call of `look`.
            look(at, each, unsafe { Seen::new(Pfn::from_raw(*raw)) });
        }
        Ok(())
    }

    /// Has pages from `start` on there, as many as there are entries, by faults that may drop `mmap_lock`.
    /// C: `hmm_range_fault_unlocked_timeout()`.
    ///
    /// That begins anew by itself and does not clear what it answered, which it takes for what it is
    /// asked for then. So it is asked for all pages alike, and its answer is of no use.
    fn fault_in_unlocked(&self, pfns: &mut [usize], start: usize, want: Want) -> Result {
        pfns.fill(0);
        let nr = pfns.len();
        let mut request = self.request(pfns, start, nr);
        request.default_flags = want.request();
        let jiffies = kernel::time::msecs_to_jiffies(TIMEOUT.as_millis() as u32);
        // SAFETY: The notifier is registered, `pfns` has an entry for each page that is asked for, and
        // `mmap_lock` is not held by us.
        to_result(unsafe { bindings::hmm_range_fault_unlocked_timeout(&mut request, jiffies) })
    }

    /// What is asked for the `nr` pages from `start` on: nothing yet.
    fn request(&self, pfns: &mut [usize], start: usize, nr: usize) -> bindings::hmm_range {
        bindings::hmm_range {
            notifier: self.notifier.as_raw(),
            notifier_seq: 0,
            start,
            end: start + (nr << PAGE_SHIFT),
            hmm_pfns: pfns.as_mut_ptr(),
            default_flags: 0,
            pfn_flags_mask: 0,
            dev_private_owner: self.owner().as_raw(),
        }
    }

    /// Notes that a page is going to be exclusive: who fills the table has to look for such from now on.
    pub(super) fn expect_exclusive(&self) {
        self.notifier.data().knows_exclusive.store(true, Relaxed);
    }

    pub(super) fn notifier(&self) -> &Notifier<impl Invalidate> {
        &self.notifier
    }
}
