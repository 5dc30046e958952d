// SPDX-License-Identifier: GPL-2.0

//! Pause points: stop a migration between two stages, with all locks held that it holds there, until it is resumed.
//!
//! A pause is armed for one point and for one direction or all, per open file and per device. It stops one
//! migration. The stop ends when it is resumed or cleared, at its time limit, or when the thread that migrates is
//! killed. The migration then continues as it would have without the pause.

use crate::{
    layer::mm::lock::fatal_signal_pending,
    ledger::Direction,
    uapi, //
};
use kernel::{
    current,
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        SpinLock, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// A point between two stages of a migration, at which it can stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum PausePoint {
    /// After `migrate_vma_setup()` or `migrate_device_pfns()`: sources are locked and unmapped.
    Collected = uapi::COLLECTED,
    /// Destinations are filled and given; before `migrate_vma_pages()`.
    Filled = uapi::FILLED,
    /// Right after `migrate_vma_pages()`; injected references are still held.
    Committed = uapi::COMMITTED,
    /// Outcomes are counted; before `migrate_vma_finalize()`.
    Finalize = uapi::FINALIZE,
}

impl PausePoint {
    /// All points.
    pub(crate) const ALL: [PausePoint; 4] = [
        PausePoint::Collected,
        PausePoint::Filled,
        PausePoint::Committed,
        PausePoint::Finalize,
    ];

    /// Returns its name in debugfs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            PausePoint::Collected => "collected",
            PausePoint::Filled => "filled",
            PausePoint::Committed => "committed",
            PausePoint::Finalize => "finalize",
        }
    }

    /// Returns the point with a number of `enum rust_dmirror_stage`.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is none.
    pub(crate) fn from_number(number: u32) -> Result<Self> {
        let point = PausePoint::ALL
            .iter()
            .find(|point| **point as u32 == number);
        point.copied().ok_or(EINVAL)
    }

    /// Returns the point with a name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        PausePoint::ALL
            .into_iter()
            .find(|point| point.name() == name)
    }
}

/// The directions of migrations that a pause stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Directions {
    /// All directions.
    Any,
    /// One direction.
    Only(Direction),
}

impl Directions {
    const ALL: [Directions; 5] = [
        Directions::Any,
        Directions::Only(Direction::ToDevice),
        Directions::Only(Direction::ToSystem),
        Directions::Only(Direction::Fault),
        Directions::Only(Direction::Evict),
    ];

    /// Returns their name in debugfs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Directions::Any => "any",
            Directions::Only(direction) => direction.name(),
        }
    }

    /// Returns the direction with a number (`RUST_DMIRROR_TO_DEVICE` and the following ones), or any for 0.
    ///
    /// # Errors
    ///
    /// `EINVAL` for any other number.
    pub(crate) fn from_number(number: u32) -> Result<Self> {
        match number {
            0 => Ok(Directions::Any),
            uapi::TO_DEVICE => Ok(Directions::Only(Direction::ToDevice)),
            uapi::TO_SYSTEM => Ok(Directions::Only(Direction::ToSystem)),
            uapi::BY_FAULT => Ok(Directions::Only(Direction::Fault)),
            uapi::BY_EVICTION => Ok(Directions::Only(Direction::Evict)),
            _ => Err(EINVAL),
        }
    }

    /// Returns the directions with a name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Directions::ALL
            .into_iter()
            .find(|directions| directions.name() == name)
    }

    fn includes(self, direction: Direction) -> bool {
        self == Directions::Any || self == Directions::Only(direction)
    }
}

/// A time in milliseconds, from 1 to 10000. The limit is enough for a test, and well below the 120 seconds after
/// which the kernel reports a hung task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Timeout(u32);

impl Timeout {
    const DEFAULT: Timeout = Timeout(uapi::PAUSE_DEFAULT);
    const MOST: u64 = uapi::PAUSE_MOST as u64;

    /// Makes a timeout from a number of milliseconds. 0 means the default, two seconds.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is more than 10000.
    pub(crate) fn new(milliseconds: u64) -> Result<Self> {
        match milliseconds {
            0 => Ok(Timeout::DEFAULT),
            1..=Timeout::MOST => Ok(Timeout(milliseconds as u32)),
            _ => Err(EINVAL),
        }
    }

    /// Returns the milliseconds.
    pub(crate) fn milliseconds(self) -> u32 {
        self.0
    }

    fn has_passed(self, since: Instant<Monotonic>) -> bool {
        since.elapsed().as_millis() >= i64::from(self.0)
    }
}

/// A pause that is armed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Armed {
    /// Where a migration stops.
    pub(crate) point: PausePoint,
    /// The directions of the migrations that stop there.
    pub(crate) directions: Directions,
    /// The number of such migrations that pass first.
    pub(crate) skip: u64,
    /// The time that it stops at most.
    pub(crate) timeout: Timeout,
}

