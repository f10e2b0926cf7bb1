# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of tests/demo/run, which hands them on to tests/demo/drive."""

import argparse
import os
from pathlib import Path

DESCRIPTION = '''\
Migrate a live Linux guest that verifies every byte of its memory, with
userfault=on and then with userfault=off, and compare the two.'''

# A first touch of a page that takes as long was a demand fault and not merely
# KVM mapping a page that is there already: microseconds on hardware, tens of
# them where the hardware itself is emulated.
SLOW_US_HARDWARE, SLOW_US_EMULATED = 30, 200


MODES = ('on', 'off', 'stock')


def modes(text):
    """@text, if it is a list of values of userfault="""
    for mode in text.split(','):
        if mode not in MODES:
            raise argparse.ArgumentTypeError(
                f'{mode!r} is none of {", ".join(MODES)}')
    return text


def parser():
    it = argparse.ArgumentParser(
        prog='tests/demo/run', description=DESCRIPTION,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = it.add_argument
    add('--repeat', type=int, default=1, metavar='N',
        help='run the pair N times: a line for each run, and the medians')
    add('--order', default='on,off', metavar='MODES', type=modes,
        help='values of userfault=, in the order to run them; "stock" means a '
        'QEMU that does not know the option')
    add('--cpus', type=int, default=4, help='vCPUs of the guest')
    add('--memory', type=int, default=384, metavar='MIB',
        help='memory of the guest')
    add('--hot', type=int, default=128, metavar='MIB',
        help='memory that the guest rewrites and verifies all the time')
    add('--bandwidth', type=int, default=64, metavar='MIB',
        help='of the link, per second')
    add('--postcopy-bandwidth', type=int, default=2, metavar='MIB',
        help='of the background stream during postcopy, per second')
    add('--passes', type=int, default=2,
        help='whole precopy passes before the switchover')
    add('--no-preempt', action='store_true',
        help='do without the preempt channel')
    add('--delay-us', type=int, default=0, metavar='US',
        help='each packet of the migration takes so long, each way (as root)')
    add('--huge', action='store_true',
        help='memory of the guest in huge pages of 2 MiB (as root)')
    add('--slow-us', type=int, metavar='US',
        help='a first touch that takes as long counts as a fault '
        f'({SLOW_US_HARDWARE} on hardware, {SLOW_US_EMULATED} emulated)')
    add('--view', choices=('auto', 'live', 'plain'), default='auto',
        help='a picture redrawn in place, or a line per second')
    add('--results', type=Path, metavar='FOLDER',
        default=os.environ.get('RESULTS'),
        help='where demo.json, demo.html and, after a failure, the logs go')
    add('--corrupt', action='store_true',
        help='damage one byte in the guest, to see the run fail')
    for name, kind in (('--columns', int), ('--accel', str)):
        add(name, type=kind, help=argparse.SUPPRESS)
    for name in ('--color', '--ascii'):
        add(name, action='store_true', help=argparse.SUPPRESS)
    return it
