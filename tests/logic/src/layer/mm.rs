// SPDX-License-Identifier: GPL-2.0

//! For `rust/mm/mod.rs`, and for the files beside it that touch the kernel.

#[path = "../../../../rust/mm/gate.rs"]
pub mod gate;
#[path = "../../../../rust/mm/hmm.rs"]
pub mod hmm;
#[path = "../../../../rust/mm/mpfn.rs"]
pub mod mpfn;
#[path = "../../../../rust/mm/slots.rs"]
pub mod slots;
#[path = "../../../../rust/mm/table.rs"]
pub mod table;

use kernel::page::PAGE_SHIFT;

/// The order of a huge folio.
pub const HUGE_ORDER: u32 = 9;

/// Pages of a huge folio.
pub const HUGE_PAGES: usize = 1 << HUGE_ORDER;

/// Bytes of a huge folio.
pub const HUGE_SIZE: usize = HUGE_PAGES << PAGE_SHIFT;

/// How large a folio is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// One page.
    Page,
    /// A huge one.
    Huge,
}

/// The constants of C, which the module has from bindgen: `include/linux/migrate.h`, `hmm.h`. That they
/// are these is what the suites of the files that use them check, inside the kernel.
mod bindings {
    pub const MIGRATE_PFN_VALID: usize = 1 << 0;
    pub const MIGRATE_PFN_MIGRATE: usize = 1 << 1;
    pub const MIGRATE_PFN_WRITE: usize = 1 << 3;
    pub const MIGRATE_PFN_COMPOUND: usize = 1 << 4;
    pub const MIGRATE_PFN_SHIFT: usize = 6;

    pub const HMM_PFN_WRITE: usize = 1 << 62;
    pub const HMM_PFN_ERROR: usize = 1 << 61;
    pub const HMM_PFN_REQ_WRITE: usize = HMM_PFN_WRITE;
    pub const HMM_PFN_ORDER_SHIFT: usize = 53;
}

/// For `rust/mm/folio.rs`.
pub mod folio {
    /// What can be read of a folio at one moment.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[allow(missing_docs)]
    pub struct Counts {
        pub pfn: usize,
        pub order: u32,
        pub refs: i32,
        pub mapcount: i32,
        pub expected: i32,
        pub locked: bool,
        pub lru: bool,
        pub anon: bool,
        pub device_private: bool,
        pub device_coherent: bool,
    }
}

/// For `rust/mm/fault.rs`.
pub mod fault {
    use kernel::{
        mm::{
            Mm,
            MmWithUser, //
        },
        sync::aref::ARef, //
    };

    /// A fault on a page.
    pub struct Fault<'a> {
        /// Whose.
        pub mm: &'a MmWithUser,
        /// Where.
        pub address: usize,
    }

    impl Fault<'_> {
        /// The address space.
        pub fn mm(&self) -> ARef<Mm> {
            ARef::from(&**self.mm)
        }

        /// The address.
        pub fn address(&self) -> usize {
            self.address
        }
    }
}

/// For `rust/mm/lock.rs`.
pub mod lock {
    use kernel::mm::MmWithUser;

    /// The VMA that new memory is for, by whether a huge page that was allocated without it may be mapped there.
    #[derive(Clone, Copy)]
    pub struct Beneficiary<'a>(pub &'a bool);

    /// Whether the thread is being killed.
    pub fn fatal_signal_pending() -> bool {
        kernel::current!().signal_pending()
    }

    /// `mmap_lock`.
    pub struct MmapReadLock<'a>(&'a MmWithUser);

    impl<'a> MmapReadLock<'a> {
        /// Takes it, if nobody holds it for writing.
        pub fn try_new(mm: &'a MmWithUser) -> Option<Self> {
            (!mm.memory().is_locked()).then_some(MmapReadLock(mm))
        }

        /// The VMA of an address: one reaches to the end of all addresses, if something is mapped there.
        pub fn vma(&self, address: usize) -> Option<Vma<'a>> {
            self.0.memory().collect(address)?;
            Some(Vma(self.0))
        }
    }

    /// A VMA.
    #[derive(Clone, Copy)]
    pub struct Vma<'a>(pub(super) &'a MmWithUser);

    impl Vma<'_> {
        /// The address behind the last.
        pub fn end(&self) -> usize {
            usize::MAX
        }
    }
}

/// For `rust/mm/migrate/`.
pub mod migrate {
    use super::{
        lock::Vma,
        pagemap::OwnerId,
        HUGE_SIZE, //
    };
    use core::ops::Range;
    use kernel::{
        page::PAGE_SIZE,
        prelude::*, //
    };

