#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
cat <<'TEXT'
make run          from nothing to Debian's own kernel in QEMU with the module loaded: a huge
                  page moved to the device and back, the kernel's unmodified selftest passed
make run DRIVER=c the same with the kernel's C driver, test_hmm
make test         everything that checks the project before a commit
make test-all     that, and what takes longer
make experiment   the refused split, stage by stage, with both drivers
make defects      known bugs of the C driver and of the core, shown, and shown to be absent here: tests/defects.md
                  CORE_BUGS=all (all cases about the core; without it a sample)
make mm-selftests other mm selftests of the kernel, without the driver and with it busy: the same results
make stress       everything races, all data compared with a model: STRESS_SECONDS=7200
                  STRESS_SEED=N STRESS_OPTIONS="--without fork" KERNEL=stock
make interleavings  all of tests/interleavings.md on one kernel: KERNEL=own|stock|debug
make races        threads on one huge page that is zapped, in every combination, 75 minutes: RACES=20
                  RACE_SECONDS=15 RACE_SEED=N KERNEL=own
make coverage     which lines of rust/, src/ and the core the suites execute: build/coverage
make mutants      small changes of src/ and rust/, one at a time, and whether KUnit, the companion or stress
                  notices: MUTANTS=300 SEED=N|random MUTANT_GUESTS=2 (guests side by side)
make bench        both drivers in one boot, in turns, and what the kernel's copies alone take: build/bench
                  BENCH_SECONDS=720 BENCH=time|cpus|nopti|memory|icount|unzeroed|unobserved BENCH_OPTIONS="--filter exclusive"
make shell        a shell in the guest with the module loaded (DRIVER=c, KERNEL=own)
make module       the module alone, for Debian's kernel: build/stock/module
make KDIR=TREE    the module alone, for a configured tree of one's own: build/module
make doc          rustdoc of rust/ and src/, as built for the kernel own; a warning is an error: build/doc
                  KERNEL=stock, or KDIR=TREE
make rust-analyzer  rust-project.json, by which rust-analyzer finds the module and the kernel's crates: KERNEL=stock, KDIR=TREE
make format       rustfmt for every Rust file, with the kernel's settings
make update       look for a newer packaged kernel the next time
make clean        remove build/; what took long to make stays in the cache
make clean-cache  remove that as well, if it says that it is a cache of this project (CACHEDIR.TAG)

DMIRROR_CACHE=DIRECTORY  where that is (now: ~/.cache/rust-dmirror, about 10 GB); what no
                         checkout used for two weeks is removed from it
DMIRROR_ACCEL=tcg|kvm    instead of trying KVM and believing only what boots
JOBS=N                   compilers at a time, of make and of cargo (now: one per CPU)
TEXT
