// SPDX-License-Identifier: GPL-2.0

//! An ELF file with debug information, `vmlinux` or a module: its code sections, and the line of each address.
//!
//! A module is a relocatable file, whose sections have no addresses. Each code section gets an invented one here,
//! and the debug sections are relocated to those. [`Image::section`] returns it.

use anyhow::{Context as _, Result};
use gimli::{EndianArcSlice, LittleEndian, Reader as _, SectionId};
use object::{
    elf, Object, ObjectKind, ObjectSection, ObjectSymbol, RelocationTarget, SectionFlags,
    SectionIndex,
};
use std::{
    collections::HashMap,
    path::{Component, Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

type Reader = EndianArcSlice<LittleEndian>;

/// The invented address of a module's first section, and the distance of the others.
const FIRST: u64 = 1 << 40;
const STRIDE: u64 = 1 << 32;

/// A code section.
pub struct Section {
    pub name: String,
    pub start: u64,
    pub size: u64,
}

/// An address range of one line. A line may have many.
pub struct Row {
    pub start: u64,
    pub end: u64,
    /// Absolute path, as the compiler saw it.
    pub file: Rc<str>,
    pub line: u32,
}

pub struct Image {
    sections: Vec<Section>,
    dwarf: Arc<gimli::Dwarf<Reader>>,
    names: addr2line::Context<Reader>,
}

impl Image {
    pub fn open(path: &Path) -> Result<Self> {
        let data = std::fs::read(path).with_context(|| path.display().to_string())?;
        let file = object::File::parse(&*data).with_context(|| path.display().to_string())?;
        let sections = code_sections(&file);
        let dwarf = gimli::Dwarf::load(|id| debug_section(&file, &sections, id))
            .with_context(|| path.display().to_string())?;
        let dwarf = Arc::new(dwarf);
        Ok(Self {
            names: addr2line::Context::from_arc_dwarf(dwarf.clone())?,
            sections: sections.into_values().collect(),
            dwarf,
        })
    }

    /// The code section of this name, with its address.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The rows of all units for whose name `wanted` is true. Without rows of line 0, and without those outside of
    /// all sections: the linker drops sections, but not their debug information.
    pub fn rows(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let mut units = self.dwarf.units();
        while let Some(header) = units.next()? {
            let unit = self.dwarf.unit(header)?;
            if let Some(name) = &unit.name {
                if wanted(&name.to_string_lossy()?) {
                    self.rows_of(&unit, &mut rows)?;
                }
            }
        }
        rows.retain(|row| {
            self.sections
                .iter()
                .any(|at| (at.start..at.start + at.size).contains(&row.start))
        });
        Ok(rows)
    }

    fn rows_of(&self, unit: &gimli::Unit<Reader>, rows: &mut Vec<Row>) -> Result<()> {
        let Some(program) = unit.line_program.clone() else {
            return Ok(());
        };
        let mut files = HashMap::new();
        let mut last: Option<(u64, u64, u32)> = None;
        let mut states = program.rows();
        while let Some((header, row)) = states.next_row()? {
            if let Some((start, file, line)) =
                last.filter(|&(start, _, line)| start < row.address() && line != 0)
            {
                let file = match files.get(&file) {
                    Some(path) => Rc::clone(path),
                    None => {
                        let path: Rc<str> = self.path(unit, header, file)?.into();
                        files.insert(file, Rc::clone(&path));
                        path
                    }
                };
                rows.push(Row {
                    start,
                    end: row.address(),
                    file,
                    line,
                });
            }
            let line = row.line().map_or(0, |line| line.get() as u32);
            last = (!row.end_sequence()).then_some((row.address(), row.file_index(), line));
        }
        Ok(())
    }

    fn path(
        &self,
        unit: &gimli::Unit<Reader>,
        header: &gimli::LineProgramHeader<Reader>,
        index: u64,
    ) -> Result<String> {
        let Some(file) = header.file(index) else {
            return Ok(String::new());
        };
        let text = |value| -> Result<String> {
            Ok(self
                .dwarf
                .attr_string(unit, value)?
                .to_string_lossy()?
                .into_owned())
        };
        let mut path = PathBuf::new();
        if let Some(dir) = &unit.comp_dir {
            path.push(&*dir.to_string_lossy()?);
        }
        // The directory 0 is that of the unit, which DWARF 4 does not repeat.
        if let Some(dir) = file.directory(header) {
            path.push(text(dir)?);
        }
        path.push(text(file.path_name())?);
        Ok(without_dots(&path))
    }

    /// The name of the function at an address; of the innermost one if functions were inlined there.
    pub fn function(&self, address: u64) -> Option<String> {
        let mut frames = self.names.find_frames(address).skip_all_loads().ok()?;
        let name = frames.next().ok()??.function?;
        name.raw_name().ok().map(|name| name.into_owned())
    }
}

/// Resolves `..`: `/repo/src/../rust/lib.rs` is `/repo/rust/lib.rs`.
fn without_dots(path: &Path) -> String {
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            Component::CurDir => {}
            part => whole.push(part),
        }
    }
    whole.to_string_lossy().into_owned()
}

