// SPDX-License-Identifier: GPL-2.0

//! A device page table that mirrors the page tables of a process, kept up to date by an interval notifier.
//!
//! Entries are stored by [`Mirror::fill`] and [`Mirror::make_exclusive`] only, with the table locked and after
//! checking that the mapping has not changed since the core was asked. Every change of a mapping, also by a
//! migration of this driver, first removes the entries under the same lock. While the lock is held ([`Locked`]), a
//! page that the table maps therefore *is* mapped in the process, and can be accessed without a reference. Every
//! `unsafe` block here argues from that.
//!
//! Lock order: `mmap_lock`, then the table's lock. Invalidation takes the latter, also from reclaim: with it held,
//! nothing allocates memory or faults.
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
    /// Whether a page may ever have been exclusive, which is rare.
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
        // If this device makes a page exclusive, the sequence number stays. The page does not move, and
        // `make_exclusive` would retry for ever. A fill by another thread does not retry either: when it stores its
        // answer, it keeps exclusive entries.
        if !(event.reason() == Reason::Exclusive && event.is_by(self.owner)) {
            event.set_seq();
        }
        let range = event.range();
        table.clear((range.start >> PAGE_SHIFT)..range.end.div_ceil(PAGE_SIZE));
        true
    }
}

/// Memory for the answers of `hmm_range_fault()` and for a leaf of the table. It is allocated before locks are
/// taken, and can be used again.
pub struct Room {
    pfns: KVVec<usize>,
    spare: Option<Spare>,
}

impl Room {
    /// Allocates memory for the answers. May sleep.
    pub fn new() -> Result<Self> {
        Ok(Room {
            pfns: KVVec::from_elem(0usize, HUGE_PAGES, GFP_KERNEL)?,
            spare: None,
        })
    }

    /// Allocates memory for a leaf, if there is none. May sleep.
    pub(super) fn provide_spare(&mut self) -> Result {
        if self.spare.is_none() {
            self.spare = Some(Spare::new()?);
        }
        Ok(())
    }

    /// Returns the memory for a leaf, which may be taken.
    pub(super) fn spare(&mut self) -> &mut Option<Spare> {
        &mut self.spare
    }

    /// Frees the memory for a leaf, which is charged to the caller's cgroup, if it was not used.
    pub fn drop_spare(&mut self) {
        self.spare = None;
    }
}

/// The page table that a device has for a process.
#[pin_data]
pub struct Mirror {
    #[pin]
    notifier: Notifier<Shared>,
}

/// What [`Mirror::ask`] does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Fill the table.
    Fill,
    /// Fill the table, by faults that may drop `mmap_lock`.
    FillUnlocked,
    /// Only look: do not change the table.
    Look,
}

fn is_hugetlb(vma: &VmaRef) -> bool {
    vma.flags() & flags::HUGETLB != 0
}

/// How long a lookup is retried while the mapping keeps changing: the core's default.
const TIMEOUT: Delta = Delta::from_millis(bindings::HMM_RANGE_DEFAULT_TIMEOUT as i64);