/// The state of a pause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Status {
    /// The armed pause. `None` once a migration has stopped there.
    pub(crate) armed: Option<Armed>,
    /// The number of migrations that have stopped so far.
    pub(crate) reached: u64,
    /// The number of migrations that are stopped now.
    pub(crate) waiting: u32,
}

/// A stopped migration.
struct Stop {
    timeout: Timeout,
    /// [`State::resumed`] when it stopped.
    resumed: u64,
}

/// The state of a pause, without time and waiting. Pure.
#[derive(Default)]
struct State {
    status: Status,
    /// How often stopped migrations were resumed.
    resumed: u64,
    /// Whether a migration has stopped at the pause that was armed last.
    is_reached: bool,
}

impl State {
    fn arm(&mut self, armed: Armed) {
        self.status.armed = Some(armed);
        self.is_reached = false;
    }

    fn resume(&mut self) {
        self.resumed += 1;
    }

    fn clear(&mut self) {
        self.status.armed = None;
        self.is_reached = false;
        self.resume();
    }

    /// Called when a migration reaches a stage. If it must stop, returns for how long.
    fn arrive(&mut self, point: PausePoint, direction: Direction) -> Option<Stop> {
        let armed = self.status.armed.as_mut()?;
        if armed.point != point || !armed.directions.includes(direction) {
            return None;
        }
        if armed.skip > 0 {
            armed.skip -= 1;
            return None;
        }
        let timeout = armed.timeout;
        self.status.armed = None;
        self.status.reached += 1;
        self.status.waiting += 1;
        self.is_reached = true;
        Some(Stop {
            timeout,
            resumed: self.resumed,
        })
    }

    fn may_continue(&self, stop: &Stop) -> bool {
        self.resumed != stop.resumed
    }

    fn leave(&mut self) {
        self.status.waiting -= 1;
    }

    /// Returns whether a migration has stopped at the pause that was armed last. `None` if none was armed since
    /// `clear`.
    fn is_reached(&self) -> Option<bool> {
        (self.is_reached || self.status.armed.is_some()).then_some(self.is_reached)
    }
}

/// The pause of an open file, or of a device.
#[pin_data]
pub(crate) struct Pause {
    /// Whether a pause is armed. Read often, and almost always false.
    is_armed: Atomic<bool>,
    #[pin]
    state: SpinLock<State>,
}

/// The interval at which waiting threads poll. Only tests wait. A wait queue would save a millisecond, but would
/// have to be ordered against what is freed when a file is closed or the module is unloaded.
const TICK: Delta = Delta::from_millis(1);

impl Pause {
    /// Makes a pause that is not armed.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Pause {
            is_armed: Atomic::new(false),
            state <- new_spinlock!(State::default(), "dmirror_pause"),
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let changed = change(&mut state);
        self.is_armed.store(state.status.armed.is_some(), Relaxed);
        changed
    }

    /// Arms it, in place of what was armed. Stops a migration whose attempt begins from now on.
    pub(crate) fn arm(&self, armed: Armed) {
        self.change(|state| state.arm(armed));
    }

    /// Lets stopped migrations continue.
    pub(crate) fn resume(&self) {
        self.change(State::resume);
    }

    /// Disarms it, and lets stopped migrations continue.
    pub(crate) fn clear(&self) {
        self.change(State::clear);
    }

    /// Returns its state.
    pub(crate) fn status(&self) -> Status {
        self.state.lock().status
    }

    /// Returns whether it is armed.
    pub(crate) fn is_armed(&self) -> bool {
        self.is_armed.load(Relaxed)
    }

    /// Waits until a migration has stopped at the pause that was armed last. Sleeps; no lock may be held.
    ///
    /// # Errors
    ///
    /// `ENOENT` if none was armed since `clear`; `ETIMEDOUT` at the limit; `EINTR` if a signal arrives first.
    pub(crate) fn wait(&self, timeout: Timeout) -> Result {
        let begin = Instant::now();
        while !self.state.lock().is_reached().ok_or(ENOENT)? {
            if current!().signal_pending() {
                return Err(EINTR);
            }
            if timeout.has_passed(begin) {
                return Err(ETIMEDOUT);
            }
            fsleep(TICK);
        }
        Ok(())
    }

    /// Stops the migration that is at a stage, if the pause is armed for that. Sleeps then, with the locks that the
    /// migration holds.
    pub(crate) fn pass(&self, point: PausePoint, direction: Direction) {
        if !self.is_armed() {
            return;
        }
        let Some(stop) = self.change(|state| state.arrive(point, direction)) else {
            return;
        };
        let begin = Instant::now();
        while !self.state.lock().may_continue(&stop)
            && !stop.timeout.has_passed(begin)
            && !fatal_signal_pending()
        {
            fsleep(TICK);
        }
        self.change(State::leave);
    }
}

