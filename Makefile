# SPDX-License-Identifier: GPL-2.0
#
# Each target calls a script of scripts/. Kbuild, beside this file, builds the module.

.PHONY: module run test test-all experiment defects mm-selftests interleavings races coverage mutants stress bench shell doc rust-analyzer format update clean clean-cache help

module:
	@scripts/module.sh

run:
	@scripts/run.sh

test:
	@scripts/test.sh

test-all:
	@scripts/test.sh --all

experiment:
	@scripts/experiment.sh

defects:
	@scripts/defects.sh

mm-selftests:
	@scripts/test.sh --mm

interleavings:
	@scripts/interleavings.sh

races:
	@scripts/races.sh

coverage:
	@scripts/coverage.sh

mutants:
	@scripts/mutants.sh

stress:
	@scripts/stress.sh

bench:
	@scripts/bench.sh

shell:
	@scripts/shell.sh

doc:
	@scripts/doc.sh

rust-analyzer:
	@scripts/rust-analyzer.sh

format:
	@scripts/format.sh

update:
	@scripts/clean.sh update

clean:
	@scripts/clean.sh build

clean-cache:
	@scripts/clean.sh cache

help:
	@scripts/help.sh

export KDIR DRIVER KERNEL CORE_BUGS STRESS_SECONDS STRESS_SEED STRESS_OPTIONS RACES RACE_SECONDS RACE_SEED MUTANTS SEED MUTANT_IDS MUTANT_SECONDS MUTANT_GUESTS BENCH BENCH_SECONDS BENCH_OPTIONS
