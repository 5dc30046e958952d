// SPDX-License-Identifier: GPL-2.0

//! Page allocations of the kernel that fail on purpose (`CONFIG_FAIL_PAGE_ALLOC`): the only way to
//! let both drivers miss memory at a chosen place.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
};

use anyhow::{Context, Result};

use crate::skip::Skip;

const KNOBS: &str = "/sys/kernel/debug/fail_page_alloc";

/// Page allocations fail while this lives.
pub struct PageAlloc {
    /// The thread whose allocations fail, if it is one.
    thread: Option<File>,
}

impl PageAlloc {
    /// Lets allocations of this thread of at least `order` fail, after `after` pages were had, `times`
    /// times at most. What the thread touches meanwhile must be there already.
    pub fn fail(order: u32, after: u32, times: u32) -> Result<PageAlloc> {
        PageAlloc::arm(order, after, times, true)?;
        let mut thread = OpenOptions::new()
            .write(true)
            .open("/proc/thread-self/make-it-fail")
            .context("make-it-fail")?;
        // The last step: from here on nothing is allocated that need not be.
        thread.write_all(b"1").context("make-it-fail")?;
        Ok(PageAlloc {
            thread: Some(thread),
        })
    }

    /// Lets allocations of at least `order` fail, whoever asks, kernel threads included.
    pub fn fail_for_all(order: u32) -> Result<PageAlloc> {
        PageAlloc::arm(order, 0, u32::MAX >> 1, false)?;
        Ok(PageAlloc { thread: None })
    }

    fn arm(order: u32, after: u32, times: u32, is_for_thread: bool) -> Result<()> {
        if !Path::new(KNOBS).exists() {
            return Err(Skip("this kernel cannot let page allocations fail".into()).into());
        }
        for (knob, value) in [
            ("probability", 0),
            ("ignore-gfp-wait", 0),
            ("ignore-gfp-highmem", 0),
            ("task-filter", u32::from(is_for_thread)),
            ("verbose", 0),
            ("interval", 0),
            ("min-order", order),
            // The allocation that finds no more room than it needs fails.
            ("space", if after == 0 { 0 } else { after + 1 }),
            ("times", times),
            ("probability", 100),
        ] {
            let text = match knob {
                "ignore-gfp-wait" | "ignore-gfp-highmem" => "N".to_string(),
                "task-filter" => if is_for_thread { "Y" } else { "N" }.to_string(),
                _ => value.to_string(),
            };
            fs::write(Path::new(KNOBS).join(knob), text).with_context(|| knob.to_string())?;
        }
        Ok(())
    }
}

impl Drop for PageAlloc {
    fn drop(&mut self) {
        // The first step, for the same reason.
        if let Some(thread) = &mut self.thread {
            let _ = thread.write_all(b"0");
        }
        let _ = fs::write(Path::new(KNOBS).join("probability"), "0");
    }
}
