// SPDX-License-Identifier: GPL-2.0

//! The ioctls, as the kernel defines them.
//!
//! Generated from `include/uapi/rust_dmirror.h` and `test_hmm_uapi.h`, as the driver's are
//! (`build.rs`). Constants lack the prefix: [`MIGRATE`] is `RUST_DMIRROR_MIGRATE`.

mod generated {
    #![allow(dead_code, non_camel_case_types)]

    use zerocopy::{FromBytes, Immutable, IntoBytes};

    include!(env!("RUST_DMIRROR_UAPI"));
}

pub use generated::{
    hmm_dmirror_cmd as Cmd, rust_dmirror_copy as CopyTime, rust_dmirror_inject as Inject,
    rust_dmirror_migrate as Migrate, rust_dmirror_page as Page, rust_dmirror_pause as Pause,
    rust_dmirror_stats as Stats, *,
};

/// Constants in the type of what they are compared with. bindgen makes a `u32` of each.
macro_rules! typed {
    ($($type:ty: $($name:ident)*;)*) => {
        $($(pub const $name: $type = generated::$name as $type;)*)*
    };
}

typed! {
    // An argument of `FLAGS`.
    u64: FLAG_FAIL_ALLOC;
    // Pages.
    usize: COPY_MOST;
    // Indices of `Migrate::refused`.
    usize: REFUSED_COLLECT REFUSED_NO_MEMORY REFUSED_COPY REFUSED_CORE;
    // What a snapshot says of a page.
    u8: PROT_ERROR PROT_WRITE PROT_PMD PROT_PUD PROT_ZERO PROT_DEV_PRIVATE_LOCAL PROT_DEV_PRIVATE_REMOTE
        PROT_DEV_COHERENT_LOCAL PROT_DEV_COHERENT_REMOTE;
}

/// The bits of a snapshot that say what kind of memory it is.
pub const PROT_KIND: u8 = 0xf0;

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
    All = INJECT_ALL,
    ExtraRef = INJECT_EXTRA_REF,
    HugeAlloc = INJECT_HUGE_ALLOC,
    SmallAlloc = INJECT_SMALL_ALLOC,
    Copy = INJECT_COPY,
    FolioLock = INJECT_FOLIO_LOCK,
}

/// `enum rust_dmirror_stage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    Collected = COLLECTED,
    Filled = FILLED,
    Committed = COMMITTED,
    Finalize = FINALIZE,
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

#[cfg(test)]
mod tests {
    use super::*;

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
