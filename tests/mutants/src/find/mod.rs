// SPDX-License-Identifier: GPL-2.0

//! Finds the candidates of a file: walks its functions, past what is constant or only there for tests.

mod expressions;
mod returns;
mod statements;
pub mod tree;

use std::{collections::HashSet, ops::Range};

use anyhow::{Context, Result};
use syn::{
    spanned::Spanned,
    visit::{self, Visit},
    Attribute, Block, Expr, Signature,
};

use crate::{
    candidate::{Candidate, Edit, Form, Kind},
    cfg::is_built,
    fields::Fields,
    text::{collapse, range, tokens},
};
use returns::Returned;

/// The candidates of a file, in the order of the text, without ids.
///
/// # Errors
///
/// It is no Rust.
pub fn find(name: &str, text: &str, fields: &Fields) -> Result<Vec<Candidate>> {
    let file = syn::parse_file(text).with_context(|| format!("{name} cannot be parsed"))?;
    let mut finder = Finder {
        file: name,
        text,
        fields,
        of: None,
        function: String::new(),
        returned: None,
        is_mutable: false,
        negated: HashSet::new(),
        found: Vec::new(),
    };
    finder.visit_file(&file);
    let start = |candidate: &Candidate| candidate.edit.as_ref().map_or(0, |edit| edit.span.start);
    finder.found.sort_by_key(start);
    Ok(finder.found)
}

struct Finder<'a> {
    file: &'a str,
    text: &'a str,
    fields: &'a Fields,
    /// The type whose methods these are.
    of: Option<String>,
    function: String,
    /// What the function returns; none inside a closure.
    returned: Option<Returned>,
    /// Inside a function that runs.
    is_mutable: bool,
    /// Conditions of which there is the opposite already.
    negated: HashSet<Range<usize>>,
    found: Vec<Candidate>,
}

impl Finder<'_> {
    fn text(&self, node: &impl Spanned) -> String {
        tokens(node, self.text)
    }

    fn add(&mut self, kind: Kind, span: Range<usize>, replacement: String, form: Form) {
        let original = collapse(&self.text[span.clone()]);
        self.add_named(kind, span, original, replacement, form);
    }

    fn add_named(
        &mut self,
        kind: Kind,
        span: Range<usize>,
        original: String,
        replacement: String,
        form: Form,
    ) {
        if !self.is_mutable {
            return;
        }
        let line = 1 + self.text[..span.start].matches('\n').count();
        self.found.push(Candidate {
            id: String::new(),
            file: self.file.to_string(),
            line,
            function: self.function.clone(),
            kind,
            original,
            replacement,
            edit: Some(Edit { span, form }),
        });
    }

    /// An expression becomes another one.
    fn replace(&mut self, kind: Kind, node: &impl Spanned, replacement: String) {
        let form = Form::Replace(replacement.clone());
        self.add(kind, range(node), replacement, form);
    }

    /// A condition becomes its opposite, once.
    fn negate(&mut self, condition: &Expr) {
        let has_let = matches!(condition, Expr::Let(_)) || self.text(condition).starts_with("let ");
        if has_let || !self.negated.insert(range(condition)) {
            return;
        }
        let replacement = format!("!({})", self.text(condition));
        self.add(Kind::Condition, range(condition), replacement, Form::Negate);
    }

    /// A function, if it runs: what is constant cannot ask which mutant is active.
    fn body(&mut self, attributes: &[Attribute], signature: &Signature, block: &Block) {
        if !is_built(attributes) || signature.constness.is_some() {
            return;
        }
        let name = match &self.of {
            Some(of) => format!("{of}::{}", signature.ident),
            None => signature.ident.to_string(),
        };
        let before = (
            std::mem::replace(&mut self.function, name),
            self.returned.take(),
            std::mem::replace(&mut self.is_mutable, true),
        );
        self.returned = Some(Returned::new(&signature.output, self.text));
        self.whole(block);
        self.leaves_of(block);
        self.visit_block(block);
        (self.function, self.returned, self.is_mutable) = before;
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_built(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        // A function inside a function is of no type.
        let of = self.of.take();
        self.body(&item.attrs, &item.sig, &item.block);
        self.of = of;
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_built(&item.attrs) {
            return;
        }
        let name = self.text(&item.self_ty);
        let name = name.split('<').next().unwrap_or_default().trim();
        let before = self.of.replace(name.to_string());
        visit::visit_item_impl(self, item);
        self.of = before;
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.body(&item.attrs, &item.sig, &item.block);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        if is_built(&item.attrs) {
            let before = self.of.replace(item.ident.to_string());
            visit::visit_item_trait(self, item);
            self.of = before;
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.body(&item.attrs, &item.sig, block);
        }
    }

    // Constant, or no expressions of the program that runs.
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_item_enum(&mut self, _: &'ast syn::ItemEnum) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_generics(&mut self, _: &'ast syn::Generics) {}
    fn visit_generic_argument(&mut self, _: &'ast syn::GenericArgument) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
    fn visit_macro(&mut self, _: &'ast syn::Macro) {}

    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        if is_built(&field.attrs) {
            visit::visit_field_value(self, field);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if is_built(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if !is_built(&arm.attrs) {
            return;
        }
        if let Some((_, guard)) = &arm.guard {
            self.negate(guard);
        }
        visit::visit_arm(self, arm);
    }

    fn visit_block(&mut self, block: &'ast Block) {
        self.statements(block);
        visit::visit_block(self, block);
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        let before = self.returned.take();
        visit::visit_expr_closure(self, closure);
        self.returned = before;
    }

    fn visit_expr_return(&mut self, value: &'ast syn::ExprReturn) {
        if let Some(value) = &value.expr {
            self.leaf(value);
        }
        visit::visit_expr_return(self, value);
    }

    fn visit_expr_repeat(&mut self, repeat: &'ast syn::ExprRepeat) {
        self.visit_expr(&repeat.expr);
    }

    fn visit_expr(&mut self, expr: &'ast Expr) {
        if is_built(expressions::attributes(expr)) {
            self.expression(expr);
            visit::visit_expr(self, expr);
        }
    }
}
