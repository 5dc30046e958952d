// SPDX-License-Identifier: GPL-2.0

//! The LCOV tracefile, from which `genhtml` makes pages. A count there is a number of guests.

use crate::lines::File;
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

/// `top` is where the file is.
pub fn write(out: &mut impl Write, top: &Path, file: &File) -> io::Result<()> {
    writeln!(out, "TN:\nSF:{}", top.join(&file.path).display())?;
    // A function begins at its first line with code.
    let mut functions = BTreeMap::new();
    for line in file.lines.iter().filter(|line| !line.function.is_empty()) {
        let (_, guests) = functions.entry(&line.function).or_insert((line.number, 0));
        *guests = line.guests.max(*guests);
    }
    for (name, (line, _)) in &functions {
        writeln!(out, "FN:{line},{name}")?;
    }
    for (name, (_, guests)) in &functions {
        writeln!(out, "FNDA:{guests},{name}")?;
    }
    let entered = functions
        .values()
        .filter(|(_, guests)| *guests != 0)
        .count();
    writeln!(out, "FNF:{}\nFNH:{entered}", functions.len())?;
    for line in &file.lines {
        writeln!(out, "DA:{},{}", line.number, line.guests)?;
    }
    let executed = file.lines.iter().filter(|line| line.executed()).count();
    writeln!(out, "LF:{}\nLH:{executed}\nend_of_record", file.lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Line;

    #[test]
    fn a_file_is_a_record() {
        let line = |number, guests| Line {
            number,
            guests,
            function: "f".into(),
            ..Line::default()
        };
        let file = File {
            path: "src/a.rs".into(),
            lines: vec![line(3, 0), line(4, 2)],
            ..File::default()
        };
        let mut out = Vec::new();
        write(&mut out, Path::new("/repo"), &file).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "TN:\nSF:/repo/src/a.rs\nFN:3,f\nFNDA:2,f\nFNF:1\nFNH:1\nDA:3,0\nDA:4,2\nLF:2\nLH:1\nend_of_record\n"
        );
    }
}
