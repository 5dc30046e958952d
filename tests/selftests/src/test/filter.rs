// SPDX-License-Identifier: GPL-2.0

//! Selects cases by name: by the whole name, a part of it, or a glob with `*` and `?` that matches the whole name.

/// Returns the cases that any of `patterns` selects, or all if there are no patterns. A pattern that is the whole
/// name of a case selects only that case, even if other names contain it.
pub fn choose<T>(cases: Vec<T>, name: impl Fn(&T) -> &str, patterns: &[String]) -> Vec<T> {
    let whole: Vec<_> = patterns
        .iter()
        .map(|pattern| cases.iter().any(|case| name(case) == pattern))
        .collect();
    let chosen = |case: &T| {
        let mut all = patterns.iter().zip(&whole);
        all.any(|(pattern, whole)| match whole {
            true => pattern == name(case),
            false => matches(pattern, name(case)),
        })
    };
    cases
        .into_iter()
        .filter(|case| patterns.is_empty() || chosen(case))
        .collect()
}

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

    #[test]
    fn a_whole_name_is_no_part() {
        let chosen = |patterns: &[&str]| {
            let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
            choose(vec!["race.0", "race.0_1", "zap"], |name| name, &patterns)
        };
        assert_eq!(chosen(&["race.0"]), ["race.0"]);
        assert_eq!(chosen(&["race"]), ["race.0", "race.0_1"]);
        assert_eq!(chosen(&["race.0", "za"]), ["race.0", "zap"]);
        assert_eq!(chosen(&[]).len(), 3);
    }
}
