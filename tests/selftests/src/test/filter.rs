// SPDX-License-Identifier: GPL-2.0

//! Choosing cases by name: a part of it, or a glob with `*` and `?` over the whole of it.

pub fn matches(pattern: &str, name: &str) -> bool {
    if pattern.contains(['*', '?']) {
        glob(pattern.as_bytes(), name.as_bytes())
    } else {
        name.contains(pattern)
    }
}

fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|n| glob(rest, &name[n..])),
        (Some((b'?', rest)), Some((_, tail))) => glob(rest, tail),
        (Some((p, rest)), Some((n, tail))) => p == n && glob(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_globs() {
        assert!(matches("split", "to_device.split_refused"));
        assert!(!matches("split", "whole"));
        assert!(matches("*refused", "to_device.split_refused"));
        assert!(!matches("*refused", "split_refused_twice"));
        assert!(matches("t?_*.split*", "to_device.split_refused"));
        assert!(matches("*", ""));
        assert!(!matches("?", ""));
    }
}
