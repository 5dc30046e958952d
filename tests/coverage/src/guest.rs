// SPDX-License-Identifier: GPL-2.0

//! A guest: the addresses that the plugin wrote for it, and where its modules were loaded.
//!
//! After each `insmod`, the guest's steps print `section MODULE SECTION ADDRESS` for each code section of each module
//! (`sections` in `scripts/guest/ktap.sh`).

use crate::image;
use anyhow::{Context as _, Result};
use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
};

/// Where x86-64 loads modules without KASLR: above the kernel image, below the fixed mappings.
const MODULES: std::ops::Range<u64> = 0xffff_ffff_a000_0000..0xffff_ffff_ff00_0000;

/// A guest, as the command line names it.
#[derive(Clone)]
pub struct Guest {
    /// `build/vm/NAME`
    pub dir: PathBuf,
    /// With debug information.
    pub module: PathBuf,
    /// The same; none if the kernel has no debug information.
    pub kernel: Option<PathBuf>,
}

impl std::str::FromStr for Guest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',').map(PathBuf::from);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(dir), Some(module), kernel, None) => Ok(Self {
                dir,
                module,
                kernel,
            }),
            _ => Err("DIRECTORY,MODULE.ko[,VMLINUX]".into()),
        }
    }
}

/// Where a section of a module was, at least for a while.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    start: u64,
    end: u64,
    module: String,
    section: String,
}

/// Executed addresses of the module area, by the module that they are of.
#[derive(Default, Debug, PartialEq)]
pub struct InModules {
    /// Section and offset of each address in the module that was asked for.
    pub executed: Vec<(String, u64)>,
    /// Number of addresses that were of two places at different times. They count for neither.
    pub ambiguous: usize,
    /// Number of addresses that are of no place: trampolines, or a module whose `insmod` no step reported.
    pub unknown: usize,
}

impl Guest {
    pub fn name(&self) -> String {
        self.dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// Returns all executed addresses, ascending.
    pub fn addresses(&self) -> Result<Vec<u64>> {
        let path = self.dir.join("executed");
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let addresses = addresses(&bytes).with_context(|| path.display().to_string())?;
        anyhow::ensure!(
            !addresses.is_empty(),
            "{}: nothing was executed",
            path.display()
        );
        Ok(addresses)
    }

    /// Sorts `addresses` by module, with what the guest's steps printed.
    pub fn in_modules(&self, addresses: &[u64]) -> Result<InModules> {
        let path = self.dir.join("output.log");
        let log = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let name = self
            .module
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let lib = self.dir.join("initramfs/lib");
        let places = places(&String::from_utf8_lossy(&log), |module| {
            image::sizes(&lib.join(module).with_extension("ko"))
        })?;
        anyhow::ensure!(
            places.iter().any(|place| place.module == name),
            "{}: no step told where {name} is; does one that calls insmod not call sections?",
            path.display()
        );
        Ok(attribute(&places, &name, addresses))
    }
}

/// Decodes what `Pages::write` wrote.
fn addresses(bytes: &[u8]) -> Result<Vec<u64>> {
    let words = bytes.chunks_exact(8);
    anyhow::ensure!(words.remainder().is_empty(), "the file was cut off");
    // PANIC: A chunk has eight bytes.
    Ok(words
        .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
        .collect())
}

/// Collects the places that a guest's output reports, each once.
fn places(
    log: &str,
    sizes: impl Fn(&str) -> Result<HashMap<String, u64>>,
) -> Result<BTreeSet<Place>> {
    let mut known = HashMap::new();
    let mut places = BTreeSet::new();
    for line in log.lines() {
        let words: Vec<_> = line
            .trim_start_matches(['#', ' '])
            .split_whitespace()
            .collect();
        let ["section", module, section, address] = words[..] else {
            continue;
        };
        let start = address
            .strip_prefix("0x")
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let start = start.with_context(|| format!("what is the address of '{line}'?"))?;
        if !known.contains_key(module) {
            known.insert(module.to_owned(), sizes(module)?);
        }
        // The kernel lists sections without code as well.
        if let Some(size) = known[module].get(section) {
            places.insert(Place {
                start,
                end: start + size,
                module: module.into(),
                section: section.into(),
            });
        }
    }
    Ok(places)
}

fn attribute(places: &BTreeSet<Place>, module: &str, addresses: &[u64]) -> InModules {
    let mut found = InModules::default();
    for &address in addresses.iter().filter(|address| MODULES.contains(address)) {
        let mut at = places
            .iter()
            .filter(|place| (place.start..place.end).contains(&address));
        match (at.next(), at.next()) {
            (None, _) => found.unknown += 1,
            (Some(place), None) if place.module == module => {
                found
                    .executed
                    .push((place.section.clone(), address - place.start));
            }
            (Some(_), None) => {}
            (Some(_), Some(_)) => found.ambiguous += 1,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_plugin_writes_is_read() {
        let mut pages = crate::pages::Pages::new();
        let all = [
            BASE,
            BASE + 63,
            BASE + 64,
            BASE + 4095,
            BASE + 4096,
            u64::MAX,
        ];
        for address in all.iter().rev().chain(&all) {
            pages.insert(*address);
        }
        let mut file = Vec::new();
        pages.write(&mut file).unwrap();
        assert_eq!(addresses(&file).unwrap(), all);
        assert!(addresses(&file[1..]).is_err());
    }

    const BASE: u64 = 0xffff_ffff_a000_0000;

    fn sizes(module: &str) -> Result<HashMap<String, u64>> {
        Ok(match module {
            "ours" => [(".text".into(), 0x100), (".init.text".into(), 0x10)].into(),
            _ => [(".text".into(), 0x20)].into(),
        })
    }

    #[test]
    fn addresses_become_offsets() {
        let log = "ok 1 - insmod\n# section ours .text 0xffffffffa0000000\n# # section ours .data 0xffffffffa0000000\n";
        let places = places(log, sizes).unwrap();
        let found = attribute(
            &places,
            "ours",
            &[0x1000, BASE + 4, BASE + 0xff, BASE + 0x100],
        );
        assert_eq!(
            found.executed,
            [(".text".into(), 4), (".text".into(), 0xff)]
        );
        assert_eq!((found.ambiguous, found.unknown), (0, 1));
    }

    #[test]
    fn what_two_places_claim_counts_for_none() {
        // The second module got what the first one's initialisation had freed.
        let log =
            "section ours .init.text 0xffffffffa0001000\nsection other .text 0xffffffffa0001008\n";
        let places = places(log, sizes).unwrap();
        let found = attribute(
            &places,
            "ours",
            &[BASE + 0x1000, BASE + 0x1008, BASE + 0x1010],
        );
        assert_eq!(found.executed, [(".init.text".into(), 0)]);
        assert_eq!((found.ambiguous, found.unknown), (1, 0));
    }

    #[test]
    fn the_same_place_twice_is_one() {
        let line = "section ours .text 0xffffffffa0000000\n";
        let places = places(&line.repeat(2), sizes).unwrap();
        assert_eq!(
            attribute(&places, "ours", &[BASE]).executed,
            [(".text".into(), 0)]
        );
    }

    #[test]
    fn an_address_that_is_none_is_an_error() {
        assert!(places("section ours .text 0\n", sizes).is_err());
    }
}
