// SPDX-License-Identifier: GPL-2.0

//! What Kbuild defines for a kernel that has KUnit.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=CONFIG_KUNIT=\"y\"");
}