fn code_sections(file: &object::File<'_>) -> HashMap<SectionIndex, Section> {
    let relocatable = file.kind() == ObjectKind::Relocatable;
    let code = |flags| {
        let needed = u64::from(elf::SHF_ALLOC | elf::SHF_EXECINSTR);
        matches!(flags, SectionFlags::Elf { sh_flags } if sh_flags & needed == needed)
    };
    file.sections()
        .filter(|section| code(section.flags()) && section.size() > 0)
        .zip((FIRST..).step_by(STRIDE as usize))
        .map(|(section, address)| {
            let start = if relocatable {
                address
            } else {
                section.address()
            };
            let name = section.name().unwrap_or_default().to_owned();
            (
                section.index(),
                Section {
                    name,
                    start,
                    size: section.size(),
                },
            )
        })
        .collect()
}

/// The names and sizes of a file's code sections. It needs no debug information.
pub fn sizes(path: &Path) -> Result<HashMap<String, u64>> {
    let data = std::fs::read(path).with_context(|| path.display().to_string())?;
    let file = object::File::parse(&*data).with_context(|| path.display().to_string())?;
    Ok(code_sections(&file)
        .into_values()
        .map(|section| (section.name, section.size))
        .collect())
}

/// Returns the contents of a debug section, relocated; empty if there is none.
fn debug_section(
    file: &object::File<'_>,
    code: &HashMap<SectionIndex, Section>,
    id: SectionId,
) -> Result<Reader> {
    let mut data = Vec::new();
    if let Some(section) = file.section_by_name(id.name()) {
        data = section.uncompressed_data()?.into_owned();
        if file.kind() == ObjectKind::Relocatable {
            relocate(file, code, &section, &mut data).with_context(|| id.name())?;
        }
    }
    Ok(EndianArcSlice::new(data.into(), LittleEndian))
}

/// Applies the relocations of a debug section. On x86-64 all of them are symbol plus addend.
fn relocate(
    file: &object::File<'_>,
    code: &HashMap<SectionIndex, Section>,
    section: &object::Section<'_, '_>,
    data: &mut [u8],
) -> Result<()> {
    for (offset, relocation) in section.relocations() {
        let RelocationTarget::Symbol(index) = relocation.target() else {
            continue;
        };
        let symbol = file.symbol_by_index(index)?;
        let start = symbol
            .section_index()
            .and_then(|index| code.get(&index))
            .map_or(0, |section| section.start);
        let value = start
            .wrapping_add(symbol.address())
            .wrapping_add_signed(relocation.addend());
        let bytes = usize::from(relocation.size() / 8);
        let Some(place) = data.get_mut(offset as usize..offset as usize + bytes) else {
            anyhow::bail!("a relocation beyond the end, at {offset:#x}")
        };
        place.copy_from_slice(&value.to_le_bytes()[..bytes]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with two code sections, and a `.debug_addr` that refers to 4 bytes behind `init` in the second.
    fn module() -> Vec<u8> {
        use object::write::{Object, Relocation, Symbol, SymbolSection};
        let mut file = Object::new(
            object::BinaryFormat::Elf,
            object::Architecture::X86_64,
            object::Endianness::Little,
        );
        let text = file.section_id(object::write::StandardSection::Text);
        file.append_section_data(text, &[0x90; 16], 16);
        let init = file.add_section(
            Vec::new(),
            b".init.text".to_vec(),
            object::SectionKind::Text,
        );
        file.append_section_data(init, &[0x90; 8], 1);
        let symbol = file.add_symbol(Symbol {
            name: b"init".to_vec(),
            value: 2,
            size: 4,
            kind: object::SymbolKind::Text,
            scope: object::SymbolScope::Compilation,
            weak: false,
            section: SymbolSection::Section(init),
            flags: object::SymbolFlags::None,
        });
        let debug = file.add_section(
            Vec::new(),
            b".debug_addr".to_vec(),
            object::SectionKind::Debug,
        );
        file.append_section_data(debug, &[0; 16], 1);
        let flags = object::RelocationFlags::Elf {
            r_type: elf::R_X86_64_64,
        };
        file.add_relocation(
            debug,
            Relocation {
                offset: 8,
                symbol,
                addend: 4,
                flags,
            },
        )
        .unwrap();
        file.write().unwrap()
    }

    #[test]
    fn debug_sections_are_relocated_to_the_invented_addresses() {
        let data = module();
        let file = object::File::parse(&*data).unwrap();
        let code = code_sections(&file);
        let init = code
            .values()
            .find(|section| section.name == ".init.text")
            .unwrap();
        assert_eq!(init.size, 8);
        assert!(code
            .values()
            .all(|section| section.name == init.name || section.start != init.start));
        let mut debug = debug_section(&file, &code, SectionId::DebugAddr).unwrap();
        assert_eq!(debug.read_u64().unwrap(), 0);
        assert_eq!(debug.read_u64().unwrap(), init.start + 2 + 4);
    }

    #[test]
    fn paths_of_one_file_are_one() {
        assert_eq!(
            without_dots(Path::new("/repo/src/../rust/lib.rs")),
            "/repo/rust/lib.rs"
        );
        assert_eq!(
            without_dots(Path::new("/repo/./src/a.rs")),
            "/repo/src/a.rs"
        );
    }
}
