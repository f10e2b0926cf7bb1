# SPDX-License-Identifier: GPL-2.0-or-later
"""The verifying guest and the QEMUs it lives in, over any number of
migrations.

    boot()          it runs on the source
    prepare()       a destination waits for it
    begin()         precopy; passes(n) waits for whole passes of it
    switch_over()   it goes on at the destination
    finish()        the last page is there
    check_memory()  it has verified all of its memory since
    move_in()       the destination is the source of the next migration

Where the next migration is to begin before this one ends, its destination is
started early, by prepare_following(): the last pages may come meanwhile.

Every wait goes through until(), which keeps polling and looking for trouble: a
QEMU that ended, a wrong byte in the guest, a guest or a migration that stands
still.  Limits are on standing still, not on the whole, because the speed of an
emulated machine is anybody's guess; patience scales them.
"""

import os
import shutil
import time

from . import GuestError, HarnessError
from .console import GuestConsole
from .migration import DONE, SWITCHOVER, Migration
from .qemu import Qemu

TICK = 0.25                     # seconds between two polls, as a rule
BOOT_LIMIT = 120                # seconds without the guest being ready
STILL_LIMIT = 30                # seconds without any progress
NOMINAL_SPEED = 0.05            # seconds of measure_speed() that count as 1


def measure_speed():
    """
    How many times slower than nominal this machine is now; at least 1.  By that
    times SLOWNESS if the kernel or QEMU is one that looks for its own errors.
    """
    start = time.monotonic()
    sum(i * i for i in range(100000))
    return (max((time.monotonic() - start) / NOMINAL_SPEED, 1.0)
            * float(os.environ.get('SLOWNESS', '1')))


class Still:
    """Notices that a set of figures has not changed for too long."""

    def __init__(self, what, limit, error):
        self.what = what
        self.limit = limit
        self.error = error
        self.figures = object()         # unlike any
        self.since = 0.0

    def see(self, now, figures):
        if figures != self.figures:
            self.figures = figures
            self.since = now
        elif now - self.since > self.limit:
            raise self.error(f'{self.what} for {self.limit:.0f} s')


