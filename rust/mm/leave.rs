// SPDX-License-Identifier: GPL-2.0

//! Which pages may leave system memory, and which holes may be filled with device memory. The core does not check
//! these rules, or checks them after the driver has copied the data. Ids are explained in docs/defects.md.
//!
//! | what | rule | why |
//! | --- | --- | --- |
//! | folios that are not anonymous, or that KSM has merged | no destination | the core refuses the former, but after the copy, which crashes for secret memory (T26); ksmd reads merged pages by the CPU (K17) |
//! | `MAP_DROPPABLE` | no destination | reclaim may drop this memory at any time, but cannot while it is on a device, and to bring it back takes memory |
//! | holes and zero pages, VMA with userfaultfd MISSING, WP or RWP | no destination | the core checks MISSING only, and maps a page without protection (K18) |
//! | holes and zero pages, `VM_MERGEABLE` | no destination | a zero page may be one of KSM's, which are counted; the core replaces it without telling KSM |
//! | holes, small destinations, cgroup at its limit | no destination, or fewer | the core's charge may invoke the OOM killer |
//! | huge holes where huge pages are not allowed | small destinations | the core does not check (T29) |
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/huge_mm.h`](srctree/include/linux/huge_mm.h)

use super::{
    bindings,
    lock::Vma, //
};
use kernel::mm::virt::flags;

/// Page tables that the core may have to allocate and charge for a page: one of each level.
const TABLES: usize = 3;

impl Vma<'_> {
    /// Returns whether pages of the VMA may be migrated to a device.
    pub fn may_leave(&self) -> bool {
        self.flags() & bindings::VM_DROPPABLE == 0
    }

    /// Returns whether device memory may be mapped in place of a hole or a zero page.
    pub fn may_fill_holes(&self) -> bool {
        let no = bindings::VM_UFFD_MISSING
            | bindings::VM_UFFD_WP
            | bindings::VM_UFFD_RWP
            | bindings::VM_DROPPABLE
            | flags::MERGEABLE;
        self.flags() & no == 0
    }

    /// Returns whether a fault may have to wait for a userfaultfd handler, for which `mmap_lock` must be dropped.
    pub fn may_wait_for_user(&self) -> bool {
        let armed = bindings::VM_UFFD_MISSING
            | bindings::VM_UFFD_WP
            | bindings::VM_UFFD_RWP
            | bindings::VM_UFFD_MINOR;
        self.flags() & armed != 0
    }

    /// Returns how many of `nr` pages can be charged to the cgroup of the process, with the page tables that they need.
    /// Sleeps.
    ///
    /// Another task may still charge first.
    pub(super) fn room_for(&self, nr: usize) -> usize {
        let mm = self.mm().as_raw();
        let mut room = nr;
        // SAFETY: By the type invariants, the VMA belongs to this address space.
        while room > 0 && !unsafe { bindings::rust_dmirror_mm_has_room(mm, room + TABLES) } {
            room /= 2;
        }
        room
    }

    /// Returns whether KSM may have merged pages of the VMA. Merged pages must not be collected: ksmd drops its
    /// record of a page that it finds unmapped for a migration, and the core needs that record to map the page
    /// again (K17).
    pub fn may_have_merged(&self) -> bool {
        self.flags() & flags::MERGEABLE != 0
    }

    /// Returns whether a huge page may be mapped at an address where a hole or the huge zero page is. Sleeps. The
    /// caller must not hold the lock of a page of the VMA.
    ///
    /// A module can read MADV_NOHUGEPAGE and PR_SET_THP_DISABLE, but not the settings in sysfs, which are not exported.
    /// This therefore faults as a CPU read does. Where a huge page is allowed, that maps the huge zero page, or a huge
    /// page if the zero page is disabled; elsewhere it maps a small zero page.
    pub(super) fn may_make_huge(&self, address: usize) -> bool {
        // SAFETY: By the type invariants, `mmap_lock` is held, and the VMA is valid.
        if unsafe { bindings::rust_dmirror_vma_thp_disabled(self.as_ptr()) } {
            return false;
        }
        let mm = self.mm().as_raw();
        // SAFETY: As above. Any address may be looked up.
        let is_mapped = || unsafe { bindings::rust_dmirror_is_mapped_huge(mm, address) };
        if is_mapped() {
            return true;
        }
        // The fault may charge a page and page tables.
        if self.room_for(1) == 0 {
            return false;
        }
        let unlocked = core::ptr::null_mut();
        // SAFETY: As above. With `unlocked` null, the lock is not dropped.
        let answer = unsafe {
            bindings::fixup_user_fault(mm, address, bindings::FAULT_FLAG_REMOTE, unlocked)
        };
        answer == 0 && is_mapped()
    }
}
