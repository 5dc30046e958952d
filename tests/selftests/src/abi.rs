// SPDX-License-Identifier: GPL-2.0

//! The ioctls, as the kernel defines them.
//!
//! C headers: `lib/test_hmm_uapi.h` of the kernel and `include/uapi/rust_dmirror.h` here. The
//! tests below compare numbers and offsets with what a C compiler makes of those headers.

use nix::libc::Ioctl;

/// `struct hmm_dmirror_cmd`: the argument of the ten old ioctls.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Cmd {
    pub addr: u64,
    pub ptr: u64,
    pub npages: u64,
    pub cpages: u64,
    pub faults: u64,
}

pub const VERSION: u32 = 1;
pub const TO_DEVICE: u32 = 1;
pub const TO_SYSTEM: u32 = 2;

/// Indices of [`Migrate::refused`].
pub const REFUSED_COLLECT: usize = 0;
pub const REFUSED_NO_MEMORY: usize = 1;
pub const REFUSED_COPY: usize = 2;
pub const REFUSED_CORE: usize = 3;

/// `struct rust_dmirror_migrate`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Migrate {
    pub version: u32,
    pub direction: u32,
    pub addr: u64,
    pub npages: u64,
    pub ptr: u64,
    pub collected: u64,
    pub whole: u64,
    pub split: u64,
    pub small: u64,
    pub split_refused: u64,
    pub refused: [u64; 4],
    pub empty: u64,
    pub retries: u64,
    pub read_back: u64,
    pub ns_setup: u64,
    pub ns_copy: u64,
    pub ns_pages: u64,
    pub ns_finalize: u64,
    pub ns_readback: u64,
    pub reserved: [u64; 4],
}

impl Migrate {
    /// Pages that are where they were sent to.
    pub fn moved(&self) -> u64 {
        self.whole + self.split + self.small
    }

    /// Pages of which the result says what became of them; all of them, says the ABI.
    pub fn accounted(&self) -> u64 {
        self.moved() + self.split_refused + self.refused.iter().sum::<u64>() + self.empty
    }

    /// The counts that are not zero, for people.
    pub fn summary(&self) -> String {
        let [collect, no_memory, copy, core] = self.refused;
        let counts = [
            ("collected", self.collected),
            ("whole", self.whole),
            ("split", self.split),
            ("small", self.small),
            ("split refused", self.split_refused),
            ("not collected", collect),
            ("no memory", no_memory),
            ("copy failed", copy),
            ("refused by core", core),
            ("empty", self.empty),
            ("retries", self.retries),
            ("read back", self.read_back),
        ];
        let shown: Vec<_> = counts
            .iter()
            .filter(|(_, n)| *n > 0)
            .map(|(what, n)| format!("{what} {n}"))
            .collect();
        format!(
            "{} of {} pages: {}",
            self.moved(),
            self.npages,
            shown.join(", ")
        )
    }
}

/// `enum rust_dmirror_inject_point`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[repr(u32)]
pub enum Point {
    /// Every point at once; only for clearing them.
    #[value(skip)]
    All = 0,
    ExtraRef = 1,
    HugeAlloc = 2,
    SmallAlloc = 3,
    Copy = 4,
    FolioLock = 5,
}

/// The first number that is no injection point.
pub const POINTS: u32 = 6;

/// `struct rust_dmirror_inject`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Inject {
    pub version: u32,
    pub point: u32,
    pub skip: u64,
    pub times: u64,
    pub hits: u64,
    pub reserved: [u64; 2],
}

/// `enum rust_dmirror_where`.
pub const WHERE_NOWHERE: u32 = 0;
pub const WHERE_SYSTEM: u32 = 1;
pub const WHERE_ZERO: u32 = 2;
pub const WHERE_DEVICE: u32 = 3;
pub const WHERE_UNREADABLE: u32 = 4;

pub const PAGE_WRITE: u32 = 1 << 0;
pub const PAGE_ANON: u32 = 1 << 1;
pub const PAGE_LOCKED: u32 = 1 << 2;
pub const PAGE_LRU: u32 = 1 << 3;
pub const PAGE_PRIVATE: u32 = 1 << 4;
pub const PAGE_COHERENT: u32 = 1 << 5;

