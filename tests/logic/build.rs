// SPDX-License-Identifier: GPL-2.0

//! Sets what Kbuild defines for a kernel with KUnit.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=CONFIG_KUNIT=\"y\"");
}
