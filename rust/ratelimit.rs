// SPDX-License-Identifier: GPL-2.0

//! Rate limit for messages that user space can cause.
//!
//! C header: [`include/linux/ratelimit.h`](srctree/include/linux/ratelimit.h)

use super::bindings;
use kernel::prelude::*;

/// Returns whether a message may be printed now. C: `__ratelimit()`. May be called in any context.
pub fn allows() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::rust_dmirror_ratelimit() }
}

/// [`pr_warn!`](kernel::pr_warn), limited by [`allows`].
macro_rules! warn_limited {
    ($($arg:tt)*) => {
        if $crate::layer::ratelimit::allows() {
            ::kernel::pr_warn!($($arg)*);
        }
    };
}

pub(crate) use warn_limited;

#[kunit_tests(rust_dmirror_ratelimit)]
mod tests {
    use super::*;

    #[test]
    fn some_messages_are_allowed_and_not_all() {
        let allowed = (0..100).filter(|_| allows()).count();
        assert!((1..100).contains(&allowed));
    }
}
