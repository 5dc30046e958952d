// SPDX-License-Identifier: GPL-2.0

//! `src/pause.rs`, with its private items: its state against a model with any number of stopped migrations,
//! and its time limits by the simulated clock.
#![cfg(not(loom))]

use super::*;
use crate::properties::{
    edgy,
    seeds_in, //
};
use kernel::{
    task::set_signal_at,
    time::{
        advance,
        clock, //
    }, //
};
use proptest::prelude::*;

const DIRECTIONS: [Direction; 4] = [
    Direction::ToDevice,
    Direction::ToSystem,
    Direction::Fault,
    Direction::Evict,
];

#[derive(Clone, Debug)]
enum Op {
    Arm(Armed),
    Resume,
    Clear,
    Arrive(PausePoint, Direction),
    /// One of those that are stopped goes, because it may, or because its time is over.
    Leave(prop::sample::Index),
}

/// A migration that is stopped.
struct Stopped {
    stop: Stop,
    is_resumed: bool,
}

fn armed() -> impl Strategy<Value = Armed> {
    let point = prop::sample::select(PausePoint::ALL.to_vec());
    let directions = prop::sample::select(Directions::ALL.to_vec());
    let ms = prop_oneof![20 => 1..300u64, 1 => 9_990..=10_000u64];
    (point, directions, 0..3u64, ms).prop_map(|(point, directions, skip, ms)| Armed {
        point,
        directions,
        skip,
        timeout: Timeout::new(ms).unwrap(),
    })
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    // Few stages, so that migrations meet what is armed.
    let point = prop_oneof![Just(PausePoint::Filled), Just(PausePoint::Finalize)];
    let direction = prop::sample::select(DIRECTIONS.to_vec());
    let arm = (armed(), point.clone()).prop_map(|(armed, point)| Op::Arm(Armed { point, ..armed }));
    let op = prop_oneof![
        3 => arm,
        1 => Just(Op::Resume),
        1 => Just(Op::Clear),
        8 => (point, direction).prop_map(|(point, direction)| Op::Arrive(point, direction)),
        2 => any::<prop::sample::Index>().prop_map(Op::Leave),
    ];
    prop::collection::vec(op, 0..60)
}