class MovingGuest:
    """Main thread only; also a context manager, which stops what it started."""

    def __init__(self, folder, spec, patience=1.0):
        self.folder = folder
        self.spec = spec                # GuestSpec
        self.patience = patience
        self.guest = None               # GuestConsole
        self.source = self.destination = None
        self.following = None           # the destination after this one
        self.migration = None
        self.progress = None
        self.watched = True             # the guest and the migration move
        self.pause = TICK               # seconds between two polls
        self._number = 0                # of the last destination
        self._begun = 0                 # migrations
        self._start_watching()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _start_watching(self):
        limit = STILL_LIMIT * self.patience
        self._guest_still = Still('the guest made no progress', limit,
                                  GuestError)
        self._migration_still = Still('the migration made no progress', limit,
                                      HarnessError)

    # --- the steps -----------------------------------------------------------

    def boot(self, accel_option='', extra=(), binary=None, prefix=()):
        """The guest runs on the source and says so."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.guest = GuestConsole(self.folder / 'guest.log')
        held = ['-S'] if self.spec.held else []
        self.source = self._start_qemu('source', accel_option, [*held, *extra],
                                       binary, prefix)
        self.guest.attach(self.source.console)
        if held:
            self.source.command('cont')
        self.until(lambda: self.guest.log.ready, BOOT_LIMIT,
                   'the guest was not ready')

    def wait_for_beats(self, count=5):
        """Until there have been @count heartbeats in all."""
        self.until(lambda: len(self.guest.log.beats) >= count, BOOT_LIMIT,
                   'the guest had no heartbeat')

    def prepare(self, accel_option='', extra=(), binary=None, prefix=()):
        """A destination waits for the guest."""
        self._number += 1
        name = 'destination' + (str(self._number) if self._number > 1 else '')
        self.destination = self._start_qemu(
            name, accel_option, ['-incoming', 'defer', *extra], binary, prefix)

    def prepare_following(self, accel_option='', extra=()):
        """Another waits for the migration that comes after this one."""
        self.following = self._start_qemu(
            f'following{self._number}', accel_option,
            ['-incoming', 'defer', *extra], None, ())

    def _start_qemu(self, name, accel_option, extra, binary, prefix):
        folder = self.folder / name
        qemu = Qemu(name, folder,
                    self.spec.arguments(folder, accel_option) + extra, binary,
                    prefix)
        # Known to stop() from here on, should start() fail half way.
        setattr(self, name.rstrip('0123456789'), qemu)
        qemu.start(BOOT_LIMIT * self.patience)
        return qemu

    def begin(self, spec=None, uri=None, source_uri=None):
        """Precopy runs, over a UNIX socket unless there is a @uri."""
        self._begun += 1
        self.migration = Migration(
            self.source, self.destination,
            uri or f'unix:{self.folder}/migration{self._begun}', spec,
            source_uri)
        self.migration.start()
        self._start_watching()

    def passes(self, count):
        """Until precopy has made @count whole passes."""
        # Had it converged by then, poll() would have said so.
        self.until(lambda: self.migration.passes >= count)

    def switch_over(self):
        """Until the guest runs on the destination."""
        # Before the destination's guest can say its first byte.
        self.guest.attach(self.destination.console)
        self.migration.switch_over()
        self.until(lambda: self.migration.phase != SWITCHOVER)

    def finish(self):
        """Until the last page has come."""
        self.until(lambda: self.migration.phase == DONE)

    def check_memory(self):
        """One whole pass over all memory, begun after this call."""
        start = self.mark()['n']

        def passed():
            last = self.guest.log.last_beat
            return last['n'] > start and last['since'] >= 1
        self.until(passed)
        self.look_for_errors()

    def mark(self):
        """Have the guest count whole passes from here; its message."""
        marks = self.guest.log.marks
        count = len(marks)
        self.guest.send(b'm')
        self.until(lambda: len(marks) > count)
        return marks[count]

    def report(self):
        """Have the guest print a report now."""
        count = len(self.guest.log.complete_reports())
        self.guest.send(b'r')
        self.until(lambda: len(self.guest.log.complete_reports()) > count)
        return self.guest.log.complete_reports()[count]

    def counters(self):
        """postcopy-userfault of the destination's query-migrate."""
        info = self.destination.command('query-migrate')
        return info.get('postcopy-userfault', {})

    def watch(self, watched):
        """Whether a guest or a migration that stands still is an error"""
        self.watched = watched
        self._start_watching()

    def drop_destination(self):
        """The migration has come to nothing; the guest is the source's."""
        self.migration = None
        self.destination.stop()
        self.destination = None

    def move_in(self):
        """Stop the source; the destination takes its place."""
        self.migration = None
        self.source.stop()
        self.source, self.destination = self.destination, None

    def stop(self):
        for qemu in (self.following, self.destination, self.source):
            if qemu is not None:
                qemu.stop()
        if self.guest is not None:
            self.guest.close()
            self.guest = None

    # --- waiting -------------------------------------------------------------

    def until(self, condition, limit=None, what=''):
        """Tick until @condition; with @limit, no longer than that (scaled)."""
        end = None
        if limit is not None:
            limit *= self.patience
            end = time.monotonic() + limit
        while not condition():
            if end is not None and time.monotonic() > end:
                raise GuestError(f'{what} in {limit:.0f} s')
            self.tick()

    def run_for(self, seconds):
        """Keep looking for trouble for @seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tick()

    def tick(self):
        """Poll once; a subclass draws or counts in seen()."""
        before = time.monotonic()
        for qemu in (self.source, self.destination):
            if qemu is not None:
                qemu.check_alive()
        self.look_for_errors()
        if self.migration is not None:
            self.progress = p = self.migration.poll()
            if self.watched and p.phase != DONE:
                self._migration_still.see(p.time, (
                    p.phase, p.sync_count, p.remaining, p.transferred))
        if self.watched and self.guest.log.ready:
            beat = self.guest.log.last_beat
            self._guest_still.see(before, beat and beat['verified'])
        self.seen()
        spent = time.monotonic() - before
        time.sleep(max(self.pause - spent, 0.02))

    def seen(self):
        """Called at each tick."""

    def look_for_errors(self):
        """GuestError if the guest died or saw a wrong byte."""
        log = self.guest.log
        if log.fatal:
            raise GuestError('the guest stopped: ' + str(log.fatal))
        if log.errors:
            e = log.errors[0]
            raise GuestError(f'the guest saw a wrong byte: page {e["page"]} '
                             f'word {e["word"]} generation {e["generation"]}: '
                             f'{e["got"]:#x} instead of {e["expected"]:#x} '
                             f'({log.error_count()} in all)')
        if log.error_count():
            raise GuestError(f'the guest saw {log.error_count()} wrong pages')
        for name, chore in log.chores.items():
            if chore['errors']:
                raise GuestError(f"the guest's chore {name} failed: "
                                 f'{chore["what"]} {chore["detail"]:#x} '
                                 f'({chore["errors"]} in all)')
