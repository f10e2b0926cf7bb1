# SPDX-License-Identifier: GPL-2.0-or-later
"""The program of the native benchmark: its build, its runs.

It is a part of the unit tests' build folder without sanitizers.
"""

import json
import os
import subprocess

from common import REPO, StepError, build_dir, load_config, lock
from unit import Meson

VARIANT = 'plain'
TARGET = 'tests/bench/native/fault-bench'
SLOTS = 'tests/bench/native/slots-bench'
HUGE = 'tests/bench/native/huge-bench'
HUGE_KVM = 'tests/bench/native/huge-kvm'


def build(target=TARGET):
    """Path of the program @target, built if need be; or StepError."""
    tree = os.path.join(build_dir(), 'qemu')
    if not os.path.isfile(os.path.join(tree, 'include', 'qemu', 'osdep.h')):
        raise StepError(f'there is no QEMU tree in {tree}; run make bench-native')
    folder = os.path.join(build_dir(), 'native', VARIANT)
    with lock(os.path.join(build_dir(), 'native')):
        meson = Meson(load_config())
        meson.setup(folder, REPO, VARIANT, tree)
        meson.build(folder, target)
    return os.path.join(folder, target)


def runs(program, threads, faults, rounds):
    """Yield {figure: number} of each run, as it is done; or StepError."""
    return read_runs([program, '--threads', ','.join(map(str, threads)),
                      '--faults', str(faults), '--rounds', str(rounds)])


def read_runs(command):
    """Yield what each line of @command's output says; or StepError."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True) as process:
        for line in process.stdout:
            yield json.loads(line)
        said = process.stderr.read().strip().splitlines()
    if process.returncode:
        how = f'exit status {process.returncode}'
        if process.returncode == -14:
            how = 'a run hung'
        raise StepError(said[-1] if said else how)
