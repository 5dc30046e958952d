// SPDX-License-Identifier: GPL-2.0

//! The names of the rows, their targets, and the copies that limit them.

use super::record::{Pages, Row, What};
use What::*;

pub const MIB: u64 = 1 << 20;

/// The unit of samples. Less is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unit {
    /// Nanoseconds for moving this number of bytes.
    Rate(f64),
    /// Nanoseconds.
    Time,
    /// Bytes.
    Memory,
}

impl What {
    pub fn text(self) -> &'static str {
        match self {
            ToDevice => "to device",
            ToSystem => "to system",
            SplitToDevice => "to device, no huge page there",
            SplitToSystem => "to system, no huge page there",
            FaultInOrder => "CPU faults, in order",
            FaultAtRandom => "CPU faults, at random",
            FaultP50 => "one CPU fault at random, p50",
            FaultP90 => "one CPU fault at random, p90",
            FaultP99 => "one CPU fault at random, p99",
            DeviceRead => "device reads device memory",
            DeviceWrite => "device writes device memory",
            ReadFaulting => "device reads system memory",
            WriteFaulting => "device writes system memory",
            SnapshotOfSystem => "snapshot of system memory",
            SnapshotOfDevice => "snapshot of device memory",
            Exclusive => "exclusive",
            OpenClose => "open and close",
            Memory => "kernel memory for pages on the device",
            SideBySide => "there and back, side by side",
            HmmToDevice => "hmm-tests: to device",
            HmmToSystem => "hmm-tests: to system",
            CopyPages => "limit: pages",
            CopyToUser => "limit: to user",
            CopyFromUser => "limit: from user",
            CopyPagesCold => "limit: pages, cold",
            CopyToUserCold => "limit: to user, cold",
            PhaseSetup => "to device: setup",
            PhaseCopy => "to device: copy",
            PhasePages => "to device: pages",
            PhaseFinalize => "to device: finalize",
            PhaseReadback => "to device: readback",
            PhaseSetupBack => "to system: setup",
            PhaseCopyBack => "to system: copy",
            PhasePagesBack => "to system: pages",
            PhaseFinalizeBack => "to system: finalize",
        }
    }

    /// Returns whether it is compared between the drivers. The others are parts of rows that are.
    pub fn is_compared(self) -> bool {
        self < CopyPages
    }
}

/// Formats a number of bytes for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 30 && b % (1 << 30) == 0 => format!("{} GiB", b >> 30),
        b if b >= MIB && b % MIB == 0 => format!("{} MiB", b / MIB),
        b => format!("{} KiB", b >> 10),
    }
}

impl Row {
    pub fn new(what: What, pages: Pages, bytes: u64) -> Row {
        Row {
            what,
            pages,
            bytes,
            processes: 1,
        }
    }

    /// Returns the text of the column "size".
    pub fn size(&self) -> String {
        match (self.what, self.bytes, self.processes) {
            (OpenClose, 0, _) => "idle".into(),
            (OpenClose, bytes, _) => format!("{} of another process", size(bytes)),
            (SideBySide, bytes, processes) => format!("{processes} × {}", size(bytes)),
            (_, bytes, _) => size(bytes),
        }
    }

    /// Returns the text of the column "pages".
    pub fn pages_text(&self) -> String {
        match self.what {
            OpenClose => String::new(),
            _ => self.pages.to_string(),
        }
    }

    /// Returns a name for lists and filters.
    pub fn name(&self) -> String {
        format!(
            "{}, {}, {}",
            self.what.text(),
            self.pages_text(),
            self.size()
        )
        .replace(", , ", ", ")
    }

    /// Returns the unit of its samples.
    pub fn unit(&self) -> Unit {
        match self.what {
            Memory => Unit::Memory,
            FaultP50 | FaultP90 | FaultP99 | OpenClose => Unit::Time,
            // All memory is moved twice, to the device and back.
            SideBySide => Unit::Rate(2.0 * self.bytes as f64 * f64::from(self.processes)),
            _ => Unit::Rate(self.bytes as f64),
        }
    }

    /// Returns how many times as fast as the C driver the Rust driver should be.
    pub fn target(&self) -> f64 {
        let huge = self.pages == Pages::Huge && self.bytes >= 2 * MIB;
        match self.what {
            ToDevice | HmmToDevice if huge => 2.0,
            ToSystem | HmmToSystem | FaultInOrder | FaultAtRandom if huge => 1.3,
            ToDevice | HmmToDevice if self.pages == Pages::Small => 1.5,
            ToSystem | HmmToSystem if self.pages == Pages::Small => 1.2,
            FaultInOrder if self.pages == Pages::Small => 5.0,
            DeviceRead | DeviceWrite => 2.0,
            SnapshotOfSystem | SnapshotOfDevice if huge => 5.0,
            OpenClose if self.bytes == 0 => 20.0,
            OpenClose => 100.0,
            _ => 1.0,
        }
    }

    /// Returns the copies that the ABI demands, which are rows of their own.
    pub fn limit(&self) -> &'static [What] {
        match self.what {
            ToDevice => &[CopyPages, CopyToUser],
            ToSystem | FaultInOrder | FaultAtRandom => &[CopyPages],
            DeviceRead | ReadFaulting | Exclusive => &[CopyToUser],
            DeviceWrite | WriteFaulting => &[CopyFromUser],
            _ => &[],
        }
    }

    /// Returns the same copies, beginning with an empty TLB: a migration must empty the TLB before it copies.
    pub fn cold_limit(&self) -> &'static [What] {
        match self.what {
            ToDevice => &[CopyPagesCold, CopyToUserCold],
            ToSystem | FaultInOrder | FaultAtRandom => &[CopyPagesCold],
            _ => &[],
        }
    }

    /// Returns how many times as long as its copies it may take.
    pub fn limit_target(&self) -> Option<f64> {
        let migrates = matches!(
            self.what,
            ToDevice | ToSystem | FaultInOrder | FaultAtRandom
        );
        (migrates && self.pages == Pages::Huge).then_some(1.25)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_of_the_issue() {
        let target = |what, pages, bytes| Row::new(what, pages, bytes).target();
        assert_eq!(target(ToDevice, Pages::Huge, 2 * MIB), 2.0);
        // Smaller than a huge page.
        assert_eq!(target(HmmToDevice, Pages::Huge, MIB), 1.0);
        assert_eq!(target(HmmToSystem, Pages::Huge, 256 * MIB), 1.3);
        assert_eq!(target(ToDevice, Pages::Small, MIB), 1.5);
        assert_eq!(target(FaultInOrder, Pages::Small, 8 * MIB), 5.0);
        assert_eq!(target(FaultAtRandom, Pages::Small, 8 * MIB), 1.0);
        assert_eq!(target(FaultP99, Pages::Huge, 8 * MIB), 1.0);
        assert_eq!(target(SnapshotOfDevice, Pages::Huge, 8 * MIB), 5.0);
        assert_eq!(target(SnapshotOfDevice, Pages::Small, 8 * MIB), 1.0);
        assert_eq!(target(OpenClose, Pages::Huge, 0), 20.0);
        assert_eq!(target(OpenClose, Pages::Huge, 128 * MIB), 100.0);
    }

    #[test]
    fn names_say_what_it_is() {
        let name = |what, bytes| Row::new(what, Pages::Small, bytes).name();
        assert_eq!(name(ToDevice, 32 * MIB), "to device, 4 KiB, 32 MiB");
        assert_eq!(name(OpenClose, 0), "open and close, idle");
        assert_eq!(size(1 << 30), "1 GiB");
        assert_eq!(size(MIB / 2), "512 KiB");
    }
}
