# SPDX-License-Identifier: GPL-2.0-or-later
# The steps are scripts; this names them.  `make demo` and `make check` work
# right after a clone: they configure and install what is missing.

BUILD ?= build
export BUILD
STEP = scripts/userfault
PYTHON = /usr/bin/python3

.DEFAULT_GOAL = all
.PHONY: all help deps configured qemu kernel series demo check check-unit check-mutants \
	testhost testhost-shell stress clean distclean

## all: QEMU and the kernel of the test host (default)
all: qemu kernel

## help: this list
help:
	@sed -n 's/^## //p' Makefile
	@echo 'variables: BUILD=folder JOBS=n N=migrations (stress)'

## deps: install missing packages (as root or through sudo)
deps:
	@$(STEP)/prepare --deps

configured:
	@$(STEP)/prepare

## qemu: build QEMU with the project in it
qemu: configured
	@$(STEP)/build.py qemu

## kernel: build the kernel of the test host
kernel: configured
	@$(STEP)/build.py kernel

# One after the other: both use all CPUs.
testhost: configured
	@$(STEP)/build.py qemu
	@$(STEP)/build.py kernel
	@tests/guest/build $(BUILD)/guest

## series: patches for QEMU and Linux in build/series, checked with git am
series: configured
	@$(STEP)/series.py qemu linux

## demo: a postcopy migration with and without KVM userfault
demo: testhost
	@tests/demo/run

## check: all tests
check: testhost
	@tests/suite/run

## check-unit: tests that need neither KVM nor the test host
check-unit:
	@$(STEP)/unit-tests

## check-mutants: whether the unit tests notice planted faults
check-mutants: configured
	@$(STEP)/integrate.py qemu
	@tests/unit/run-mutants

## testhost-shell: a shell in the test host
testhost-shell: testhost
	@tests/testhost/launch --shell

## stress: N postcopy migrations in a row in the test host (N=100)
stress: testhost
	@tests/testhost/stress $(N)

## clean: remove what was built, keep configuration and downloads
clean:
	@$(STEP)/clean

## distclean: remove the build folder, keep downloads
distclean:
	@$(STEP)/clean --all
