// SPDX-License-Identifier: GPL-2.0

//! What user space sees: the ten commands of `lib/test_hmm_uapi.h`, and those of
//! `include/uapi/rust_dmirror.h`.

use kernel::{
    ioctl::_IOWR,
    prelude::*,
    transmute::{
        AsBytes,
        FromBytes, //
    }, //
};

const TYPE: u32 = b'H' as u32;

/// `struct hmm_dmirror_cmd`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Command {
    /// (in) First address; flags have none.
    pub(crate) addr: u64,
    /// (in) Where data is copied to or from.
    pub(crate) ptr: u64,
    /// (in) Pages; or flags.
    pub(crate) npages: u64,
    /// (out) Pages done.
    pub(crate) cpages: u64,
    /// (out) Device faults taken.
    pub(crate) faults: u64,
}

/// `struct rust_dmirror_migrate`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Migrate {
    pub(crate) version: u32,
    pub(crate) direction: u32,
    pub(crate) addr: u64,
    pub(crate) npages: u64,
    pub(crate) ptr: u64,
    pub(crate) collected: u64,
    pub(crate) whole: u64,
    pub(crate) split: u64,
    pub(crate) small: u64,
    pub(crate) split_refused: u64,
    pub(crate) refused: [u64; 4],
    pub(crate) empty: u64,
    pub(crate) retries: u64,
    pub(crate) read_back: u64,
    pub(crate) ns_setup: u64,
    pub(crate) ns_copy: u64,
    pub(crate) ns_pages: u64,
    pub(crate) ns_finalize: u64,
    pub(crate) ns_readback: u64,
    pub(crate) reserved: [u64; 4],
}

/// `struct rust_dmirror_inject`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Inject {
    pub(crate) version: u32,
    pub(crate) point: u32,
    pub(crate) skip: u64,
    pub(crate) times: u64,
    pub(crate) hits: u64,
    pub(crate) reserved: [u64; 2],
}

/// `struct rust_dmirror_page`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Page {
    pub(crate) version: u32,
    pub(crate) place: u32,
    pub(crate) addr: u64,
    pub(crate) pfn: u64,
    pub(crate) order: u32,
    pub(crate) map_order: u32,
    pub(crate) refs: u32,
    pub(crate) expected: u32,
    pub(crate) mapcount: u32,
    pub(crate) flags: u32,
    pub(crate) reserved: [u64; 2],
}

/// `struct rust_dmirror_stats`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Stats {
    pub(crate) version: u32,
    pub(crate) chunks: u32,
    pub(crate) pages_total: u64,
    pub(crate) pages_used: u64,
    pub(crate) pages_mine: u64,
    pub(crate) to_device: u64,
    pub(crate) to_system: u64,
    pub(crate) faulted: u64,
    pub(crate) evicted: u64,
    pub(crate) split_refused: u64,
    pub(crate) retries: u64,
    pub(crate) stuck: u64,
    pub(crate) ledger_checks: u64,
    pub(crate) ledger_mismatches: u64,
    pub(crate) reserved: [u64; 4],
}

/// `struct rust_dmirror_copy`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct CopyTime {
    pub(crate) version: u32,
    pub(crate) kind: u32,
    pub(crate) ptr: u64,
    pub(crate) npages: u64,
    pub(crate) ns: u64,
    pub(crate) reserved: [u64; 4],
}

/// `struct rust_dmirror_pause`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Pause {
    pub(crate) version: u32,
    pub(crate) op: u32,
    pub(crate) stage: u32,
    pub(crate) direction: u32,
    pub(crate) skip: u64,
    pub(crate) ms: u32,
    pub(crate) waiting: u32,
    pub(crate) reached: u64,
    pub(crate) reserved: [u64; 3],
}

macro_rules! plain {
    ($($name:ident, $size:literal;)*) => {$(
        const _: () = assert!(size_of::<$name>() == $size);
        // SAFETY: A struct of integers without padding, as its size says.
        unsafe impl FromBytes for $name {}
        // SAFETY: As above.
        unsafe impl AsBytes for $name {}
    )*};
}

plain! {
    Command, 40;
    Migrate, 200;
    Inject, 48;
    Page, 64;
    Stats, 136;
    CopyTime, 64;
    Pause, 64;
}

/// What a command reads and writes back.
pub(crate) trait Argument: AsBytes + FromBytes {
    /// What was asked for: the (out) members, in which the caller may have left anything, are zero.
    /// So they say nothing that is not so, however early a command ends.
    fn asked(self) -> Self;
}

impl Argument for Command {
    fn asked(self) -> Self {
        Command {
            cpages: 0,
            faults: 0,
            ..self
        }
    }
}

impl Argument for Migrate {
    fn asked(self) -> Self {
        Migrate {
            version: self.version,
            direction: self.direction,
            addr: self.addr,
            npages: self.npages,
            ptr: self.ptr,
            reserved: self.reserved,
            ..Migrate::default()
        }
    }
}

impl Argument for Inject {
    fn asked(self) -> Self {
        Inject { hits: 0, ..self }
    }
}

impl Argument for Page {
    fn asked(self) -> Self {
        Page {
            version: self.version,
            addr: self.addr,
            reserved: self.reserved,
            ..Page::default()
        }
    }
}

