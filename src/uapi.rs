// SPDX-License-Identifier: GPL-2.0

//! What user space sees: the ten commands of `lib/test_hmm_uapi.h`, and those of
//! `include/uapi/rust_dmirror.h`.
//!
//! Generated from that header by `scripts/uapi-bindings.sh`, with a check of each layout. Constants lack the
//! prefix: [`MIGRATE`] is `RUST_DMIRROR_MIGRATE`. Structures have their names in C, and shorter ones here.

mod generated {
    #![allow(
        clippy::all,
        dead_code,
        missing_docs,
        non_camel_case_types,
        unreachable_pub
    )]

    use kernel::prelude::*;
    use zerocopy_derive::Immutable;

    include!(env!("RUST_DMIRROR_UAPI"));
}

pub(crate) use generated::{
    hmm_dmirror_cmd as Command,
    rust_dmirror_copy as CopyTime,
    rust_dmirror_inject as Inject,
    rust_dmirror_migrate as Migrate,
    rust_dmirror_page as Page,
    rust_dmirror_pause as Pause,
    rust_dmirror_stats as Stats,
    *, //
};
