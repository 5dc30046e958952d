// SPDX-License-Identifier: GPL-2.0

//! A part of the report: the results of one guest.

use serde::Serialize;

use super::{
    super::record::{Line, Machine, Results, Samples, Side},
    judge::{self, Judged},
};

/// The results of one guest.
#[derive(Serialize)]
pub(super) struct Part {
    pub(super) title: String,
    pub(super) machine: Option<Machine>,
    pub(super) rows: Vec<Judged>,
    /// The sides of measurements that failed and were repeated.
    pub(super) repeated: Vec<Side>,
    pub(super) samples: Vec<Samples>,
    #[serde(skip)]
    pub(super) results: Results,
}

impl Part {
    /// Makes a part of the lines that a guest printed.
    pub(super) fn new(title: &str, lines: Vec<Line>) -> Part {
        let mut part = Part {
            title: title.into(),
            machine: None,
            rows: Vec::new(),
            repeated: Vec::new(),
            samples: Vec::new(),
            results: Results::default(),
        };
        for line in lines {
            match line {
                Line::Machine(machine) => part.machine = Some(machine),
                Line::Repeated { side, .. } => part.repeated.push(side),
                Line::Samples(samples) => {
                    part.results.add(&samples);
                    part.samples.push(samples);
                }
            }
        }
        part.rows = judge::all(&part.results);
        part
    }
}
