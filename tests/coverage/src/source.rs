// SPDX-License-Identifier: GPL-2.0

//! The functions and tests of a Rust source file, by line.

use anyhow::{Context as _, Result};
use proc_macro2::Span;
use std::ops::RangeInclusive;
use syn::{
    spanned::Spanned,
    visit::{self, Visit},
};

/// A function of a Rust file.
pub struct Function {
    /// With its module, type and trait.
    pub name: String,
    pub lines: RangeInclusive<u32>,
}

#[derive(Default)]
pub struct Source {
    pub functions: Vec<Function>,
    /// The modules with `#[kunit_tests]`.
    pub tests: Vec<RangeInclusive<u32>>,
    of: Vec<String>,
}

impl Source {
    pub fn parse(text: &str) -> Result<Self> {
        let mut source = Self::default();
        source.visit_file(&syn::parse_file(text).context("not Rust")?);
        Ok(source)
    }

    pub fn is_test(&self, line: u32) -> bool {
        self.tests.iter().any(|lines| lines.contains(&line))
    }

    /// Returns the innermost function around a line.
    pub fn function(&self, line: u32) -> Option<&Function> {
        self.functions
            .iter()
            .filter(|function| function.lines.contains(&line))
            .min_by_key(|function| function.lines.end() - function.lines.start())
    }

    fn add(&mut self, name: &syn::Ident, span: Span) {
        let name = self
            .of
            .iter()
            .cloned()
            .chain([name.to_string()])
            .collect::<Vec<_>>()
            .join("::");
        self.functions.push(Function {
            name,
            lines: lines(span),
        });
    }

    fn within(&mut self, name: String, go: impl FnOnce(&mut Self)) {
        self.of.push(name);
        go(self);
        self.of.pop();
    }
}

fn lines(span: Span) -> RangeInclusive<u32> {
    span.start().line as u32..=span.end().line as u32
}

/// The last name of a type's path: `migrate::Setup<'_>` is `Setup`.
fn name_of(ty: &syn::Type) -> String {
    match ty {
        syn::Type::Path(path) => last(&path.path),
        syn::Type::Reference(reference) => name_of(&reference.elem),
        _ => "impl".into(),
    }
}

fn last(path: &syn::Path) -> String {
    path.segments
        .last()
        .map(|segment| segment.ident.to_string())
        .unwrap_or_default()
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig.ident, item.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig.ident, item.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.add(&item.sig.ident, item.span());
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let ty = name_of(&item.self_ty);
        let name = match &item.trait_ {
            Some((_, of, _)) => format!("<{ty} as {}>", last(of)),
            None => ty,
        };
        self.within(name, |source| visit::visit_item_impl(source, item));
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.within(item.ident.to_string(), |source| {
            visit::visit_item_trait(source, item)
        });
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item
            .attrs
            .iter()
            .any(|attribute| last(attribute.path()) == "kunit_tests")
        {
            self.tests.push(lines(item.span()));
        }
        self.within(item.ident.to_string(), |source| {
            visit::visit_item_mod(source, item)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
impl Drop for Guard<'_> {
    fn drop(&mut self) {
        fn inner() {
        }
        inner();
    }
}
fn free() {}
#[kunit_tests(suite)]
mod tests {
    #[test]
    fn case() {
    }
}
";

    #[test]
    fn a_line_is_of_the_innermost_function() {
        let source = Source::parse(TEXT).unwrap();
        let name = |line| source.function(line).map(|function| function.name.as_str());
        assert_eq!(name(4), Some("<Guard as Drop>::inner"));
        assert_eq!(name(5), Some("<Guard as Drop>::drop"));
        assert_eq!(name(8), Some("free"));
        assert_eq!(name(1), None);
    }

    #[test]
    fn tests_are_told_apart() {
        let source = Source::parse(TEXT).unwrap();
        assert!(!source.is_test(8));
        assert!(source.is_test(10) && source.is_test(13));
        assert!(!source.is_test(15));
    }
}
