// SPDX-License-Identifier: GPL-2.0

//! The attribute that makes a module a suite of KUnit tests in the kernel.

use proc_macro::TokenStream;
use std::{
    env,
    path::Path, //
};

/// Makes the suite a module of host tests. If `src/inside/` of the compiled crate has a file with the name
/// of the suite, adds it as a sibling module, which so sees the private items of the file.
#[proc_macro_attribute]
pub fn kunit_tests(name: TokenStream, module: TokenStream) -> TokenStream {
    let mut out = parse("#[cfg(all(test, not(loom)))]");
    out.extend(module);
    let name = name.to_string();
    let name = name.strip_prefix("rust_dmirror_").unwrap_or(&name);
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let inside = Path::new(&root).join(format!("src/inside/{name}.rs"));
    if inside.exists() {
        out.extend(parse(&format!(
            "#[cfg(test)] #[path = {inside:?}] mod inside;"
        )));
    }
    out
}

fn parse(text: &str) -> TokenStream {
    text.parse().expect("it is Rust")
}
