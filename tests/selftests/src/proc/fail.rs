// SPDX-License-Identifier: GPL-2.0

//! Makes page allocations of the kernel fail (`CONFIG_FAIL_PAGE_ALLOC`). There is no other way to make a chosen
//! allocation fail with both drivers.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
};

use anyhow::{Context, Result};

use crate::skip::Skip;

const KNOBS: &str = "/sys/kernel/debug/fail_page_alloc";

/// Makes page allocations fail until it is dropped.
pub struct PageAlloc {
    /// The file that enables failures for one thread. `None` if the allocations of all threads fail.
    thread: Option<File>,
}

impl PageAlloc {
    /// Makes allocations of this thread fail that have at least `order`: after `after` pages were allocated, and at
    /// most `times` times. Memory that the thread accesses meanwhile must be populated already.
    pub fn fail(order: u32, after: u32, times: u32) -> Result<PageAlloc> {
        PageAlloc::arm(order, after, times, true)?;
        let mut thread = OpenOptions::new()
            .write(true)
            .open("/proc/thread-self/make-it-fail")
            .context("make-it-fail")?;
        // The last step, so that no other allocation of this function can fail.
        thread.write_all(b"1").context("make-it-fail")?;
        Ok(PageAlloc {
            thread: Some(thread),
        })
    }

    /// Makes allocations of at least `order` fail in all threads, including kernel threads.
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
            // An allocation fails unless the space is greater than the number of its pages; otherwise, the kernel
            // subtracts them from the space.
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
        // The first step, so that nothing below can fail.
        if let Some(thread) = &mut self.thread {
            let _ = thread.write_all(b"0");
        }
        let _ = fs::write(Path::new(KNOBS).join("probability"), "0");
    }
}
