// SPDX-License-Identifier: GPL-2.0

//! Candidates inside expressions: conditions, comparisons, arithmetic, counters.

use syn::{
    spanned::Spanned, Attribute, BinOp, Expr, ExprBinary, ExprLit, ExprMethodCall, Lit, UnOp,
};

use super::Finder;
use crate::{
    candidate::{Form, Kind},
    fields::{is_counter, is_integer},
    text::range,
};

/// Methods that ask their closure yes or no.
const ASK: [&str; 13] = [
    "all",
    "any",
    "filter",
    "find",
    "is_none_or",
    "is_some_and",
    "is_ok_and",
    "partition",
    "position",
    "retain",
    "rposition",
    "skip_while",
    "take_while",
];

/// Methods by which counters count, and are read.
const COUNT: [&str; 6] = ["add", "fetch_add", "fetch_sub", "get", "load", "store"];

/// The attributes of the kinds of expressions that have some here.
pub fn attributes(expr: &Expr) -> &[Attribute] {
    match expr {
        Expr::Block(e) => &e.attrs,
        Expr::Call(e) => &e.attrs,
        Expr::ForLoop(e) => &e.attrs,
        Expr::If(e) => &e.attrs,
        Expr::Match(e) => &e.attrs,
        Expr::MethodCall(e) => &e.attrs,
        Expr::Unsafe(e) => &e.attrs,
        _ => &[],
    }
}

/// Whether something may stand before an operator as it is.
fn is_atom(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Call(_)
            | Expr::Field(_)
            | Expr::Index(_)
            | Expr::Lit(_)
            | Expr::MethodCall(_)
            | Expr::Paren(_)
            | Expr::Path(_)
            | Expr::Try(_)
    )
}

fn is_integer_literal(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Lit(ExprLit {
            lit: Lit::Int(_),
            ..
        })
    )
}

