// SPDX-License-Identifier: GPL-2.0

//! The fields of all structures, to tell which counter stands beside another one.

use syn::{visit::Visit, Fields as SynFields, ItemStruct, Type};

use crate::text::tokens;

/// A structure: its fields in order, with their types.
struct Structure {
    file: String,
    name: String,
    fields: Vec<(String, String)>,
}

/// All structures of all files.
#[derive(Default)]
pub struct Fields(Vec<Structure>);

impl Fields {
    pub fn add(&mut self, name: &str, file: &syn::File, text: &str) {
        let collect = &mut Collect {
            all: self,
            name,
            text,
        };
        collect.visit_file(file);
    }

    /// The field after `field` of the same type, where `counts` knows that type. The structure is the
    /// one of that name, or else one in that file, or else any that has the field.
    pub fn sibling(
        &self,
        name: Option<&str>,
        file: &str,
        field: &str,
        counts: fn(&str) -> bool,
    ) -> Option<String> {
        let having: Vec<_> = self.0.iter().filter(|s| s.kind(field).is_some()).collect();
        let find = |is_it: &dyn Fn(&Structure) -> bool| having.iter().find(|s| is_it(s));
        let structure = find(&|s| Some(&*s.name) == name)
            .or_else(|| find(&|s| s.file == file))
            .or_else(|| find(&|s| s.sibling(field).is_some()))?;
        let sibling = structure.sibling(field)?;
        counts(structure.kind(field)?).then(|| sibling.to_string())
    }
}

impl Structure {
    fn kind(&self, field: &str) -> Option<&str> {
        let (_, kind) = self.fields.iter().find(|(name, _)| name == field)?;
        Some(kind)
    }

    fn sibling(&self, field: &str) -> Option<&str> {
        let at = self.fields.iter().position(|(name, _)| name == field)?;
        let (before, behind) = self.fields.split_at(at);
        let mut others = behind[1..].iter().chain(before);
        let (name, _) = others.find(|(_, kind)| *kind == self.fields[at].1)?;
        Some(name)
    }
}

/// Whether a type is an integer.
pub fn is_integer(kind: &str) -> bool {
    matches!(
        kind,
        "u8" | "u16"
            | "u32"
            | "u64"
            | "usize"
            | "i8"
            | "i16"
            | "i32"
            | "i64"
            | "isize"
            | "c_int"
            | "c_long"
            | "c_ulong"
    )
}

/// Whether it counts by methods.
pub fn is_counter(kind: &str) -> bool {
    kind == "Counter" || kind.starts_with("Atomic")
}

struct Collect<'a> {
    all: &'a mut Fields,
    name: &'a str,
    text: &'a str,
}

impl<'ast> Visit<'ast> for Collect<'_> {
    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        let SynFields::Named(fields) = &item.fields else {
            return;
        };
        let one =
            |field: &syn::Field| Some((field.ident.as_ref()?.to_string(), self.of(&field.ty)));
        let fields = fields.named.iter().filter_map(one).collect();
        self.all.0.push(Structure {
            file: self.name.to_string(),
            name: item.ident.to_string(),
            fields,
        });
    }
}

impl Collect<'_> {
    fn of(&self, kind: &Type) -> String {
        tokens(kind, self.text)
    }
}
