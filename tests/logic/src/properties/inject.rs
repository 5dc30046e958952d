// SPDX-License-Identifier: GPL-2.0

//! `src/inject.rs` against numbers that are counted down.

use super::{
    edgy,
    seeds_in, //
};
use crate::{
    inject::{
        Countdown,
        Injection,
        Point,
        Points, //
    },
    uapi, //
};
use kernel::prelude::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Arm(usize, Point, u64, u64),
    Clear(usize),
    Flags(usize, u64),
    Fires(usize, Point),
    /// An attempt that passes these points, with a file or without.
    Attempt(bool, Vec<Point>),
}

/// What is armed for one file or device.
#[derive(Default)]
struct Model {
    points: [Countdown; 5],
    fail_alloc: bool,
}

impl Model {
    fn fires(&mut self, point: Point) -> bool {
        let is_alloc = [Point::HugeAlloc, Point::SmallAlloc].contains(&point);
        if is_alloc && self.fail_alloc {
            self.fail_alloc = false;
            return true;
        }
        let state = &mut self.points[point as usize];
        match state {
            Countdown { times: 0, .. } => false,
            Countdown {
                skip: 0,
                times,
                hits,
            } => {
                *times -= 1;
                *hits += 1;
                true
            }
            Countdown { skip, .. } => {
                *skip -= 1;
                false
            }
        }
    }

    fn is_armed(&self) -> bool {
        self.fail_alloc || self.points.iter().any(|point| point.times > 0)
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let point = || prop::sample::select(Point::ALL.to_vec());
    let number = || prop_oneof![4 => 0..4u64, 1 => edgy()];
    let op = prop_oneof![
        3 => (0..2usize, point(), number(), number())
            .prop_map(|(of, point, skip, times)| Op::Arm(of, point, skip, times)),
        1 => (0..2usize).prop_map(Op::Clear),
        2 => (0..2usize, 0..4u64).prop_map(|(of, flags)| Op::Flags(of, flags)),
        8 => (0..2usize, point()).prop_map(|(of, point)| Op::Fires(of, point)),
        4 => (any::<bool>(), prop::collection::vec(point(), 0..6))
            .prop_map(|(has_file, passed)| Op::Attempt(has_file, passed)),
    ];
    prop::collection::vec(op, 0..60)
}

proptest! {
    #![proptest_config(seeds_in!("inject"))]

    #[test]
    fn points_are_counted_down(ops in ops()) {
        let made = [(); 2].map(|()| KBox::pin_init(Points::new(), GFP_KERNEL).unwrap());
        let mut models = [(); 2].map(|()| Model::default());
        for op in ops {
            match op {
                Op::Arm(of, point, skip, times) => {
                    let state = &mut models[of].points[point as usize];
                    let hits = state.hits;
                    *state = Countdown { skip, times, hits };
                    prop_assert_eq!(made[of].arm(point, skip, times), hits);
                }
                Op::Clear(of) => {
                    made[of].clear();
                    for point in &mut models[of].points {
                        *point = Countdown { hits: point.hits, ..Countdown::default() };
                    }
                }
                Op::Flags(of, flags) => {
                    let is_known = flags & !u64::from(uapi::FLAG_FAIL_ALLOC) == 0;
                    let done = made[of].set_flags(flags);
                    prop_assert_eq!(done, is_known.then_some(()).ok_or(EINVAL));
                    if is_known {
                        models[of].fail_alloc = flags != 0;
                    }
                }
                Op::Fires(of, point) => {
                    prop_assert_eq!(made[of].fires(point), models[of].fires(point));
                }
                Op::Attempt(has_file, passed) => {
                    let [file, device] = &mut models;
                    let injection = Injection::new(has_file.then_some(&*made[0]), &made[1]);
                    let is_armed = device.is_armed() || has_file && file.is_armed();
                    for point in passed {
                        // The file's are first, and then the device's do not count.
                        let fires = is_armed && (has_file && file.fires(point) || device.fires(point));
                        prop_assert_eq!(injection.fires(point), fires);
                    }
                }
            }
            for (points, model) in made.iter().zip(&models) {
                for point in Point::ALL {
                    prop_assert_eq!(points.state(point), model.points[point as usize]);
                }
            }
        }
    }

    #[test]
    fn points_are_numbered_from_one(number in edgy()) {
        let number = number as u32;
        let point = match number {
            1 => Ok(Point::ExtraRef),
            2 => Ok(Point::HugeAlloc),
            3 => Ok(Point::SmallAlloc),
            4 => Ok(Point::Copy),
            5 => Ok(Point::FolioLock),
            _ => Err(EINVAL),
        };
        prop_assert_eq!(Point::from_number(number), point);
    }
}

#[test]
fn points_are_named_as_in_debugfs() {
    let names = Point::ALL.map(Point::name);
    assert_eq!(
        names,
        [
            "extra_ref",
            "huge_alloc",
            "small_alloc",
            "copy",
            "folio_lock"
        ]
    );
}
