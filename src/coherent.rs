// SPDX-License-Identifier: GPL-2.0

//! Checks the module parameters that say where the memory of the coherent devices is. Pure.

use crate::layer::mm::HUGE_SIZE;
use kernel::prelude::*;

/// The number of coherent devices.
pub(crate) const DEVICES: usize = 2;

/// A range of special purpose memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// Its first physical address.
    pub(crate) start: u64,
    /// Its size in bytes.
    pub(crate) size: usize,
}

/// Returns the ranges that the parameters give, in the order of the devices. `None` if they give none.
///
/// # Errors
///
/// A message for the user who loads the module.
pub(crate) fn spans(
    starts: [u64; DEVICES],
    mib: u64,
) -> core::result::Result<Option<[Span; DEVICES]>, &'static str> {
    if starts == [0; DEVICES] {
        return Ok(None);
    }
    if starts.contains(&0) {
        return Err("spm_addr_dev0 and spm_addr_dev1 come together or not at all");
    }
    let huge = HUGE_SIZE as u64;
    let size = mib.saturating_mul(1 << 20);
    // A size that is too large is reported below.
    if size == 0 || mib % (huge >> 20) != 0 {
        return Err("spm_size_mib must be a multiple of 2, and not 0");
    }
    if starts.iter().any(|start| start % huge != 0) {
        return Err("spm_addr_dev0 and spm_addr_dev1 must be multiples of 2 MiB");
    }
    // The end is a physical address, so it fits the CPU's and a `usize`.
    let most = isize::MAX as u64;
    let end = |start: u64| start.checked_add(size).filter(|end| *end <= most);
    let (Some(first_end), Some(second_end)) = (end(starts[0]), end(starts[1])) else {
        return Err("spm_size_mib goes beyond all addresses");
    };
    if starts[0] < second_end && starts[1] < first_end {
        return Err("the ranges of spm_addr_dev0 and spm_addr_dev1 overlap");
    }
    Ok(Some(starts.map(|start| Span {
        start,
        size: size as usize,
    })))
}

/// Returns a message that says why no device memory could be made of a range.
pub(crate) fn reason(error: Error) -> &'static str {
    match error {
        error if error == ENXIO => {
            "not all of it is reserved; give the kernel memmap=SIZE$ADDRESS, see /proc/iomem"
        }
        error if error == ENODEV => "it belongs to a bus or a device, see /proc/iomem",
        error if error == EBUSY => "it is in use, see /proc/iomem",
        error if error == ENOMEM => "no memory for its struct pages",
        error if error == EEXIST => {
            "some struct pages are left of an attempt for which memory was short, until the next boot"
        }
        _ => "the kernel refused it",
    }
}

#[kunit_tests(rust_dmirror_coherent)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn is_refused(starts: [u64; DEVICES], mib: u64) -> bool {
        spans(starts, mib).is_err()
    }

    #[test]
    fn no_address_is_no_device() {
        assert_eq!(spans([0, 0], 256), Ok(None));
        // The size does not matter then.
        assert_eq!(spans([0, 0], 3), Ok(None));
    }

    #[test]
    fn one_address_is_a_mistake() {
        assert!(is_refused([GIB, 0], 256));
        assert!(is_refused([0, GIB], 256));
    }

    #[test]
    fn ranges_may_touch_in_any_order() {
        let size = 256usize << 20;
        for starts in [
            [5 * GIB, 5 * GIB + size as u64],
            [5 * GIB + size as u64, 5 * GIB],
        ] {
            let made = starts.map(|start| Span { start, size });
            assert_eq!(spans(starts, 256), Ok(Some(made)));
        }
    }

    #[test]
    fn ranges_may_not_overlap() {
        for distance in [0, 2 << 20, 254 << 20] {
            assert!(is_refused([GIB, GIB + distance], 256));
            assert!(is_refused([GIB + distance, GIB], 256));
        }
    }

    #[test]
    fn huge_blocks_are_what_is_counted_in() {
        for mib in [0, 1, 3, 255] {
            assert!(is_refused([GIB, 2 * GIB], mib));
        }
        for start in [GIB + 1, GIB + (1 << 20), GIB - 4096] {
            assert!(is_refused([start, 2 * GIB], 256));
            assert!(is_refused([2 * GIB, start], 256));
        }
    }

    #[test]
    fn each_error_has_its_reason() {
        for (error, word) in [
            (ENXIO, "memmap="),
            (ENODEV, "bus"),
            (EBUSY, "in use"),
            (ENOMEM, "struct pages"),
            (EINVAL, "refused"),
        ] {
            assert!(reason(error).contains(word));
        }
    }

    #[test]
    fn nothing_wraps() {
        let last = u64::MAX - ((2 << 20) - 1);
        assert!(is_refused([last, GIB], 256));
        assert!(is_refused([GIB, last], 256));
        for mib in [1 << 43, 1 << 44, (1 << 44) + 2, u64::MAX - 1] {
            assert!(is_refused([GIB, 2 * GIB], mib));
        }
    }
}
