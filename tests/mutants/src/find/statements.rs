// SPDX-License-Identifier: GPL-2.0

//! Candidates of statements: left out, guards, the order of locks.

use syn::{Block, Expr, Local, Pat, Stmt};

use super::{expressions::attributes, Finder};
use crate::{
    candidate::{Form, Kind},
    cfg::is_built,
    text::range,
};

impl Finder<'_> {
    pub(super) fn statements(&mut self, block: &Block) {
        for statement in &block.stmts {
            match statement {
                Stmt::Expr(expr, semicolon) if is_built(attributes(expr)) => {
                    let is_loop = matches!(expr, Expr::ForLoop(_) | Expr::While(_));
                    if is_loop || (semicolon.is_some() && may_go(expr)) {
                        self.leave_out(statement);
                    }
                }
                Stmt::Local(local) if is_built(&local.attrs) => self.guard(statement, local),
                _ => {}
            }
        }
        for pair in block.stmts.windows(2) {
            if let [Stmt::Local(first), Stmt::Local(second)] = pair {
                self.lock_order(first, second);
            }
        }
    }

    fn leave_out(&mut self, statement: &Stmt) {
        let replacement = "nothing".to_string();
        self.add(Kind::Statement, range(statement), replacement, Form::Unless);
    }

    /// `let _ = x;` has only an effect; `let _name = x;` is held for a while.
    fn guard(&mut self, statement: &Stmt, local: &Local) {
        let Some(init) = &local.init else { return };
        let name = match &local.pat {
            Pat::Wild(_) => return self.leave_out(statement),
            Pat::Ident(pat) => pat.ident.to_string(),
            _ => return,
        };
        if name.starts_with('_') && init.diverge.is_none() {
            let span = range(&init.expr);
            let text = self.text(&init.expr);
            self.add(Kind::Guard, span.clone(), "nothing".into(), Form::NoGuard);
            self.add(Kind::Guard, span, format!("drop({text})"), Form::ShortGuard);
        }
    }

    fn lock_order(&mut self, first: &Local, second: &Local) {
        let (Some(one), Some(other)) = (lock(first), lock(second)) else {
            return;
        };
        let (first_text, second_text) = (self.text(first), self.text(second));
        if uses(&second_text, &one.1) {
            return;
        }
        let swapped = format!("{second_text} {first_text}");
        self.add(
            Kind::LockOrder,
            range(first).start..range(second).end,
            swapped.clone(),
            Form::Swap {
                patterns: format!("{}, {}", one.0, other.0),
                names: format!("{}, {}", one.1, other.1),
                swapped,
            },
        );
    }
}

/// Whether a statement is more than an announcement.
fn may_go(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Assign(_)
            | Expr::Binary(_)
            | Expr::Break(_)
            | Expr::Call(_)
            | Expr::Continue(_)
            | Expr::MethodCall(_)
            | Expr::Return(_)
            | Expr::Try(_)
            | Expr::Unsafe(_)
    )
}

/// The pattern and the name of what a lock is kept in.
fn lock(local: &Local) -> Option<(String, String)> {
    let Pat::Ident(pat) = &local.pat else {
        return None;
    };
    let mut expr = &*local.init.as_ref()?.expr;
    while let Expr::Try(inner) = expr {
        expr = &inner.expr;
    }
    let Expr::MethodCall(call) = expr else {
        return None;
    };
    let locks = ["lock", "try_lock", "read", "write"];
    let name = pat.ident.to_string();
    let pattern = match pat.mutability {
        Some(_) => format!("mut {name}"),
        None => name.clone(),
    };
    locks
        .contains(&&*call.method.to_string())
        .then_some((pattern, name))
}

fn uses(text: &str, name: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word == name)
}
