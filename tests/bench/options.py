# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of tests/bench/run, which hands them on to tests/bench/drive."""

import argparse
import os
import re
from pathlib import Path

DESCRIPTION = '''\
Migrate a guest of its own, whose vCPUs touch memory in a pattern, with KVM
userfault and without, in rounds, and compare.'''

# What a touch took at least to be called a fault: KVM mapping a page that is
# there takes microseconds on hardware, tens of them where that is emulated.
SLOW_US_HARDWARE, SLOW_US_EMULATED = 30, 200
ROUNDS, QUICK_ROUNDS = 5, 2


def parser(modes):
    it = argparse.ArgumentParser(
        prog='tests/bench/run', description=DESCRIPTION)
    add = it.add_argument
    add('cases', nargs='*', metavar='CASE',
        help='regular expressions; all cases unless some are given')
    add('--list', action='store_true', help='print the cases and modes, run none')
    add('--quick', action='store_true',
        help=f'a few cases, {QUICK_ROUNDS} rounds: only a sign')
    add('--rounds', type=int, metavar='N',
        help='how often each mode of each case runs, every other time in reverse '
        f'order ({ROUNDS}; quick: {QUICK_ROUNDS})')
    add('--modes', default='on,off', metavar='MODES',
        help=f'of {", ".join(modes)} (on,off)')
    add('--window', type=float, default=6.0, metavar='S',
        help='seconds after the switchover that are measured (6)')
    add('--slow-us', type=int, metavar='US',
        help='a touch that takes as long is a fault '
        f'({SLOW_US_HARDWARE} on hardware, {SLOW_US_EMULATED} emulated)')
    add('--results', type=Path, metavar='FOLDER',
        default=os.environ.get('RESULTS'),
        help='where bench.json, bench.txt, bench.html and, after a failure, the '
        'logs go')
    add('--corrupt', action='store_true',
        help='damage one byte in the guest, to see the run fail')
    add('--accel', default='kvm', help=argparse.SUPPRESS)
    return it


def choose(parser_, cases, args):
    """The cases that @args names"""
    names = [case.name for case in cases.CASES]
    patterns = args.cases or ([f'^{name}$' for name in cases.QUICK]
                              if args.quick else [''])
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in names):
            parser_.error(f'no case matches "{pattern}" (--list shows them)')
    return [case for case in cases.CASES
            if any(re.search(pattern, case.name) for pattern in patterns)]


def parse(cases, words):
    """The options, with @chosen cases and a list of @modes."""
    it = parser(cases.MODES)
    args = it.parse_args(words)
    args.modes = args.modes.split(',')
    for mode in args.modes:
        if mode not in cases.MODES:
            it.error(f'no mode "{mode}"; there are {", ".join(cases.MODES)}')
    if len(set(args.modes)) != len(args.modes):
        it.error('a mode stands twice in --modes')
    if args.rounds is None:
        args.rounds = QUICK_ROUNDS if args.quick else ROUNDS
    if args.rounds < 1 or args.window <= 0:
        it.error('--rounds and --window must be more than nothing')
    args.chosen = choose(it, cases, args)
    return args
