// SPDX-License-Identifier: GPL-2.0

//! What may leave system memory, and what may be made on a device where there was nothing: what the
//! core does not ask, or asks after the driver has copied.
//!
//! | what | rule | why |
//! | --- | --- | --- |
//! | folios that are not anonymous, of KSM | no destination | the core refuses the first after the copy, which secret memory does not survive (T26); ksmd reads what it knows by the CPU (K17) |
//! | `MAP_DROPPABLE` | no destination | it is memory that reclaim may take at any time; on a device nothing can, and to bring it back takes memory |
//! | holes and zero pages, VMA with userfaultfd MISSING, WP or RWP | no destination | the core looks at MISSING only, and makes a page that is not protected (K18) |
//! | holes and zero pages, `VM_MERGEABLE` | no destination | a zero page may be KSM's, which counts them; the core replaces it without telling KSM |
//! | holes, small destinations, cgroup at its limit | no destination, or fewer | the core charges in such a way that somebody is killed for it |
//! | huge holes where huge pages are not allowed | small destinations | the core does not ask (T29) |
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/huge_mm.h`](srctree/include/linux/huge_mm.h)

use super::{
    bindings,
    lock::Vma, //
};
use kernel::mm::virt::flags;

/// Page tables that the core may have to make for a page, one of each level, and charges as well.
const TABLES: usize = 3;

impl Vma<'_> {
    /// Whether anything may leave for a device.
    pub fn may_leave(&self) -> bool {
        self.flags() & bindings::VM_DROPPABLE == 0
    }

    /// Whether device memory may be mapped where nothing is, or a zero page.
    pub fn may_fill_holes(&self) -> bool {
        let no = bindings::VM_UFFD_MISSING
            | bindings::VM_UFFD_WP
            | bindings::VM_UFFD_RWP
            | bindings::VM_DROPPABLE
            | flags::MERGEABLE;
        self.flags() & no == 0
    }

    /// Whether a fault may wait for somebody in user space, for which `mmap_lock` must be dropped.
    pub fn may_wait_for_user(&self) -> bool {
        let armed = bindings::VM_UFFD_MISSING
            | bindings::VM_UFFD_WP
            | bindings::VM_UFFD_RWP
            | bindings::VM_UFFD_MINOR;
        self.flags() & armed != 0
    }

    /// How many of `nr` pages may be charged to the cgroup of the process, with the page tables that they need. Sleeps.
    ///
    /// A charge by somebody else can still come before.
    pub(super) fn room_for(&self, nr: usize) -> usize {
        let mm = self.mm().as_raw();
        let mut room = nr;
        // SAFETY: By the type invariants, the VMA is one of this address space.
        while room > 0 && !unsafe { bindings::rust_dmirror_mm_has_room(mm, room + TABLES) } {
            room /= 2;
        }
        room
    }

    /// Whether KSM may have merged pages. Each is to be left alone: ksmd forgets what it finds unmapped
    /// for a migration, and the core finds by that where to map it again (K17).
    pub fn may_have_merged(&self) -> bool {
        self.flags() & flags::MERGEABLE != 0
    }

    /// Whether a huge page may be made at an address where nothing is mapped, or a huge zero page.
    /// Sleeps. No page of the VMA may be locked by the caller.
    ///
    /// MADV_NOHUGEPAGE and PR_SET_THP_DISABLE can be looked at. What sysfs says cannot: no such symbol is
    /// exported. So the core is asked by a fault, as if a CPU read there: that maps the huge zero page
    /// where a huge page is allowed, or, without one, a huge page, and otherwise a small zero page.
    pub(super) fn may_make_huge(&self, address: usize) -> bool {
        // SAFETY: By the type invariants, `mmap_lock` is held, and the VMA is in use.
        if unsafe { bindings::rust_dmirror_vma_thp_disabled(self.as_ptr()) } {
            return false;
        }
        let mm = self.mm().as_raw();
        // SAFETY: As above; the address is looked up there.
        let is_mapped = || unsafe { bindings::rust_dmirror_is_mapped_huge(mm, address) };
        if is_mapped() {
            return true;
        }
        // That fault may take a page, and page tables.
        if self.room_for(1) == 0 {
            return false;
        }
        let unlocked = core::ptr::null_mut();
        // SAFETY: As above. Without a place to tell so, the lock is not dropped.
        let answer = unsafe {
            bindings::fixup_user_fault(mm, address, bindings::FAULT_FLAG_REMOTE, unlocked)
        };
        answer == 0 && is_mapped()
    }
}
