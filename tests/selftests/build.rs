// SPDX-License-Identifier: GPL-2.0

//! Generates bindings of the ioctls from the header, as the driver's Kbuild does.

use std::{env, process::Command};

const SCRIPT: &str = "../../scripts/uapi-bindings.sh";
const HEADER: &str = "../../include/uapi/rust_dmirror.h";
const INCLUDED: &str = "../../include/uapi/test_hmm_uapi.h";

fn main() {
    let out = env::var("OUT_DIR").expect("cargo sets it") + "/uapi.rs";
    for input in [SCRIPT, HEADER, INCLUDED] {
        println!("cargo::rerun-if-changed={input}");
    }
    println!("cargo::rerun-if-env-changed=BINDGEN");
    let status = Command::new("sh").args([SCRIPT, HEADER, &out]).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{SCRIPT} failed: it needs bindgen 0.71 and clang"
    );
    println!("cargo::rustc-env=RUST_DMIRROR_UAPI={out}");
}
