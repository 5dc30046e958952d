// SPDX-License-Identifier: GPL-2.0

//! Where syntax stands in a file, and its text in one line.

use std::ops::Range;

use proc_macro2::TokenStream;
use syn::spanned::Spanned;

/// Bytes of its file.
pub fn range(node: &impl Spanned) -> Range<usize> {
    node.span().byte_range()
}

/// Its text without comments and line breaks, as it is written in code that takes no more lines.
pub fn tokens(node: &impl Spanned, text: &str) -> String {
    collapse(&text[range(node)])
}

/// The same of a text, which is left as it is if it is no Rust.
pub fn collapse(text: &str) -> String {
    if !text.contains("//") && !text.contains("/*") {
        return join_lines(text);
    }
    match text.parse::<TokenStream>() {
        Ok(stream) => stream.to_string(),
        Err(_) => text.to_string(),
    }
}

fn join_lines(text: &str) -> String {
    let mut joined = String::new();
    for line in text.lines().map(str::trim) {
        // rustfmt breaks before a dot and behind an opening bracket.
        let sticks = line.starts_with(['.', ')', ']', '?']) || joined.ends_with(['(', '[']);
        if !joined.is_empty() && !sticks {
            joined.push(' ');
        }
        joined.push_str(line);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_joined() {
        assert_eq!(collapse("a\n    .b(\n        c,\n    )?"), "a.b(c,)?");
        assert_eq!(collapse("a // why\n    + b"), "a + b");
    }
}