impl Argument for Stats {
    fn asked(self) -> Self {
        Stats {
            version: self.version,
            reserved: self.reserved,
            ..Stats::default()
        }
    }
}

impl Argument for CopyTime {
    fn asked(self) -> Self {
        CopyTime { ns: 0, ..self }
    }
}

impl Argument for Pause {
    fn asked(self) -> Self {
        Pause {
            waiting: 0,
            reached: 0,
            ..self
        }
    }
}

const fn old(number: u32) -> u32 {
    _IOWR::<Command>(TYPE, number)
}

pub(crate) const READ: u32 = old(0x00);
pub(crate) const WRITE: u32 = old(0x01);
pub(crate) const MIGRATE_TO_DEV: u32 = old(0x02);
pub(crate) const MIGRATE_TO_SYS: u32 = old(0x03);
pub(crate) const SNAPSHOT: u32 = old(0x04);
pub(crate) const EXCLUSIVE: u32 = old(0x05);
pub(crate) const CHECK_EXCLUSIVE: u32 = old(0x06);
pub(crate) const RELEASE: u32 = old(0x07);
pub(crate) const FLAGS: u32 = old(0x08);
pub(crate) const READ_UNLOCKED: u32 = old(0x09);

pub(crate) const MIGRATE: u32 = _IOWR::<Migrate>(TYPE, 0x40);
pub(crate) const INJECT: u32 = _IOWR::<Inject>(TYPE, 0x41);
pub(crate) const PAGE: u32 = _IOWR::<Page>(TYPE, 0x42);
pub(crate) const STATS: u32 = _IOWR::<Stats>(TYPE, 0x43);
pub(crate) const COPY: u32 = _IOWR::<CopyTime>(TYPE, 0x44);
pub(crate) const PAUSE: u32 = _IOWR::<Pause>(TYPE, 0x45);

/// The version of the ABI beyond test_hmm's.
pub(crate) const VERSION: u32 = 1;

/// The only flag: the next allocation of a destination fails.
pub(crate) const FLAG_FAIL_ALLOC: u64 = 1 << 0;

/// What a snapshot says of a page: `HMM_DMIRROR_PROT_*`.
pub(crate) mod prot {
    pub(crate) const ERROR: u8 = 0xff;
    pub(crate) const NONE: u8 = 0x00;
    pub(crate) const READ: u8 = 0x01;
    pub(crate) const WRITE: u8 = 0x02;
    pub(crate) const PMD: u8 = 0x04;
    pub(crate) const PUD: u8 = 0x08;
    pub(crate) const ZERO: u8 = 0x10;
    pub(crate) const PRIVATE_LOCAL: u8 = 0x20;
    pub(crate) const PRIVATE_REMOTE: u8 = 0x30;
    pub(crate) const COHERENT_LOCAL: u8 = 0x40;
    pub(crate) const COHERENT_REMOTE: u8 = 0x50;
}

/// Where a page is: `enum rust_dmirror_where`.
pub(crate) mod place {
    pub(crate) const NOWHERE: u32 = 0;
    pub(crate) const SYSTEM: u32 = 1;
    pub(crate) const ZERO: u32 = 2;
    pub(crate) const DEVICE: u32 = 3;
    pub(crate) const UNREADABLE: u32 = 4;
}

/// Bits of `rust_dmirror_page.flags`.
pub(crate) mod page_flag {
    pub(crate) const WRITE: u32 = 1 << 0;
    pub(crate) const ANON: u32 = 1 << 1;
    pub(crate) const LOCKED: u32 = 1 << 2;
    pub(crate) const LRU: u32 = 1 << 3;
    pub(crate) const PRIVATE: u32 = 1 << 4;
    pub(crate) const COHERENT: u32 = 1 << 5;
}

/// Directions of [`Migrate`].
pub(crate) const TO_DEVICE: u32 = 1;
/// Directions of [`Migrate`].
pub(crate) const TO_SYSTEM: u32 = 2;

/// What a [`CopyTime`] copies.
pub(crate) mod copy {
    pub(crate) const PAGES: u32 = 1;
    pub(crate) const TO_USER: u32 = 2;
    pub(crate) const FROM_USER: u32 = 3;
    pub(crate) const COLD: u32 = 0x100;
    pub(crate) const MOST: u64 = 512;
}

/// What a [`Pause`] is asked to do: `enum rust_dmirror_pause_op`.
pub(crate) mod pause {
    pub(crate) const ARM: u32 = 1;
    pub(crate) const WAIT: u32 = 2;
    pub(crate) const RESUME: u32 = 3;
    pub(crate) const CLEAR: u32 = 4;
    pub(crate) const STATUS: u32 = 5;
}

#[kunit_tests(rust_dmirror_uapi)]
mod tests {
    use super::*;

    /// The numbers that a C program gets from the headers.
    #[test]
    fn numbers_are_those_of_c() {
        assert_eq!(READ, 0xc028_4800);
        assert_eq!(READ_UNLOCKED, 0xc028_4809);
        assert_eq!(MIGRATE, 0xc0c8_4840);
        assert_eq!(INJECT, 0xc030_4841);
        assert_eq!(PAGE, 0xc040_4842);
        assert_eq!(STATS, 0xc088_4843);
        assert_eq!(COPY, 0xc040_4844);
        assert_eq!(PAUSE, 0xc040_4845);
    }
}