impl Finder<'_> {
    pub(super) fn expression(&mut self, expr: &Expr) {
        match expr {
            Expr::If(e) => self.negate(&e.cond),
            Expr::While(e) => self.negate(&e.cond),
            Expr::Match(e) if e.arms.iter().any(|arm| is_bool(&arm.pat)) => self.negate(&e.expr),
            Expr::Binary(e) => self.binary(e),
            Expr::Unary(e) if matches!(e.op, UnOp::Not(_)) && !self.has_opposite(e) => {
                let operand = self.text(&e.expr);
                self.replace(Kind::Condition, e, operand);
            }
            Expr::Lit(e) => self.literal(e),
            Expr::Range(e) => {
                if let Some(end) = &e.end {
                    self.around(end);
                }
            }
            Expr::MethodCall(e) => self.method(e),
            _ => {}
        }
    }

    fn has_opposite(&self, node: &impl Spanned) -> bool {
        self.negated.contains(&range(node))
    }

    fn operand(&self, expr: &Expr) -> String {
        let text = self.text(expr);
        match is_atom(expr) {
            true => text,
            false => format!("({text})"),
        }
    }

    fn binary(&mut self, e: &ExprBinary) {
        let (kind, op) = match e.op {
            BinOp::And(_) | BinOp::Or(_) => return self.logic(e),
            BinOp::AddAssign(_) | BinOp::SubAssign(_) => return self.counter(e),
            BinOp::Lt(_) => (Kind::Boundary, "<="),
            BinOp::Le(_) => (Kind::Boundary, "<"),
            BinOp::Gt(_) => (Kind::Boundary, ">="),
            BinOp::Ge(_) => (Kind::Boundary, ">"),
            BinOp::Eq(_) if !self.has_opposite(e) => (Kind::Boundary, "!="),
            BinOp::Ne(_) if !self.has_opposite(e) => (Kind::Boundary, "=="),
            BinOp::BitAnd(_) => (Kind::Bits, "|"),
            BinOp::BitOr(_) => (Kind::Bits, "&"),
            BinOp::Add(_) | BinOp::Sub(_) | BinOp::Mul(_) | BinOp::Div(_) | BinOp::Rem(_) => {
                // A literal is changed itself.
                if !is_integer_literal(&e.left) && !is_integer_literal(&e.right) {
                    let whole = self.text(e);
                    self.replace(Kind::OffByOne, e, format!("({whole}) + 1"));
                }
                return;
            }
            _ => return,
        };
        let replacement = format!("{} {op} {}", self.text(&e.left), self.text(&e.right));
        self.replace(kind, e, replacement);
    }

    /// `&&` for `||`, and each operand alone.
    fn logic(&mut self, e: &ExprBinary) {
        let (left, right) = (self.operand(&e.left), self.operand(&e.right));
        let other = match e.op {
            BinOp::And(_) => "||",
            _ => "&&",
        };
        for replacement in [format!("{left} {other} {right}"), left, right] {
            self.replace(Kind::Condition, e, replacement);
        }
        for side in [&*e.left, &*e.right] {
            self.bool_arms(side);
        }
    }

    fn literal(&mut self, e: &ExprLit) {
        match &e.lit {
            Lit::Bool(value) => self.replace(Kind::Condition, e, (!value.value).to_string()),
            Lit::Int(value) => {
                let Ok(number) = value.base10_parse::<u128>() else {
                    return;
                };
                let suffix = value.suffix();
                self.replace(Kind::OffByOne, e, format!("{}{suffix}", number + 1));
                if let Some(less) = number.checked_sub(1) {
                    self.replace(Kind::OffByOne, e, format!("{less}{suffix}"));
                }
            }
            _ => {}
        }
    }

    /// The end of a range: `..=` for `..`, and the other way.
    fn around(&mut self, end: &Expr) {
        if is_integer_literal(end) {
            return;
        }
        let text = self.operand(end);
        for by in ["+ 1", "- 1"] {
            self.replace(Kind::OffByOne, end, format!("{text} {by}"));
        }
    }

    fn method(&mut self, e: &ExprMethodCall) {
        let name = e.method.to_string();
        if let Some(Expr::Closure(closure)) = e.args.first() {
            if ASK.contains(&&*name) && !matches!(*closure.body, Expr::Block(_)) {
                self.negate(&closure.body);
            }
        }
        match &*name {
            "then" | "then_some" => self.negate(&e.receiver),
            "min" | "max" if e.args.len() == 1 => {
                let other = if name == "min" { "max" } else { "min" };
                let text = self.text(e);
                let at = range(&e.method).start - range(e).start;
                // The text may be shorter by its comments and line breaks.
                if let Some((receiver, rest)) = split_at_method(&text, &name, at) {
                    self.replace(Kind::Boundary, e, format!("{receiver}{other}{rest}"));
                }
            }
            _ if COUNT.contains(&&*name) => self.counter_method(e),
            _ => {}
        }
    }

    /// `a.b += x`: the field beside `b`.
    fn counter(&mut self, e: &ExprBinary) {
        let Expr::Field(field) = &*e.left else {
            return;
        };
        let Some((base, sibling)) = self.sibling(field, is_integer) else {
            return;
        };
        let op = match e.op {
            BinOp::AddAssign(_) => "+=",
            _ => "-=",
        };
        let replacement = format!("{base}.{sibling} {op} {}", self.text(&e.right));
        self.replace(Kind::Counter, e, replacement);
    }

    /// `a.b.add(x)`: the field beside `b`.
    fn counter_method(&mut self, e: &ExprMethodCall) {
        let Expr::Field(field) = &*e.receiver else {
            return;
        };
        let Some((base, sibling)) = self.sibling(field, is_counter) else {
            return;
        };
        let arguments: Vec<_> = e.args.iter().map(|argument| self.text(argument)).collect();
        let replacement = format!("{base}.{sibling}.{}({})", e.method, arguments.join(", "));
        self.replace(Kind::Counter, e, replacement);
    }

    fn sibling(
        &self,
        field: &syn::ExprField,
        counts: fn(&str) -> bool,
    ) -> Option<(String, String)> {
        let syn::Member::Named(name) = &field.member else {
            return None;
        };
        let base = self.text(&field.base);
        let preferred = self.of.as_deref().filter(|_| base == "self");
        let sibling = self
            .fields
            .sibling(preferred, self.file, &name.to_string(), counts)?;
        Some((base, sibling))
    }

    /// The arms of a `match` that is a condition, each as a value.
    fn bool_arms(&mut self, expr: &Expr) {
        let Expr::Match(e) = expr else { return };
        for arm in &e.arms {
            self.bool_leaf(&arm.body);
        }
    }

    /// `true` and `false` for a condition that is neither.
    pub(super) fn bool_leaf(&mut self, leaf: &Expr) {
        if !matches!(leaf, Expr::Lit(_) | Expr::Block(_) | Expr::Match(_)) {
            for value in ["true", "false"] {
                self.add(
                    Kind::Return,
                    range(leaf),
                    value.into(),
                    Form::Replace(value.into()),
                );
            }
        }
    }
}

/// The last call of a method in a text, near where it stood before the text was collapsed.
fn split_at_method<'t>(text: &'t str, name: &str, at: usize) -> Option<(&'t str, &'t str)> {
    let call = format!(".{name}");
    let places = text.match_indices(&call).map(|(place, _)| place + 1);
    let place = places.min_by_key(|place| place.abs_diff(at))?;
    Some((&text[..place], &text[place + name.len()..]))
}

fn is_bool(pat: &syn::Pat) -> bool {
    matches!(
        pat,
        syn::Pat::Lit(ExprLit {
            lit: Lit::Bool(_),
            ..
        })
    )
}