    /// What became of an entry; `src/policy/fates.rs` matches all of these, so that none can be missing.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[allow(missing_docs)]
    pub enum Outcome {
        Whole,
        Split,
        Small,
        SplitRefused,
        Refused,
        NotGiven,
        Empty,
        NotCollected,
    }

    /// Which pages to migrate.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[allow(missing_docs)]
    pub enum Select {
        DevicePrivate,
    }

    /// What an entry is.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[allow(missing_docs)]
    pub enum Kind {
        Skipped,
        Small,
    }

    /// What a migration works on.
    pub struct Batch(usize);

    impl Batch {
        /// For so many pages.
        pub fn for_pages(npages: usize) -> Result<Self> {
            Ok(Batch(npages))
        }

        /// Collects pages as the memory behind the VMA says. The core skips all behind a folio that it cannot split.
        pub fn setup(
            &mut self,
            vma: Vma<'_>,
            range: Range<usize>,
            _select: Select,
            compound: bool,
            _owner: OwnerId,
        ) -> Result<Collected> {
            assert!(!compound && range.start < range.end);
            assert!(range.len() <= self.0 * PAGE_SIZE);
            assert_eq!(range.start / HUGE_SIZE, (range.end - 1) / HUGE_SIZE);
            let pages = range.step_by(PAGE_SIZE);
            let collect = |at| vma.0.memory().collect(at).unwrap_or(false);
            Ok(Collected(pages.map(collect).collect()))
        }
    }

    /// What was collected.
    pub struct Collected(Vec<bool>);

    impl Collected {
        /// How many entries there are.
        #[allow(clippy::len_without_is_empty)]
        pub fn len(&self) -> usize {
            self.0.len()
        }

        /// What one is.
        pub fn kind(&self, index: usize) -> Kind {
            match self.0[index] {
                true => Kind::Small,
                false => Kind::Skipped,
            }
        }
    }
}

/// For `rust/mm/shrinker.rs`: nobody asks.
pub mod shrinker {
    use core::ffi::CStr;
    use kernel::{
        prelude::*,
        sync::Arc, //
    };

    /// What the kernel can ask.
    #[allow(missing_docs)]
    pub trait Shrink {
        fn count(&self) -> usize;
        fn give_back(&self, wanted: usize) -> usize;
    }

    /// What could be asked.
    pub struct Shrinker<T>(Arc<T>);

    impl<T: Shrink> Shrinker<T> {
        /// Of that.
        pub fn new(_name: &'static CStr, kept: Arc<T>) -> Result<Self> {
            Ok(Shrinker(kept))
        }

        /// What is kept.
        pub fn kept(&self) -> &Arc<T> {
            &self.0
        }
    }
}

/// For `rust/mm/system.rs`.
pub mod system {
    use super::lock::Beneficiary;
    use core::cell::{
        Cell,
        RefCell, //
    };
    use kernel::prelude::*;
    use std::collections::VecDeque;

    std::thread_local! {
        static NEXT: RefCell<VecDeque<bool>> = const { RefCell::new(VecDeque::new()) };
        static ALIVE: Cell<usize> = const { Cell::new(0) };
    }

    /// For tests: the huge pages that are allocated next, and whether they will be fit; then there is no memory.
    pub fn set_next(next: impl IntoIterator<Item = bool>) {
        NEXT.with_borrow_mut(|pages| *pages = next.into_iter().collect());
    }

    /// For tests: how many of these are left.
    pub fn left() -> usize {
        NEXT.with_borrow(VecDeque::len)
    }

    /// For tests: how many folios are allocated.
    pub fn alive() -> usize {
        ALIVE.get()
    }

    /// How hard the page allocator tries.
    #[allow(missing_docs)]
    pub enum Effort {
        AtHand,
        Compact,
    }

    /// A huge folio that nobody has used.
    pub struct Blank(bool);

    impl Blank {
        /// Allocates one.
        pub fn to_keep(_: Effort) -> Result<Self> {
            let is_fit = NEXT.with_borrow_mut(VecDeque::pop_front).ok_or(ENOMEM)?;
            ALIVE.set(ALIVE.get() + 1);
            Ok(Blank(is_fit))
        }

        /// Whether one that was kept may be mapped there.
        pub fn may_be_kept_for(vma: Beneficiary<'_>) -> bool {
            *vma.0
        }

        /// Whether the current task may use it.
        pub fn is_fit(&self) -> bool {
            self.0
        }
    }

    impl Drop for Blank {
        fn drop(&mut self) {
            ALIVE.set(ALIVE.get() - 1);
        }
    }
}

/// For `rust/mm/pagemap/`.
pub mod pagemap {
    /// Whose device memory it is.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct OwnerId(pub usize);
}
