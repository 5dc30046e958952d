// SPDX-License-Identifier: GPL-2.0

//! The operations of each thread and their arguments: a pure function of the seed.
//!
//! Every step draws the same number of random numbers, independent of its operation and of the results of earlier ones.
//! Operations that are not selected are skipped, without changing the others.

use clap::ValueEnum;
use fastrand::Rng;

use crate::area::HUGE;

macro_rules! ops {
    ($($(#[$doc:meta])* $op:ident = $weight:literal,)*) => {
        /// The operations of a thread.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
        pub enum Op {
            $($(#[$doc])* $op,)*
        }

        impl Op {
            pub const ALL: &'static [Op] = &[$(Op::$op,)*];
            pub const COUNT: usize = Self::ALL.len();
            /// Its weight among the operations.
            const WEIGHTS: &'static [u32] = &[$($weight,)*];
        }
    };
}

ops! {
    /// migrate to the device, sometimes with the data read back
    ToDevice = 90,
    /// migrate to system memory
    ToSystem = 30,
    /// read words by the CPU
    CpuRead = 120,
    /// write words by the CPU
    CpuWrite = 120,
    /// the device reads
    DeviceRead = 90,
    /// the device writes
    DeviceWrite = 100,
    /// ask what is mapped
    Snapshot = 20,
    /// make pages exclusive to the device
    Exclusive = 20,
    /// ask where a page is, and for counters
    Look = 15,
    /// MADV_DONTNEED
    Discard = 15,
    /// MADV_COLD
    Cold = 6,
    /// MADV_PAGEOUT
    Pageout = 10,
    /// MADV_HUGEPAGE
    Huge = 5,
    /// MADV_NOHUGEPAGE
    NoHuge = 2,
    /// MADV_COLLAPSE
    Collapse = 8,
    /// mprotect: none, read, read and write
    Protect = 8,
    /// mremap to another address
    Move = 4,
    /// munmap, and mmap anew
    Remap = 2,
    /// munmap a part, and mmap it anew
    Punch = 5,
    /// fork; the child looks, writes, migrates, and may stay for a while
    Fork = 8,
    /// close a file of the device, open another one
    Reopen = 8,
    /// RELEASE: everything off the device
    Release = 3,
    /// let something fail
    Inject = 10,
    /// take nearly all memory for a moment
    Pressure = 1,
    /// have the kernel compact its memory
    Compact = 1,
}

impl Op {
    pub fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_string())
            .unwrap_or_default()
    }
}

/// The size of the memory and the number of threads.
#[derive(Clone, Copy)]
pub struct Shape {
    pub areas: usize,
    /// Pages of each area.
    pub pages: usize,
    pub files: usize,
}

/// An operation and its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub op: Op,
    pub area: usize,
    pub first: usize,
    pub npages: usize,
    pub file: usize,
    /// A random number for other choices.
    pub arg: u64,
}

impl Step {
    /// For the board: all but the argument.
    pub fn packed(&self) -> u64 {
        self.op as u64
            | ((self.area as u64) << 8)
            | ((self.file as u64) << 16)
            | ((self.first as u64) << 24)
            | ((self.npages as u64) << 44)
    }

    pub fn describe(packed: u64) -> String {
        let op = Op::ALL[(packed & 0xff) as usize % Op::COUNT].name();
        format!(
            "{op} area {} pages {}+{} file {}",
            (packed >> 8) & 0xff,
            (packed >> 24) & 0xf_ffff,
            packed >> 44,
            (packed >> 16) & 0xff
        )
    }
}

/// A thread's steps.
pub struct Stream {
    rng: Rng,
    shape: Shape,
    chosen: [bool; Op::COUNT],
}

impl Stream {
    pub fn new(seed: u64, thread: usize, shape: Shape, chosen: [bool; Op::COUNT]) -> Stream {
        // Seeds that lie side by side must not give streams that do.
        let mut mixer = Rng::with_seed(seed);
        let mut own = 0;
        for _ in 0..=thread {
            own = mixer.u64(..);
        }
        Stream {
            rng: Rng::with_seed(own),
            shape,
            chosen,
        }
    }

    /// Returns the next step with a selected operation. There must be one.
    pub fn next(&mut self) -> Step {
        loop {
            let step = self.draw();
            if self.chosen[step.op as usize] {
                return step;
            }
        }
    }

    fn draw(&mut self) -> Step {
        let rng = &mut self.rng;
        let total: u32 = Op::WEIGHTS.iter().sum();
        let mut at = rng.u32(..total);
        let mut op = Op::ALL[0];
        for (candidate, weight) in Op::ALL.iter().zip(Op::WEIGHTS) {
            if at < *weight {
                op = *candidate;
                break;
            }
            at -= weight;
        }
        let (area, file) = (rng.usize(..self.shape.areas), rng.usize(..self.shape.files));
        let (kind, place, length) = (rng.u32(..100), rng.usize(..), rng.usize(..));
        let pages = self.shape.pages;
        let block = place % (pages / HUGE) * HUGE;
        let (first, npages) = match kind {
            // A page that everybody wants: the first of a huge page, or the last. Most races need two
            // that meet, and an emulated machine does not do much in a minute.
            0..55 => (block + length % 2 * (HUGE - 1), 1),
            55..80 => (place % pages, 1 + length % 8),
            80..95 => (place % pages, 1 + length % 32),
            95..99 => (block, HUGE),
            _ => (0, pages),
        };
        Step {
            op,
            area,
            first,
            npages: npages.min(pages - first),
            file,
            arg: rng.u64(..),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        areas: 3,
        pages: 2 * HUGE,
        files: 4,
    };

    fn steps(seed: u64, thread: usize, chosen: impl Fn(Op) -> bool) -> Vec<Step> {
        let mut mask = [false; Op::COUNT];
        for op in Op::ALL {
            mask[*op as usize] = chosen(*op);
        }
        let mut stream = Stream::new(seed, thread, SHAPE, mask);
        (0..2000).map(|_| stream.next()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_steps() {
        assert_eq!(steps(7, 2, |_| true), steps(7, 2, |_| true));
        assert_ne!(steps(7, 2, |_| true), steps(8, 2, |_| true));
        assert_ne!(steps(7, 2, |_| true), steps(7, 3, |_| true));
        assert_ne!(steps(7, 3, |_| true), steps(8, 2, |_| true));
    }

    #[test]
    fn leaving_some_out_leaves_the_others() {
        let all = steps(9, 0, |_| true);
        let some = steps(9, 0, |op| op != Op::Fork && op != Op::CpuRead);
        let kept: Vec<_> = all
            .into_iter()
            .filter(|step| step.op != Op::Fork && step.op != Op::CpuRead)
            .collect();
        assert_eq!(kept[..], some[..kept.len()]);
    }

    #[test]
    fn every_operation_comes_and_stays_inside() {
        let mut seen = [false; Op::COUNT];
        for step in (0..8).flat_map(|thread| steps(1, thread, |_| true)) {
            seen[step.op as usize] = true;
            assert!(step.npages > 0 && step.first + step.npages <= SHAPE.pages);
            assert!(step.area < SHAPE.areas && step.file < SHAPE.files);
        }
        assert_eq!(seen, [true; Op::COUNT]);
    }

    #[test]
    fn steps_are_shown_as_they_were() {
        let step = Step {
            op: Op::DeviceWrite,
            area: 2,
            first: 1000,
            npages: 24,
            file: 3,
            arg: 5,
        };
        assert_eq!(
            Step::describe(step.packed()),
            "device-write area 2 pages 1000+24 file 3"
        );
    }
}
