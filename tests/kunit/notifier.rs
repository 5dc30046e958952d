// SPDX-License-Identifier: GPL-2.0

//! Readers of a mapping that changes meanwhile.

use super::{
    log::Log,
    rig::Rig, //
};
use crate::layer::mm::{
    interval::{
        Event,
        Invalidate,
        Notifier, //
    },
    testing, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};

struct Told;

impl Invalidate for Told {
    fn invalidate(&self, event: &Event<'_>) -> bool {
        event.set_seq();
        true
    }
}

/// What was read before a page was unmapped is stale, and what is read after it is not.
fn stale() -> Result<Log> {
    Rig::run(|rig, log| {
        rig.write_pattern()?;
        let mm = rig.client().mm()?;
        let notifier = Arc::pin_init(Notifier::new(&mm, Told), GFP_KERNEL)?;
        let before = notifier.read_begin();
        log.check(!notifier.read_retry(before), "nothing has changed")?;
        testing::unmap(rig.base, PAGE_SIZE)?;
        log.check(notifier.read_retry(before), "a page is gone")?;
        let after = notifier.read_begin();
        log.check(!notifier.read_retry(after), "nothing has changed since")
    })
}

#[kunit_tests(rust_dmirror_notifier)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_is_stale() -> Result {
        assert!(stale()?.is(&[]));
        Ok(())
    }
}