#[kunit_tests(rust_dmirror_pause)]
mod tests {
    use super::*;

    const ARMED: Armed = Armed {
        point: PausePoint::Filled,
        directions: Directions::Only(Direction::ToDevice),
        skip: 0,
        timeout: Timeout::DEFAULT,
    };

    #[test]
    fn stops_one_migration_at_its_stage_and_direction() {
        let mut state = State::default();
        assert!(state
            .arrive(PausePoint::Filled, Direction::ToDevice)
            .is_none());
        state.arm(ARMED);
        assert!(state
            .arrive(PausePoint::Collected, Direction::ToDevice)
            .is_none());
        assert!(state.arrive(PausePoint::Filled, Direction::Fault).is_none());
        assert!(state
            .arrive(PausePoint::Filled, Direction::ToDevice)
            .is_some());
        assert_eq!((state.status.reached, state.status.waiting), (1, 1));
        assert!(state
            .arrive(PausePoint::Filled, Direction::ToDevice)
            .is_none());
        state.leave();
        assert_eq!((state.status.reached, state.status.waiting), (1, 0));
    }

    #[test]
    fn lets_the_first_pass() {
        let mut state = State::default();
        state.arm(Armed {
            directions: Directions::Any,
            skip: 2,
            ..ARMED
        });
        let stopped = [Direction::ToDevice, Direction::Evict, Direction::Fault]
            .map(|direction| state.arrive(PausePoint::Filled, direction).is_some());
        assert_eq!(stopped, [false, false, true]);
    }

    #[test]
    fn resuming_lets_those_continue_that_are_stopped() -> Result {
        let mut state = State::default();
        state.arm(ARMED);
        let arrive = |state: &mut State| state.arrive(PausePoint::Filled, Direction::ToDevice);
        let first = arrive(&mut state).ok_or(EINVAL)?;
        assert!(!state.may_continue(&first));
        // Arming another pause does not resume the first migration.
        state.arm(ARMED);
        assert!(!state.may_continue(&first));
        state.resume();
        assert!(state.may_continue(&first));
        // The armed pause stays armed. The resume before it is reached does not count for it.
        let second = arrive(&mut state).ok_or(EINVAL)?;
        assert!(!state.may_continue(&second));
        state.clear();
        assert!(state.may_continue(&second));
        Ok(())
    }

    #[test]
    fn being_reached_is_about_what_was_armed_last() {
        let mut state = State::default();
        assert_eq!(state.is_reached(), None);
        state.arm(ARMED);
        assert_eq!(state.is_reached(), Some(false));
        state.arrive(PausePoint::Filled, Direction::ToDevice);
        assert_eq!(state.is_reached(), Some(true));
        // Also after the migration has continued.
        state.leave();
        assert_eq!(state.is_reached(), Some(true));
        state.arm(ARMED);
        assert_eq!(state.is_reached(), Some(false));
        state.clear();
        assert_eq!(state.is_reached(), None);
        assert!(state
            .arrive(PausePoint::Filled, Direction::ToDevice)
            .is_none());
    }

    #[test]
    fn limits_are_a_millisecond_to_ten_seconds() {
        assert_eq!(Timeout::new(0), Ok(Timeout(2_000)));
        assert_eq!(Timeout::new(1), Ok(Timeout(1)));
        assert_eq!(Timeout::new(10_000), Ok(Timeout(10_000)));
        assert_eq!(Timeout::new(10_001), Err(EINVAL));
        assert_eq!(Timeout::new(u64::MAX), Err(EINVAL));
    }

    #[test]
    fn numbers_and_names_are_those_of_the_header() {
        assert_eq!(PausePoint::from_number(0), Err(EINVAL));
        assert_eq!(PausePoint::from_number(1), Ok(PausePoint::Collected));
        assert_eq!(PausePoint::from_number(4), Ok(PausePoint::Finalize));
        assert_eq!(PausePoint::from_number(5), Err(EINVAL));
        assert_eq!(Directions::from_number(0), Ok(Directions::Any));
        assert_eq!(
            Directions::from_number(4),
            Ok(Directions::Only(Direction::Evict))
        );
        assert_eq!(Directions::from_number(5), Err(EINVAL));
        assert_eq!(
            PausePoint::from_name("committed"),
            Some(PausePoint::Committed)
        );
        assert_eq!(PausePoint::from_name("pages"), None);
        let fault = Some(Directions::Only(Direction::Fault));
        assert_eq!(Directions::from_name("fault"), fault);
        assert_eq!(Directions::from_name(""), None);
    }
}