proptest! {
    #![proptest_config(seeds_in!("pause"))]

    #[test]
    fn one_migration_stops_until_it_is_resumed(ops in ops()) {
        let mut state = State::default();
        let mut armed: Option<Armed> = None;
        let mut stopped: Vec<Stopped> = Vec::new();
        let mut reached = 0;
        // Of what was armed last; none after it was cleared.
        let mut is_reached = None;
        for op in ops {
            match op {
                Op::Arm(new) => {
                    state.arm(new);
                    armed = Some(new);
                    is_reached = Some(false);
                }
                Op::Resume => {
                    state.resume();
                    stopped.iter_mut().for_each(|one| one.is_resumed = true);
                }
                Op::Clear => {
                    state.clear();
                    armed = None;
                    is_reached = None;
                    stopped.iter_mut().for_each(|one| one.is_resumed = true);
                }
                Op::Arrive(point, direction) => {
                    let stop = state.arrive(point, direction);
                    let is_meant = |armed: &&mut Armed| {
                        armed.point == point
                            && (armed.directions == Directions::Any || armed.directions == Directions::Only(direction))
                    };
                    match armed.as_mut().filter(is_meant) {
                        None => prop_assert!(stop.is_none()),
                        Some(Armed { skip: 0, timeout, .. }) => {
                            let stop = stop.expect("it stops");
                            prop_assert_eq!(stop.timeout, *timeout);
                            stopped.push(Stopped { stop, is_resumed: false });
                            armed = None;
                            reached += 1;
                            is_reached = Some(true);
                        }
                        Some(Armed { skip, .. }) => {
                            *skip -= 1;
                            prop_assert!(stop.is_none());
                        }
                    }
                }
                Op::Leave(which) if !stopped.is_empty() => {
                    stopped.swap_remove(which.index(stopped.len()));
                    state.leave();
                }
                Op::Leave(_) => {}
            }
            let status = Status { armed, reached, waiting: stopped.len() as u32 };
            prop_assert_eq!(state.status, status);
            prop_assert_eq!(state.is_reached(), is_reached);
            for one in &stopped {
                prop_assert_eq!(state.may_continue(&one.stop), one.is_resumed);
            }
        }
    }

    /// Nobody resumes it. Times are milliseconds after the clock's; a signal may be there before.
    #[test]
    fn a_stop_ends_at_its_limit_or_with_the_thread(
        armed in armed(),
        at in 0..1_000_000_000i64,
        signal in prop_oneof![Just(None), (0..400u64).prop_map(Some)],
    ) {
        advance(Delta::from_nanos(at));
        let begin = clock();
        set_signal_at(signal.map_or(u64::MAX, |ms| begin + ms * 1_000_000));
        let pause = KBox::pin_init(Pause::new(), GFP_KERNEL).unwrap();
        let elapsed = || (clock() - begin) / 1_000_000;
        let timeout = u64::from(armed.timeout.milliseconds());
        let direction = match armed.directions {
            Directions::Any => Direction::Evict,
            Directions::Only(direction) => direction,
        };
        prop_assert_eq!(pause.wait(armed.timeout), Err(ENOENT));
        pause.arm(armed);
        prop_assert!(pause.is_armed());
        for _ in 0..armed.skip {
            pause.pass(armed.point, direction);
        }
        prop_assert_eq!(elapsed(), 0);
        pause.pass(armed.point, direction);
        prop_assert_eq!(elapsed(), signal.unwrap_or(timeout).min(timeout));
        let status = Status { armed: None, reached: 1, waiting: 0 };
        prop_assert_eq!(pause.status(), status);
        prop_assert!(!pause.is_armed());
        // It was reached.
        let before = elapsed();
        prop_assert_eq!(pause.wait(armed.timeout), Ok(()));
        pause.pass(armed.point, direction);
        prop_assert_eq!(elapsed(), before);
        set_signal_at(u64::MAX);
    }

    #[test]
    fn waiting_ends_at_its_limit_or_with_a_signal(
        armed in armed(),
        at in 0..1_000_000_000i64,
        signal in prop_oneof![Just(None), (0..400u64).prop_map(Some)],
    ) {
        advance(Delta::from_nanos(at));
        let begin = clock();
        set_signal_at(signal.map_or(u64::MAX, |ms| begin + ms * 1_000_000));
        let pause = KBox::pin_init(Pause::new(), GFP_KERNEL).unwrap();
        pause.arm(armed);
        let timeout = u64::from(armed.timeout.milliseconds());
        let (end, error) = match signal {
            Some(ms) if ms <= timeout => (ms, EINTR),
            _ => (timeout, ETIMEDOUT),
        };
        prop_assert_eq!(pause.wait(armed.timeout), Err(error));
        prop_assert_eq!((clock() - begin) / 1_000_000, end);
        set_signal_at(u64::MAX);
    }

    #[test]
    fn numbers_are_those_of_the_header(number in edgy()) {
        let at = (number as u32).checked_sub(1).map(|at| at as usize);
        let point = at.and_then(|at| PausePoint::ALL.get(at)).copied().ok_or(EINVAL);
        prop_assert_eq!(PausePoint::from_number(number as u32), point);
        let directions = match number as u32 {
            0 => Ok(Directions::Any),
            at @ 1..=4 => Ok(Directions::Only(DIRECTIONS[at as usize - 1])),
            _ => Err(EINVAL),
        };
        prop_assert_eq!(Directions::from_number(number as u32), directions);
        let timeout = match number {
            0 => Ok(2_000),
            1..=10_000 => Ok(number as u32),
            _ => Err(EINVAL),
        };
        prop_assert_eq!(Timeout::new(number).map(Timeout::milliseconds), timeout);
    }

    #[test]
    fn only_names_are_names(name in "[a-z-]{0,9}") {
        for (point, known) in PausePoint::ALL.into_iter().zip(["collected", "filled", "committed", "finalize"]) {
            prop_assert_eq!(PausePoint::from_name(known), Some(point));
        }
        prop_assert!(PausePoint::from_name(&name).is_none_or(|point| point.name() == name));
        for (directions, known) in Directions::ALL.into_iter().zip(["any", "to-device", "to-system", "fault", "evict"]) {
            prop_assert_eq!(Directions::from_name(known), Some(directions));
        }
        prop_assert!(Directions::from_name(&name).is_none_or(|directions| directions.name() == name));
    }
}
