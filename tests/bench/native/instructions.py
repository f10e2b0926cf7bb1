# SPDX-License-Identifier: GPL-2.0-or-later
"""How many instructions a fault takes, counted by Valgrind's callgrind.

The same on every machine with the same compiler and libraries, and however
busy it is.
"""

import os
import re
import subprocess
import tempfile

from common import need_tool, run

# (side, the functions whose instructions are counted, with all they call)
SIDES = (('vCPU', ('walk_vcpu_exits', 'walk_vcpu_returns')),
         ('loader', ('walk_loader_reads',)))
VCPUS = (1, 8, 64, 1024)
FAULTS = 2048


def read_total(text):
    """Instructions in what callgrind wrote"""
    return int(re.search(r'^(?:summary|totals): (\d+)', text, re.M).group(1))


def count(program, vcpus, functions, faults=FAULTS):
    """Instructions of one fault in @functions"""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, 'callgrind.out')
        run([need_tool('valgrind'), '--tool=callgrind', '--collect-atstart=no',
             *(f'--toggle-collect={name}' for name in functions),
             f'--callgrind-out-file={out}', program, '--walk', str(vcpus),
             '--faults', str(faults)], 'callgrind')
        with open(out) as stream:
            return read_total(stream.read()) / faults


def count_all(program):
    """{vCPUs: {side: instructions}}"""
    return {vcpus: {side: count(program, vcpus, functions)
                    for side, functions in SIDES} for vcpus in VCPUS}
