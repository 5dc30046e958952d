// SPDX-License-Identifier: GPL-2.0

//! Injected failures, armed with a countdown for an open file or for a device. They work on any kernel.
//!
//! On a kernel with `fail_function`, its gates fail at the same points. The pause of a migration (`pause.rs`) is armed
//! and checked together with these points.

use crate::{
    layer::mm::gate::Gate,
    ledger::Direction,
    pause::{
        Pause,
        PausePoint, //
    },
    uapi, //
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        SpinLock, //
    }, //
};

/// A point that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(crate) enum Point {
    /// The driver takes an extra reference on the source between setup and pages, as another user might.
    ExtraRef,
    /// The allocation of a huge destination fails.
    HugeAlloc,
    /// The allocation of a small destination fails.
    SmallAlloc,
    /// The copy fails.
    Copy,
    /// The driver holds the source's lock during setup, as another user might.
    FolioLock,
}

const POINTS: usize = Point::ALL.len();

/// A `u64`, as the argument of `HMM_DMIRROR_FLAGS` is.
const FAIL_ALLOC: u64 = uapi::FLAG_FAIL_ALLOC as u64;

impl Point {
    /// All points.
    pub(crate) const ALL: [Point; 5] = [
        Point::ExtraRef,
        Point::HugeAlloc,
        Point::SmallAlloc,
        Point::Copy,
        Point::FolioLock,
    ];

    /// Returns its name in debugfs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Point::ExtraRef => "extra_ref",
            Point::HugeAlloc => "huge_alloc",
            Point::SmallAlloc => "small_alloc",
            Point::Copy => "copy",
            Point::FolioLock => "folio_lock",
        }
    }

    /// Returns the point with a number of `enum rust_dmirror_inject_point`, in which 0 means all points.
    pub(crate) fn from_number(number: u32) -> Result<Self> {
        match number {
            uapi::INJECT_EXTRA_REF => Ok(Point::ExtraRef),
            uapi::INJECT_HUGE_ALLOC => Ok(Point::HugeAlloc),
            uapi::INJECT_SMALL_ALLOC => Ok(Point::SmallAlloc),
            uapi::INJECT_COPY => Ok(Point::Copy),
            uapi::INJECT_FOLIO_LOCK => Ok(Point::FolioLock),
            _ => Err(EINVAL),
        }
    }

    fn gate(self) -> Gate {
        match self {
            Point::ExtraRef => Gate::ExtraRef,
            Point::HugeAlloc => Gate::HugeAlloc,
            Point::SmallAlloc => Gate::SmallAlloc,
            Point::Copy => Gate::Copy,
            Point::FolioLock => Gate::FolioLock,
        }
    }
}

/// The countdown of a point: the next `skip` passes succeed, the `times` passes after them fail.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Countdown {
    /// Passes that will succeed.
    pub(crate) skip: u64,
    /// Passes after those that will fail.
    pub(crate) times: u64,
    /// Passes that have failed.
    pub(crate) hits: u64,
}

impl Countdown {
    fn fires(&mut self) -> bool {
        if self.times == 0 {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        self.hits += 1;
        true
    }
}

/// The points of an open file, or of a device.
#[pin_data]
pub(crate) struct Points {
    /// Whether a point is armed. Read often, and almost always false.
    armed: Atomic<bool>,
    #[pin]
    state: SpinLock<State>,
    /// The pause.
    #[pin]
    pub(crate) pause: Pause,
}

struct State {
    /// `HMM_DMIRROR_FLAG_FAIL_ALLOC`: the next allocation of a destination fails, of either order.
    fail_alloc: bool,
    points: [Countdown; POINTS],
}

impl State {
    const NONE: State = State {
        fail_alloc: false,
        points: [Countdown {
            skip: 0,
            times: 0,
            hits: 0,
        }; POINTS],
    };

    fn is_armed(&self) -> bool {
        self.fail_alloc || self.points.iter().any(|point| point.times > 0)
    }

    fn fires(&mut self, point: Point) -> bool {
        let is_alloc = matches!(point, Point::HugeAlloc | Point::SmallAlloc);
        (is_alloc && core::mem::take(&mut self.fail_alloc)) || self.points[point as usize].fires()
    }
}

impl Points {
    /// Makes the points, none of them armed.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Points {
            armed: Atomic::new(false),
            state <- new_spinlock!(State::NONE, "dmirror_inject"),
            pause <- Pause::new(),
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let changed = change(&mut state);
        self.armed.store(state.is_armed(), Relaxed);
        changed
    }

    /// Arms a point, or clears it if `times` is 0. Returns how often it has failed.
    pub(crate) fn arm(&self, point: Point, skip: u64, times: u64) -> u64 {
        self.change(|state| {
            let countdown = &mut state.points[point as usize];
            countdown.skip = skip;
            countdown.times = times;
            countdown.hits
        })
    }