/// `struct rust_dmirror_page`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Page {
    pub version: u32,
    pub location: u32,
    pub addr: u64,
    pub pfn: u64,
    pub order: u32,
    pub map_order: u32,
    pub refs: u32,
    pub expected: u32,
    pub mapcount: u32,
    pub flags: u32,
    pub reserved: [u64; 2],
}

/// `struct rust_dmirror_stats`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub version: u32,
    pub chunks: u32,
    pub pages_total: u64,
    pub pages_used: u64,
    pub pages_mine: u64,
    pub to_device: u64,
    pub to_system: u64,
    pub faulted: u64,
    pub evicted: u64,
    pub split_refused: u64,
    pub retries: u64,
    pub stuck: u64,
    pub ledger_checks: u64,
    pub ledger_mismatches: u64,
    pub reserved: [u64; 4],
}

/// Kinds of [`CopyTime`].
pub const COPY_PAGES: u32 = 1;
pub const COPY_TO_USER: u32 = 2;
pub const COPY_FROM_USER: u32 = 3;
/// With one of those: the TLB is emptied before the clock starts.
pub const COPY_COLD: u32 = 0x100;
/// The most pages of one [`COPY`].
pub const COPY_MOST: usize = 512;

/// `struct rust_dmirror_copy`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyTime {
    pub version: u32,
    pub kind: u32,
    pub ptr: u64,
    pub npages: u64,
    pub ns: u64,
    pub reserved: [u64; 4],
}

/// Directions of [`Pause`], beside the two of a migration and 0 for any.
pub const BY_FAULT: u32 = 3;
pub const BY_EVICTION: u32 = 4;

/// `enum rust_dmirror_stage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    Collected = 1,
    Filled = 2,
    Committed = 3,
    Finalize = 4,
}

impl Stage {
    pub const ALL: [Stage; 4] = [
        Stage::Collected,
        Stage::Filled,
        Stage::Committed,
        Stage::Finalize,
    ];

    /// Its name in debugfs.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Collected => "collected",
            Stage::Filled => "filled",
            Stage::Committed => "committed",
            Stage::Finalize => "finalize",
        }
    }
}

/// `enum rust_dmirror_pause_op`.
pub const PAUSE_ARM: u32 = 1;
pub const PAUSE_WAIT: u32 = 2;
pub const PAUSE_RESUME: u32 = 3;
pub const PAUSE_CLEAR: u32 = 4;
pub const PAUSE_STATUS: u32 = 5;
/// The longest stop, in milliseconds.
pub const PAUSE_MOST: u32 = 10_000;

/// `struct rust_dmirror_pause`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Pause {
    pub version: u32,
    pub op: u32,
    pub stage: u32,
    pub direction: u32,
    pub skip: u64,
    pub ms: u32,
    pub waiting: u32,
    pub reached: u64,
    pub reserved: [u64; 3],
}

/// `_IOWR('H', number, T)`.
pub const fn iowr<T>(number: u8) -> Ioctl {
    nix::request_code_readwrite!(b'H', number, size_of::<T>()) as Ioctl
}

pub const READ: Ioctl = iowr::<Cmd>(0x00);
pub const WRITE: Ioctl = iowr::<Cmd>(0x01);
pub const MIGRATE_TO_DEV: Ioctl = iowr::<Cmd>(0x02);
pub const MIGRATE_TO_SYS: Ioctl = iowr::<Cmd>(0x03);
pub const SNAPSHOT: Ioctl = iowr::<Cmd>(0x04);
pub const EXCLUSIVE: Ioctl = iowr::<Cmd>(0x05);
pub const CHECK_EXCLUSIVE: Ioctl = iowr::<Cmd>(0x06);
pub const RELEASE: Ioctl = iowr::<Cmd>(0x07);
pub const FLAGS: Ioctl = iowr::<Cmd>(0x08);
pub const READ_UNLOCKED: Ioctl = iowr::<Cmd>(0x09);
pub const MIGRATE: Ioctl = iowr::<Migrate>(0x40);
pub const INJECT: Ioctl = iowr::<Inject>(0x41);
pub const PAGE: Ioctl = iowr::<Page>(0x42);
pub const STATS: Ioctl = iowr::<Stats>(0x43);
pub const COPY: Ioctl = iowr::<CopyTime>(0x44);
pub const PAUSE: Ioctl = iowr::<Pause>(0x45);

