# SPDX-License-Identifier: GPL-2.0-or-later
"""Migrations that are given up before the switchover, or that cannot have
what they need."""

import os
from pathlib import Path

from harness.migration import MIB
from relay import free_port
from situation import (Skip, begin_in_vain, check, preloaded, refused, row, said,
                       small_migration)

SYSCTL = Path('/proc/sys/vm/unprivileged_userfaultfd')
DEVICE = Path('/dev/userfaultfd')
# Reading is needed to get at the build; of root there is only the name left.
UNPRIVILEGED = ('setpriv', '--bounding-set=-all,+dac_read_search')


@row('setup', 'cancel before switchover, then migrate')
def cancel(s):
    s.start()
    begin_in_vain(s)
    s.go_on()
    s.check_memory()
    s.prepare(s.accel_option)
    s.whole()


class NoPermission:
    """userfaultfd is for nobody; a context manager, which restores it."""

    def __enter__(self):
        if os.geteuid() or not DEVICE.exists():
            raise Skip('needs root and ' + str(DEVICE))
        self.mode = DEVICE.stat().st_mode & 0o777
        self.sysctl = SYSCTL.read_text()
        DEVICE.chmod(0)
        SYSCTL.write_text('0')
        return self

    def allow_device(self):
        DEVICE.chmod(0o600)

    def __exit__(self, *_):
        DEVICE.chmod(self.mode)
        SYSCTL.write_text(self.sysctl)


@row('setup', 'destination without privileges')
def unprivileged(s):
    """Refused without the device of userfaultfd, good with it."""
    with NoPermission() as permission:
        s.boot()
        s.prepare(s.accel_option, prefix=UNPRIVILEGED)
        s.wait_for_beats()
        refused('Postcopy is not supported: Userfaultfd not available: '
                'Operation not permitted; QEMU', s.begin)
        s.drop_destination()
        s.go_on()
        s.check_memory()
        permission.allow_device()
        s.prepare(s.accel_option, prefix=UNPRIVILEGED)
        s.whole(uri=f'tcp:127.0.0.1:{free_port()}')


def counters_without_memory(s, what):
    """Of a whole migration to a destination that has no memory for @what."""
    s.boot()
    s.prepare(s.accel_option, prefix=preloaded(s.folder, what))
    s.wait_for_beats()
    s.into_postcopy(small_migration(postcopy_bandwidth=8 * MIB))
    s.finish()
    s.check_memory()
    return s.counters()


@row('setup', 'no memory for the sets of requested pages')
def no_memory_requests(s):
    """One warning, and userfaultfd does it all."""
    c = counters_without_memory(s, 'requests')
    reason = 'no memory for the bitmaps of requested pages'
    check(c['status'] == 'fallback' and c.get('reason') == reason,
          f'status {c["status"]}: {c.get("reason")}')
    check(not c['exits'] and c['pages-userfaultfd'],
          f'{c["exits"]} exits, {c["pages-userfaultfd"]} pages by userfaultfd')
    check(said(s.destination, reason) == 1, 'not one warning')


@row('setup', 'no memory for the bitmaps of memslots')
def no_memory_slots(s):
    """A warning for each, and userfaultfd serves them all."""
    c = counters_without_memory(s, 'slots')
    check(c['status'] == 'finished' and not c['exits'] and c['pages-userfaultfd'],
          f'status {c["status"]}, {c["exits"]} exits, '
          f'{c["pages-userfaultfd"]} pages by userfaultfd')
    check(said(s.destination, 'no memory for the bitmap of memslot'),
          'no warning')
