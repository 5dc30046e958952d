// SPDX-License-Identifier: GPL-2.0

//! Candidates of what functions return.

use syn::{Block, Expr, GenericArgument, PathArguments, ReturnType, Stmt, Type};

use super::Finder;
use crate::{
    candidate::{Form, Kind},
    fields::is_integer,
    text::tokens,
};

/// What a function returns, as far as other values are known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Returned {
    Unit,
    Bool,
    Integer,
    Option,
    /// `Result`, of nothing or something, and whether its error is the kernel's.
    Result {
        of_unit: bool,
        is_kernel: bool,
    },
    /// A type by name, which may have a default.
    Other,
    Unknown,
}

impl Returned {
    pub fn new(output: &ReturnType, text: &str) -> Returned {
        let ReturnType::Type(_, kind) = output else {
            return Returned::Unit;
        };
        let Type::Path(path) = &**kind else {
            return match &**kind {
                Type::Tuple(tuple) if !tuple.elems.is_empty() => Returned::Other,
                _ => Returned::Unknown,
            };
        };
        let Some(last) = path.path.segments.last() else {
            return Returned::Unknown;
        };
        let arguments: Vec<&GenericArgument> = match &last.arguments {
            PathArguments::AngleBracketed(list) => list.args.iter().collect(),
            _ => Vec::new(),
        };
        match &*last.ident.to_string() {
            "bool" => Returned::Bool,
            "Option" => Returned::Option,
            // Of `core::fmt`, whose error says nothing.
            "Result" if tokens(path, text).starts_with("fmt::") => Returned::Unknown,
            "Result" => Returned::Result {
                of_unit: arguments
                    .first()
                    .is_none_or(|kind| tokens(*kind, text) == "()"),
                is_kernel: arguments.len() < 2,
            },
            "Self" => Returned::Unknown,
            name if is_integer(name) => Returned::Integer,
            _ => Returned::Other,
        }
    }

    /// Values for the whole function.
    fn values(&self) -> &'static [&'static str] {
        const ERROR: &str = "Err(kernel::error::code::EINVAL)";
        match self {
            Returned::Unit => &[""],
            Returned::Bool => &["true", "false"],
            Returned::Integer => &["0", "1"],
            Returned::Option => &["None"],
            Returned::Result {
                of_unit: true,
                is_kernel: true,
            } => &["Ok(())", ERROR],
            Returned::Result { of_unit: true, .. } => &["Ok(())"],
            Returned::Result {
                is_kernel: true, ..
            } => &[ERROR],
            Returned::Other => &["Default::default()"],
            Returned::Result { .. } | Returned::Unknown => &[],
        }
    }
}

impl Finder<'_> {
    /// A function that returns something else at once.
    pub(super) fn whole(&mut self, block: &Block) {
        let Some(returned) = self.returned.clone() else {
            return;
        };
        // Of one statement there is the deleted statement already; of nothing, nothing.
        let least = if returned == Returned::Unit { 2 } else { 1 };
        if block.stmts.len() < least {
            return;
        }
        let only = match block.stmts.as_slice() {
            [Stmt::Expr(only, None)] => self.text(only),
            _ => String::new(),
        };
        let at = block.brace_token.span.open().byte_range().end;
        for value in returned
            .values()
            .iter()
            .filter(|value| only != **value || only.is_empty())
        {
            let what = format!("return {value}").trim_end().to_string();
            let form = Form::Return(value.to_string());
            self.add_named(Kind::Return, at..at, "the whole body".into(), what, form);
        }
    }

    /// Its last expression, where that has several ends: each of them.
    pub(super) fn leaves_of(&mut self, block: &Block) {
        let mut all = Vec::new();
        tail(block, &mut all);
        match all.as_slice() {
            [_] if self.returned != Some(Returned::Integer) => {}
            _ => all.into_iter().for_each(|leaf| self.leaf(leaf)),
        }
    }

    /// A value that is returned at one of several places.
    pub(super) fn leaf(&mut self, leaf: &Expr) {
        let text = self.text(leaf);
        let other = match self.returned {
            Some(Returned::Bool) => return self.bool_leaf(leaf),
            Some(Returned::Integer) if !matches!(leaf, Expr::Lit(_) | Expr::Binary(_)) => {
                format!("({text}) + 1")
            }
            Some(Returned::Option) if text != "None" => "None".into(),
            Some(Returned::Result {
                is_kernel: true, ..
            }) if !text.starts_with("Err") => "Err(kernel::error::code::EINVAL)".into(),
            Some(Returned::Result { of_unit: true, .. }) if text.starts_with("Err") => {
                "Ok(())".into()
            }
            _ => return,
        };
        self.replace(Kind::Return, leaf, other);
    }
}

fn tail<'e>(block: &'e Block, all: &mut Vec<&'e Expr>) {
    if let Some(Stmt::Expr(expr, None)) = block.stmts.last() {
        leaves(expr, all);
    }
}

fn leaves<'e>(expr: &'e Expr, all: &mut Vec<&'e Expr>) {
    match expr {
        Expr::Match(e) => e.arms.iter().for_each(|arm| leaves(&arm.body, all)),
        Expr::If(e) => {
            tail(&e.then_branch, all);
            if let Some((_, otherwise)) = &e.else_branch {
                leaves(otherwise, all);
            }
        }
        Expr::Block(e) => tail(&e.block, all),
        Expr::Paren(e) => leaves(&e.expr, all),
        // Unsafe code is replaced as a whole; what returns is seen elsewhere; the rest has no value.
        Expr::Return(_) | Expr::Break(_) | Expr::Continue(_) | Expr::Macro(_) => {}
        _ => all.push(expr),
    }
}
