#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
cat <<'TEXT'
make run          boots Debian's kernel in QEMU with the module loaded, migrates a huge page to the device
                  and back, and runs the kernel's unmodified selftest; fetches and builds everything
make run DRIVER=c the same with the kernel's C driver, test_hmm
make test         all checks to be run before a commit
make test-all     these, and slower ones
make experiment   reference counts of a refused split, stage by stage, with both drivers
make defects      shows the known bugs of the C driver and of the core, and that they are absent here: tests/defects.md
                  CORE_BUGS=all (all cases about the core; default: a sample)
make mm-selftests compares other mm selftests of the kernel, without the driver and with it busy
make stress       runs all operations against each other and compares all data with a model: STRESS_SECONDS=7200
                  STRESS_SEED=N STRESS_OPTIONS="--without fork" KERNEL=stock
make interleavings  runs all of tests/interleavings.md on one kernel: KERNEL=own|stock|debug
make races        runs threads on one huge page that is zapped, in all combinations, 75 minutes: RACES=20
                  RACE_SECONDS=15 RACE_SEED=N KERNEL=own
make coverage     reports which lines of rust/, src/ and the core the suites execute: build/coverage
make mutants      makes small changes of src/ and rust/, one at a time, and reports whether KUnit, the companion or
                  stress notices: MUTANTS=300 SEED=N|random MUTANT_GUESTS=2 (guests side by side)
make bench        measures both drivers in one boot, in turns, and the kernel's copies alone: build/bench
                  BENCH_SECONDS=720 BENCH=time|cpus|nopti|memory|icount|unzeroed|unobserved BENCH_OPTIONS="--filter exclusive"
make shell        boots a guest with a shell and the module loaded (DRIVER=c, KERNEL=own)
make module       builds the module for Debian's kernel: build/stock/module
make KDIR=TREE    builds the module for a configured tree of your own: build/module
make doc          builds the rustdoc of rust/ and src/ for the kernel own; a warning is an error: build/doc
                  KERNEL=stock, or KDIR=TREE
make rust-analyzer  writes rust-project.json, which describes the module and the kernel's crates to an editor
                  KERNEL=stock, or KDIR=TREE
make format       formats all Rust files with the kernel's settings
make update       makes the next run look for a newer packaged kernel
make clean        removes build/, but not the cache
make clean-cache  removes the cache as well, if it is marked as one of this project (CACHEDIR.TAG)

DMIRROR_CACHE=DIRECTORY  the cache (default: ~/.cache/rust-dmirror, about 10 GB); entries that no
                         checkout has used for two weeks are removed
DMIRROR_ACCEL=tcg|kvm    the accelerator (default: KVM if a trial boot works, otherwise TCG)
JOBS=N                   compilers at a time, of make and of cargo (default: one per CPU)
TEXT