    /// Clears all points, but not the pause.
    pub(crate) fn clear(&self) {
        for point in Point::ALL {
            self.arm(point, 0, 0);
        }
    }

    /// Returns the countdown of a point.
    pub(crate) fn state(&self, point: Point) -> Countdown {
        self.state.lock().points[point as usize]
    }

    /// Sets the flags of `HMM_DMIRROR_FLAGS`.
    pub(crate) fn set_flags(&self, flags: u64) -> Result {
        if flags & !FAIL_ALLOC != 0 {
            return Err(EINVAL);
        }
        self.change(|state| state.fail_alloc = flags & FAIL_ALLOC != 0);
        Ok(())
    }

    fn is_armed(&self) -> bool {
        self.armed.load(Relaxed)
    }

    /// Returns whether a point or the pause is armed.
    fn is_any_armed(&self) -> bool {
        self.is_armed() || self.pause.is_armed()
    }

    /// Counts a pass of the point. Returns whether it must fail.
    pub(crate) fn fires(&self, point: Point) -> bool {
        self.is_armed() && self.change(|state| state.fires(point))
    }
}

/// The failures and pauses for one attempt at up to a huge page: those of the open file and those of its device.
#[derive(Clone, Copy)]
pub(crate) struct Injection<'a> {
    file: Option<&'a Points>,
    device: &'a Points,
    /// Whether a point or a pause was armed when the attempt began. Read for each page, and almost always false.
    armed: bool,
}

impl<'a> Injection<'a> {
    /// Combines those of a file, if there is one, and those of its device.
    pub(crate) fn new(file: Option<&'a Points>, device: &'a Points) -> Self {
        Injection {
            file,
            device,
            armed: device.is_any_armed() || file.is_some_and(Points::is_any_armed),
        }
    }

    /// Counts a pass of the point. Returns whether it must fail.
    #[inline]
    pub(crate) fn fires(&self, point: Point) -> bool {
        self.armed && self.is_due(point) || point.gate().fails()
    }

    /// Stops here if a pause is armed for this stage and direction: first the file's, then the device's. Sleeps
    /// then, with the locks that the migration holds.
    #[inline]
    pub(crate) fn pause(&self, point: PausePoint, direction: Direction) {
        if self.armed {
            self.stop(point, direction);
        }
    }

    #[cold]
    fn stop(&self, point: PausePoint, direction: Direction) {
        if let Some(points) = self.file {
            points.pause.pass(point, direction);
        }
        self.device.pause.pass(point, direction);
    }

    fn is_due(&self, point: Point) -> bool {
        self.file.is_some_and(|points| points.fires(point)) || self.device.fires(point)
    }
}

#[kunit_tests(rust_dmirror_inject)]
mod tests {
    use super::*;

    #[test]
    fn counts_down_skip_then_times() {
        let mut countdown = Countdown {
            skip: 2,
            times: 3,
            hits: 0,
        };
        let fired = [(); 7].map(|()| countdown.fires());
        assert_eq!(fired, [false, false, true, true, true, false, false]);
        assert_eq!(countdown.hits, 3);
    }

    #[test]
    fn points_are_armed_one_by_one() -> Result {
        let points = KBox::pin_init(Points::new(), GFP_KERNEL)?;
        assert!(!points.fires(Point::Copy));
        points.arm(Point::Copy, 0, 1);
        assert!(!points.fires(Point::ExtraRef));
        assert!(points.fires(Point::Copy));
        assert!(!points.fires(Point::Copy));
        assert_eq!(points.arm(Point::Copy, 0, 5), 1);
        points.clear();
        assert!(!points.fires(Point::Copy));
        Ok(())
    }

    #[test]
    fn the_old_flag_fails_one_allocation() -> Result {
        let points = KBox::pin_init(Points::new(), GFP_KERNEL)?;
        points.set_flags(FAIL_ALLOC)?;
        assert!(!points.fires(Point::Copy));
        assert!(points.fires(Point::SmallAlloc));
        assert!(!points.fires(Point::HugeAlloc));
        points.set_flags(FAIL_ALLOC)?;
        points.set_flags(0)?;
        assert!(!points.fires(Point::HugeAlloc));
        assert_eq!(points.set_flags(2), Err(EINVAL));
        Ok(())
    }

    #[test]
    fn unknown_points_are_refused() {
        assert_eq!(Point::from_number(0), Err(EINVAL));
        assert_eq!(Point::from_number(6), Err(EINVAL));
        assert_eq!(Point::from_number(1), Ok(Point::ExtraRef));
    }
}
