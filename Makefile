# SPDX-License-Identifier: GPL-2.0-or-later
# The steps are scripts; this names them.  `make demo` and `make check` work
# right after a clone: they configure and install what is missing.

BUILD ?= build
export BUILD
STEP = scripts/userfault
PYTHON = /usr/bin/python3

.DEFAULT_GOAL = all
.PHONY: all help deps configured qemu kernel series demo check check-full check-unit check-model \
	check-fuzz check-mutants docs deb kernel-deb testhost testhost-shell stress soak bench bench-quick \
	bench-native bench-count clean distclean

## all: QEMU and the kernel of the test host (default)
all: qemu kernel

## help: this list
help:
	@sed -n 's/^## //p' Makefile
	@echo 'variables: BUILD=folder JOBS=n N=migrations (stress)'
	@echo '           SECONDS=n (soak)'

## deps: install missing packages (as root or through sudo)
deps:
	@$(STEP)/prepare --deps

configured:
	@$(STEP)/prepare

## qemu: build QEMU with the project in it
qemu: configured
	@$(STEP)/build.py qemu

## kernel: build the kernel of the test host (VARIANT=lockdep|kasan|kcsan: one that
##         looks for errors of its own)
kernel: configured
	@$(STEP)/build.py kernel $(VARIANT)

# One after the other: both use all CPUs.
testhost: configured
	@$(STEP)/build.py qemu
	@$(STEP)/build.py kernel
	@tests/guest/build $(BUILD)/guest

## series: patches for QEMU and Linux in build/series, checked with git am
series: configured
	@$(STEP)/series.py qemu linux

## docs: the pages as HTML and as a man page, in build/docs
docs: configured
	@$(STEP)/docs.py

## deb: a Debian package of the server profile, beside the distribution's QEMU
deb: configured
	@$(STEP)/deps.py --install server
	@$(STEP)/deb.py

## kernel-deb: a Debian package of a kernel with KVM userfault, beside the others
##             (KERNEL_CONFIG=generic|cloud|testhost|file)
kernel-deb: configured
	@$(STEP)/deps.py --install kernel-deb
	@$(STEP)/kerneldeb.py

## demo: a postcopy migration with and without KVM userfault
demo: testhost
	@tests/demo/run

## check: all tests
check: testhost
	@tests/suite/run

## check-full: all tests, also those that take long
check-full: testhost
	@tests/suite/run --full

## check-unit: tests that need neither KVM nor the test host
check-unit:
	@$(STEP)/unit-tests

## check-model: models of the concurrency core, every order of their steps
check-model:
	@$(STEP)/deps.py --install tests
	@tests/model/run

## check-fuzz: what the wire can bring, to the destination and to the source
check-fuzz: qemu
	@$(STEP)/deps.py --install fuzz
	@tests/fuzz/run

## check-mutants: whether unit tests, fuzz targets and situations notice planted faults
check-mutants: testhost
	@$(STEP)/deps.py --install fuzz
	@tests/unit/run-mutants
	@tests/fuzz/run-mutants
	@tests/situations/run-mutants

## testhost-shell: a shell in the test host
testhost-shell: testhost
	@tests/testhost/launch --shell

## stress: N postcopy migrations in a row in the test host (N=100)
stress: testhost
	@tests/testhost/stress $(N)

## soak: migrations with faults at random in the test host (SECONDS=600)
soak: testhost
	@tests/testhost/soak $(SECONDS)

## bench: how fast pages are fetched on demand, with KVM userfault and without
bench: testhost
	@tests/bench/build $(BUILD)/bench
	@tests/bench/run

## bench-quick: a sign of that, from fewer cases
bench-quick: testhost
	@tests/bench/build $(BUILD)/bench
	@tests/bench/run --quick

## bench-native: how the fault service scales to 1,024 threads; no KVM, no test host
bench-native: configured
	@$(STEP)/integrate.py qemu
	@tests/bench/native/run

## bench-count: instructions, locks and atomic operations of a page fault
bench-count: testhost
	@$(STEP)/build.py count
	@tests/bench/build $(BUILD)/bench
	@tests/bench/count/check
	@tests/bench/count/run --model

## clean: remove what was built, keep configuration and downloads
clean:
	@$(STEP)/clean

## distclean: remove the build folder, keep downloads
distclean:
	@$(STEP)/clean --all
