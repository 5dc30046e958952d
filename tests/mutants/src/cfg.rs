// SPDX-License-Identifier: GPL-2.0

//! Which code is compiled for the kernel `own`, and no test.

use syn::{punctuated::Punctuated, Attribute, Meta, Token};

/// What that kernel has of what code here asks for.
const SET: [&str; 2] = ["CONFIG_FUNCTION_ERROR_INJECTION", "dmirror_core_splits"];

/// Whether what has these attributes is built there and is part of the driver. What is there for KUnit
/// only counts as not built: mutants of a test prove nothing.
pub fn is_built(attributes: &[Attribute]) -> bool {
    attributes.iter().all(|attribute| {
        let path = attribute.path();
        if path.is_ident("kunit_tests") || path.is_ident("test") {
            return false;
        }
        !path.is_ident("cfg")
            || attribute
                .parse_args::<Meta>()
                .is_ok_and(|meta| holds(&meta))
    })
}

fn holds(meta: &Meta) -> bool {
    match meta {
        Meta::Path(path) => SET.iter().any(|name| path.is_ident(name)),
        Meta::NameValue(pair) => SET.iter().any(|name| pair.path.is_ident(name)),
        Meta::List(list) => {
            let all = list
                .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
                .unwrap_or_default();
            match () {
                () if list.path.is_ident("all") => all.iter().all(holds),
                () if list.path.is_ident("any") => all.iter().any(holds),
                () if list.path.is_ident("not") => !all.iter().all(holds),
                () => false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(text: &str) -> bool {
        let item: syn::ItemFn = syn::parse_str(&format!("{text} fn f() {{}}")).unwrap();
        is_built(&item.attrs)
    }

    #[test]
    fn tests_and_other_kernels_are_left_out() {
        assert!(built("#[inline]"));
        assert!(built("#[cfg(dmirror_core_splits)]"));
        assert!(built("#[cfg(not(dmirror_unobserved))]"));
        assert!(!built("#[cfg(CONFIG_KUNIT = \"y\")]"));
        assert!(!built("#[cfg(not(CONFIG_FUNCTION_ERROR_INJECTION))]"));
        assert!(!built("#[test]"));
        assert!(built(
            "#[cfg(all(dmirror_core_splits, not(dmirror_unobserved)))]"
        ));
        assert!(!built("#[cfg(any(CONFIG_KUNIT, test))]"));
    }
}