impl Mirror {
    /// Begins to mirror `mm` for the device with this owner. Sleeps.
    pub fn new(mm: &MmWithUser, owner: OwnerId) -> impl PinInit<Self, Error> + use<'_> {
        try_pin_init!(Self {
            notifier <- Notifier::new(mm, pin_init!(Shared {
                table <- new_mutex!(Table::default(), "mirror_table"),
                owner,
                knows_exclusive: Atomic::new(false),
            })),
        }? Error)
    }

    /// Returns the address space.
    pub fn mm(&self) -> &ARef<Mm> {
        self.notifier.mm()
    }

    /// Returns the identity of the device.
    pub fn owner(&self) -> OwnerId {
        self.notifier.data().owner
    }

    /// Locks the table. Sleeps. Folio locks may be held, since the core invalidates with them held; page table
    /// locks must not.
    pub fn lock(&self) -> Locked<'_> {
        Locked::new(self.notifier.data().table.lock())
    }

    /// Fills the table with the mappings of `range`, which must lie within one huge page. C: `hmm_range_fault()`.
    /// Sleeps; must not be called with `mmap_lock` held.
    ///
    /// Calls `look` with the table locked: for each page with its index in the range and the number 1, or once for a
    /// huge mapping with the number of its pages.
    ///
    /// Private memory of this device may be readable only, even if it is wanted for writing (K8 in docs/defects.md);
    /// [`Locked`] tells. A page that is exclusive to this device stays exclusive if it is wanted for reading. If it is
    /// wanted for writing, or was made exclusive while this faults it in, it is faulted in and no longer exclusive.
    ///
    /// # Errors
    ///
    /// `EFAULT` if a wanted page cannot be faulted in, or if the process has exited; `EPERM` if it may not be written;
    /// `EBUSY` if the mapping kept changing for a second and for two rounds per page; `EINTR` if killed; `ENOMEM`;
    /// `EINVAL` for a bad range or mapping.
    pub fn fill(
        &self,
        room: &mut Room,
        range: Range<usize>,
        want: Want,
        look: impl FnMut(usize, usize, Seen<'_>),
    ) -> Result {
        self.ask(room, range, want, Way::Fill, look)
    }

    /// As [`Mirror::fill`], by faults that may drop `mmap_lock`, which mappings with a userfaultfd need. C:
    /// `hmm_range_fault_unlocked_timeout()`.
    ///
    /// If the mapping changes right after such a fault, a page that is wanted for writing may be readable only.
    pub fn fill_unlocked(
        &self,
        room: &mut Room,
        range: Range<usize>,
        want: Want,
        look: impl FnMut(usize, usize, Seen<'_>),
    ) -> Result {
        self.ask(room, range, want, Way::FillUnlocked, look)
    }

    /// As [`Mirror::fill`] with [`Want::Look`], without changing the table.
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
        // For a range that begins inside a huge device entry, the core answers with the PFN of its head (K7). The
        // request therefore begins at the huge boundary, without wanting the pages before the range. Hugetlb
        // mappings are an exception, see below.
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
        // A fault changes the mapping as well, for example when it copies a shared page. Each page may cost a round,
        // and on a slow machine all of them may take more than a second.
        let mut rounds = 2 * nr;

        // First asks for the first page only: if it is mapped by a huge entry, that answers for all pages.
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
                        // It has retried for TIMEOUT itself.
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
                    // In a hugetlb page, the core reads the request for the first page only, and answers for all
                    // pages. It handles a range that begins in the middle.
                    request.start = range.start;
                    request.hmm_pfns = request.hmm_pfns.wrapping_add(skipped);
                }
                // SAFETY: The notifier is registered, `hmm_pfns` has an entry for each page of the request, and
                // `mmap_lock` is held.
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
                // A page was unmapped again after the fault.
                continue;
            }
            let is_huge = nr == HUGE_PAGES && Locked::is_huge(pfns[0]);
            if is_huge || asked == nr {
                break (locked, is_huge);
            }
            asked = nr;
        };

        if way != Way::Look {
            // SAFETY: The mapping has not changed since the answer. Any change from now on waits for the lock.
            unsafe { locked.store(start, pfns, is_huge, &mut room.spare) }?;
        }
        let all = nr - skipped;
        let (told, each) = if is_huge { (1, all) } else { (all, 1) };
        for (at, raw) in pfns[skipped..][..told].iter().enumerate() {
            // SAFETY: The mapping has not changed since the answer. Any change from now on waits for the lock, which
            // is held until after the call of `look`.
            look(at, each, unsafe { Seen::new(Pfn::from_raw(*raw)) });
        }
        Ok(())
    }

    /// Faults pages in from `start` on, one for each entry of `pfns`, by faults that may drop `mmap_lock`. C:
    /// `hmm_range_fault_unlocked_timeout()`.
    ///
    /// The C function retries without clearing its answers, and then reads them as requests. It is therefore called
    /// with the same request for all pages (`default_flags`), and its answers are not used.
    fn fault_in_unlocked(&self, pfns: &mut [usize], start: usize, want: Want) -> Result {
        pfns.fill(0);
        let nr = pfns.len();
        let mut request = self.request(pfns, start, nr);
        request.default_flags = want.request();
        let jiffies = kernel::time::msecs_to_jiffies(TIMEOUT.as_millis() as u32);
        // SAFETY: The notifier is registered, `pfns` has an entry for each page of the request, and this thread does
        // not hold `mmap_lock`.
        to_result(unsafe { bindings::hmm_range_fault_unlocked_timeout(&mut request, jiffies) })
    }

    /// Makes a request for the `nr` pages from `start` on that wants nothing yet.
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

    /// Records that a page is about to be made exclusive: from now on, fills must look for exclusive pages.
    pub(super) fn expect_exclusive(&self) {
        self.notifier.data().knows_exclusive.store(true, Relaxed);
    }

    pub(super) fn notifier(&self) -> &Notifier<impl Invalidate> {
        &self.notifier
    }
}
