// SPDX-License-Identifier: GPL-2.0

//! The fields of all structures, to tell which counter stands beside another one.

use syn::{visit::Visit, Fields as SynFields, ItemStruct, Type};

use crate::text::tokens;

/// A structure: its fields in order, with their types.
struct Structure {
    name: String,
    fields: Vec<(String, String)>,
}

/// All structures of all files.
#[derive(Default)]
pub struct Fields(Vec<Structure>);

impl Fields {
    pub fn add(&mut self, file: &syn::File, text: &str) {
        Collect { all: self, text }.visit_file(file);
    }

    /// The field after `field` of the same type, in `preferred` or whatever structure has one;
    /// `counts` says which types are meant.
    pub fn sibling(
        &self,
        preferred: Option<&str>,
        field: &str,
        counts: fn(&str) -> bool,
    ) -> Option<String> {
        let sibling = |structure: &Structure| {
            let at = structure.fields.iter().position(|(f, _)| f == field)?;
            let kind = &structure.fields[at].1;
            let (before, behind) = structure.fields.split_at(at);
            let mut others = behind[1..].iter().chain(before);
            let next = others.find(|(_, other)| other == kind)?;
            counts(kind).then(|| next.0.clone())
        };
        let named = self.0.iter().filter(|s| Some(&*s.name) == preferred);
        named
            .filter_map(sibling)
            .next()
            .or_else(|| self.0.iter().filter_map(sibling).next())
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
