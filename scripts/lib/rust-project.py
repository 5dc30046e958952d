#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""rust-project.py FILE RUSTC-ARGUMENT...

Adds the module's crate to the rust-project.json that `make rust-analyzer` of
the kernel has written, and makes its paths those that an editor sees outside
the build root. The arguments and the environment are those of the compiler,
by rustc-too.sh. (The kernel's script looks for the Kbuild file of a module in
the directory of the crate's root. Here it is one above, so that it finds none.)
"""

import json
import os
import sys

# What kbuild gives each crate outside of rust/ with --extern, and core.
DEPENDENCIES = ["core", "kernel", "pin_init", "zerocopy", "zerocopy_derive"]


def outside(path: str) -> str:
    """Where a path of the build root is outside of it."""
    path = os.path.realpath(path)
    for pair in os.environ.get("DMIRROR_OUTSIDE", "").split():
        inner, outer = pair.split("=", 1)
        if path == inner or path.startswith(inner.rstrip("/") + "/"):
            return os.path.normpath(outer + "/" + path[len(inner.rstrip("/")):])
    return path


def crate(crates: list, arguments: list) -> dict:
    """The crate that the compiler was called for."""
    number = {entry["display_name"]: index for index, entry in enumerate(crates)}
    cfg = list(crates[number["kernel"]]["cfg"])
    cfg += [value for flag, value in zip(arguments, arguments[1:]) if flag == "--cfg"]
    root = next(argument for argument in arguments if argument.endswith(".rs"))
    top = os.path.dirname(os.path.dirname(os.path.realpath(root)))
    # Absolute paths of generated files, for include!(env!(…)).
    env = {
        name: value for name, value in os.environ.items()
        if name.startswith("RUST_DMIRROR_") and os.path.isfile(value)
    }
    return {
        "display_name": "rust_dmirror",
        "root_module": root,
        "is_workspace_member": True,
        "deps": [{"crate": number[name], "name": name} for name in DEPENDENCIES],
        "cfg": cfg,
        "edition": "2021",
        "env": {"RUST_MODFILE": "This is only for rust-analyzer", **env},
        "source": {
            "include_dirs": [os.path.join(top, name) for name in ("rust", "src", "tests/kunit")]
            + sorted({os.path.dirname(value) for value in env.values()}),
            "exclude_dirs": [],
        },
    }


def main() -> None:
    file = sys.argv[1]
    with open(file, encoding="utf-8") as stream:
        project = json.load(stream)
    project["crates"].append(crate(project["crates"], sys.argv[2:]))
    for entry in project["crates"]:
        for name in ("root_module", "proc_macro_dylib_path"):
            if name in entry:
                entry[name] = outside(entry[name])
        for name, value in entry["env"].items():
            if value.startswith("/"):
                entry["env"][name] = outside(value)
        for name, value in entry.get("source", {}).items():
            entry["source"][name] = [outside(path) for path in value]
    sysroot = outside(project["sysroot"])
    if sysroot != project["sysroot"]:
        # The compiler of the build root runs inside of it only. An editor needs its sources, and has a rustc of its own.
        del project["sysroot"]
        project["sysroot_src"] = os.path.join(sysroot, "lib/rustlib/src/rust/library")
    with open(file, "w", encoding="utf-8") as stream:
        json.dump(project, stream, indent=4, sort_keys=True)
        stream.write("\n")


if __name__ == "__main__":
    main()