pub const FLAG_FAIL_ALLOC: u64 = 1;

/// Values of a snapshot.
pub const PROT_WRITE: u8 = 0x02;
pub const PROT_PMD: u8 = 0x04;
pub const PROT_PUD: u8 = 0x08;
pub const PROT_KIND: u8 = 0xf0;
pub const PROT_ERROR: u8 = 0xff;
pub const PROT_ZERO: u8 = 0x10;
pub const PROT_DEV_PRIVATE_LOCAL: u8 = 0x20;
pub const PROT_DEV_PRIVATE_REMOTE: u8 = 0x30;
pub const PROT_DEV_COHERENT_LOCAL: u8 = 0x40;
pub const PROT_DEV_COHERENT_REMOTE: u8 = 0x50;

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    /// What gcc 12 made of the two headers on x86-64.
    #[test]
    fn numbers_are_those_of_c() {
        let old = [
            READ,
            WRITE,
            MIGRATE_TO_DEV,
            MIGRATE_TO_SYS,
            SNAPSHOT,
            EXCLUSIVE,
            CHECK_EXCLUSIVE,
            RELEASE,
            FLAGS,
            READ_UNLOCKED,
        ];
        for (number, code) in old.into_iter().enumerate() {
            assert_eq!(code, 0xc028_4800 + number as Ioctl);
        }
        assert_eq!(MIGRATE, 0xc0c8_4840);
        assert_eq!(INJECT, 0xc030_4841);
        assert_eq!(PAGE, 0xc040_4842);
        assert_eq!(STATS, 0xc088_4843);
        assert_eq!(COPY, 0xc040_4844);
        assert_eq!(PAUSE, 0xc040_4845);
    }

    #[test]
    fn layouts_are_those_of_c() {
        assert_eq!(size_of::<Cmd>(), 40);
        assert_eq!(size_of::<Migrate>(), 200);
        assert_eq!(size_of::<Inject>(), 48);
        assert_eq!(size_of::<Page>(), 64);
        assert_eq!(size_of::<Stats>(), 136);
        assert_eq!(size_of::<CopyTime>(), 64);
        assert_eq!(offset_of!(Migrate, refused), 72);
        assert_eq!(offset_of!(Migrate, retries), 112);
        assert_eq!(offset_of!(Migrate, ns_setup), 128);
        assert_eq!(offset_of!(Inject, hits), 24);
        assert_eq!(offset_of!(Page, pfn), 16);
        assert_eq!(offset_of!(Page, refs), 32);
        assert_eq!(offset_of!(Page, flags), 44);
        assert_eq!(offset_of!(Stats, pages_used), 16);
        assert_eq!(offset_of!(Stats, stuck), 80);
        assert_eq!(offset_of!(Stats, ledger_mismatches), 96);
        assert_eq!(offset_of!(CopyTime, npages), 16);
        assert_eq!(offset_of!(CopyTime, ns), 24);
        assert_eq!(size_of::<Pause>(), 64);
        assert_eq!(offset_of!(Pause, ms), 24);
        assert_eq!(offset_of!(Pause, reached), 32);
    }

    #[test]
    fn every_page_is_counted_once() {
        let result = Migrate {
            npages: 512,
            whole: 1,
            split: 2,
            small: 4,
            split_refused: 8,
            refused: [16, 32, 64, 128],
            empty: 257,
            ..Migrate::default()
        };
        assert_eq!(result.moved(), 7);
        assert_eq!(result.accounted(), 512);
    }
}
