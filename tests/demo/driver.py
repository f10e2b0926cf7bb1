# SPDX-License-Identifier: GPL-2.0-or-later
"""One migration of the verifying guest, from boot to a verdict.

The steps are those of Demonstration.run().  Every wait goes through
_until(), which keeps polling, drawing and looking for trouble: a QEMU that
ended, a wrong byte in the guest, a guest or a migration that stands still.
Limits are on standing still, not on the whole, because the speed of an
emulated machine is anybody's guess; PATIENCE scales them.
"""

import math
import shutil
import time
from collections import deque
from dataclasses import dataclass

from harness import GuestError, HarnessError
from harness.console import GuestConsole
from harness.histogram import Histogram
from harness.migration import (DONE, POSTCOPY, SWITCHOVER, Migration,
                               MigrationSpec)
from harness.qemu import GuestSpec, Qemu

TICK = 0.25                     # seconds between two polls
RATE_WINDOW = 1.0               # seconds over which live rates are taken
EARLY = 5.0                     # seconds of postcopy in which most is missing
BOOT_LIMIT = 120                # seconds without the guest being ready
STILL_LIMIT = 30                # seconds without any progress

# The destination's counters without which the result would be a guess.
COUNTERS = ('status', 'exits', 'requests', 'pages-vcpu', 'pages-userfaultfd',
            'pages-background', 'latency', 'userfaultfd-latency')
STATUS = {'on': 'finished', 'off': 'off'}       # after a good run


@dataclass
class Settings:
    userfault: str              # 'on', 'off', or 'stock': a QEMU without it
    guest: GuestSpec
    migration: MigrationSpec
    passes: int = 2             # whole precopy passes before the switchover
    patience: float = 1.0
    corrupt: bool = False       # damage a byte, to see the verdict fail


class Rate:
    """Events per second over the last RATE_WINDOW of a growing count."""

    def __init__(self):
        self.samples = deque()

    def add(self, now, count):
        self.samples.append((now, count))
        while now - self.samples[0][0] > RATE_WINDOW:
            if len(self.samples) < 3:
                break
            self.samples.popleft()

    @property
    def value(self):
        if len(self.samples) < 2:
            return 0.0
        (t0, n0), (t1, n1) = self.samples[0], self.samples[-1]
        return max(n1 - n0, 0) / (t1 - t0) if t1 > t0 else 0.0


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


class Demonstration:
    """Main thread only.  @view draws what Demonstration holds (view.py)."""

    def __init__(self, settings, folder, view):
        self.settings = settings
        self.folder = folder
        self.view = view
        self.step = 'boot'
        self.started = time.monotonic()
        self.guest = None               # GuestConsole
        self.source = self.destination = None
        self.migration = None
        self.progress = None
        self.checking = False           # the guest must be beating
        self.fault_rate = Rate()
        self.fault_samples = []         # (host clock, faults served until then)
        self.guest_rate = Rate()
        self._seen_beats = 0
        limit = STILL_LIMIT * settings.patience
        self._guest_still = Still('the guest made no progress', limit,
                                  GuestError)
        self._migration_still = Still('the migration made no progress', limit,
                                      HarnessError)

    # --- the steps -----------------------------------------------------------

    def run(self):
        """The result, as a dict for report.py; or HarnessError."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        try:
            self._boot()
            self._precopy()
            before = self._report()
            self._postcopy()
            after = self._report()
            self._check_memory()
            return self._result(before, after)
        finally:
            self._stop()

    def _boot(self):
        self.step = 'boot'
        self.guest = GuestConsole(self.folder / 'guest.log')
        self.source = self._start_qemu('source', '', [])
        self.guest.attach(self.source.console)
        self._until(lambda: self.guest.log.ready, BOOT_LIMIT,
                    'the guest was not ready')
        self.checking = True

        option = ('' if self.settings.userfault == 'stock'
                  else f',userfault={self.settings.userfault}')
        self.destination = self._start_qemu('destination', option,
                                            ['-incoming', 'defer'])
        self._until(lambda: len(self.guest.log.beats) > 4, BOOT_LIMIT,
                    'the guest had no heartbeat')

    def _start_qemu(self, name, accel_option, extra):
        folder = self.folder / name
        arguments = self.settings.guest.arguments(folder, accel_option)
        qemu = Qemu(name, folder, arguments + extra)
        # Known to _stop() from here on, should start() fail half way.
        setattr(self, name, qemu)
        qemu.start(BOOT_LIMIT * self.settings.patience)
        return qemu

    def _precopy(self):
        self.step = 'precopy'
        self.migration = Migration(self.source, self.destination,
                                   f'unix:{self.folder}/migration',
                                   self.settings.migration)
        self.migration.start()
        if self.settings.corrupt:
            self.guest.send(b'c', 0)
        # Had it converged by then, poll() would have said so.
        self._until(lambda: self.migration.passes >= self.settings.passes)

    def _postcopy(self):
        self.step = 'switchover'
        # Before the destination's guest can say its first byte.
        self.guest.attach(self.destination.console)
        self.migration.switch_over()
        self._until(lambda: self.migration.phase != SWITCHOVER)
        self.step = 'postcopy'
        # What the guest obeys here it surely does after the switchover, while
        # heartbeats may have waited in its console driver.
        self.guest.send(b'm')
        self._until(lambda: self.migration.phase == DONE)

    def _check_memory(self):
        """One whole pass over all memory, begun after the last page came."""
        self.step = 'check'
        marks = self.guest.log.marks
        count = len(marks)
        self.guest.send(b'm')
        self._until(lambda: len(marks) > count)
        start = marks[count]['n']

        def passed():
            last = self.guest.log.last_beat
            return last['n'] > start and last['since'] >= 1
        self._until(passed)
        self._look_for_errors()

    def _report(self):
        """Have the guest print a report now."""
        count = len(self.guest.log.complete_reports())
        self.guest.send(b'r')
        self._until(lambda: len(self.guest.log.complete_reports()) > count)
        return self.guest.log.complete_reports()[count]

    def _stop(self):
        for qemu in (self.destination, self.source):
            if qemu is not None:
                qemu.stop()
        if self.guest is not None:
            self.guest.close()

    # --- waiting -------------------------------------------------------------

    def _until(self, condition, limit=None, what=''):
        """Tick until @condition; with @limit, no longer than that (scaled)."""
        end = None
        if limit is not None:
            limit *= self.settings.patience
            end = time.monotonic() + limit
        while not condition():
            if end is not None and time.monotonic() > end:
                raise GuestError(f'{what} in {limit:.0f} s')
            self._tick()

    def _tick(self):
        before = time.monotonic()
        for qemu in (self.source, self.destination):
            if qemu is not None:
                qemu.check_alive()
        self._look_for_errors()
        self._follow_migration()
        self._follow_guest()
        self.view.draw(self)
        spent = time.monotonic() - before
        time.sleep(max(TICK - spent, 0.02))

    def _follow_migration(self):
        if self.migration is None or self.step == 'check':
            return
        self.progress = p = self.migration.poll()
        self._migration_still.see(p.time, (p.phase, p.sync_count, p.remaining,
                                           p.transferred))
        if p.phase in (POSTCOPY, DONE):
            self.fault_rate.add(p.time, faults_served(p))
            self.fault_samples.append((time.time(), faults_served(p)))

    def _follow_guest(self):
        beats = self.guest.log.beats
        for beat in beats[self._seen_beats:]:
            self.guest_rate.add(beat['ms'] / 1000, beat['verified'])
        self._seen_beats = len(beats)
        if self.checking:
            self._guest_still.see(time.monotonic(), self.guest.log.last_beat
                                  and self.guest.log.last_beat['verified'])

    def _look_for_errors(self):
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

    # --- the result ----------------------------------------------------------

    def _result(self, before, after):
        settings, times = self.settings, self.migration.times()
        if None in times.values():
            raise HarnessError('an event of the migration is missing: '
                               + str(times))
        info = self.source.command('query-migrate')
        counters = self.progress.userfault
        if settings.userfault != 'stock':
            check_counters(settings.userfault, counters)
        seconds = times['done'] - times['resumed']
        early = min(times['resumed'] + EARLY, times['done'])
        faults = faults_served(self.progress)
        touches = Histogram.from_guest(after.counts_since(before))
        beats, mark = self.guest.log.beats, self.guest.log.marks[0]
        return {
            'userfault': settings.userfault,
            # from the source's stop to the destination's start; what the
            # source itself measures ends when it has sent its part
            'stopped_ms': (times['resumed'] - times['switchover']) * 1e3,
            'source_downtime_ms': info['downtime'],
            'precopy_s': times['switchover'] - times['start'],
            'postcopy_s': times['done'] - times['switchover'],
            'precopy_passes': self.migration.passes,
            'left_at_switchover_bytes': self.migration.left_at_switchover,
            'transferred_bytes': info['ram']['transferred'],
            'faults': faults,
            'faults_per_s': faults / seconds,
            'early_faults_per_s': count_rate(self.fault_samples,
                                             times['resumed'], early),
            'requests': info['ram']['postcopy-requests'],
            'guest_latency': summary(touches.at_least(
                settings.guest.slow_us * 1000)),
            'guest_touches': touches.ranges,
            'vcpu_latency': latency(counters.get('latency')),
            'uffd_latency': latency(counters.get('userfaultfd-latency')),
            'guest_precopy_pages_per_s': throughput(
                beats[4], before.figures),
            'guest_postcopy_pages_per_s': throughput(
                mark, last_beat(beats, mark, until=times['done'])),
            'guest_early_pages_per_s': throughput(
                mark, last_beat(beats, mark, times['done'], EARLY)),
            'guest_gap_ms': largest_gap(beats) * 1e3,
            'guest_clock_gap_ms': after.figures['gap_ms'],
            'guest_clock_step_us': after.figures['step_us'],
            'guest_errors': self.guest.log.error_count(),
            'guest_verified': self.guest.log.last_beat['verified'],
            'counters': counters,
        }


def faults_served(progress):
    """Pages that came because somebody waited for them."""
    counters = progress.userfault
    if 'pages-vcpu' in counters:
        return counters['pages-vcpu'] + counters.get('pages-userfaultfd', 0)
    return progress.requests


def count_rate(samples, start, end):
    """
    Per second, of a count that is 0 at @start and of which (time, count)
    @samples were taken; up to the last sample before @end.  None without one.
    """
    inside = [(t, n) for t, n in samples if start < t <= end]
    return inside[-1][1] / (inside[-1][0] - start) if inside else None


def check_counters(userfault, counters):
    """The destination's figures are all there and fit @userfault."""
    missing = [name for name in COUNTERS if name not in counters]
    if missing:
        raise HarnessError('the destination does not count '
                           + ', '.join(missing))
    if counters['status'] != STATUS[userfault]:
        raise HarnessError(f'userfault={userfault} ended as '
                           f'{counters["status"]}: '
                           + counters.get('reason', 'no reason given'))
    through = f'{counters["exits"]} exits, {counters["pages-vcpu"]} pages'
    if userfault == 'on' and not (counters['exits']
                                  and counters['pages-vcpu']
                                  and counters['latency']['count']):
        raise HarnessError(f'no fault went through KVM userfault: {through}')
    if userfault == 'off' and (counters['exits'] or counters['pages-vcpu']):
        raise HarnessError(f'faults in spite of userfault=off: {through}')


def summary(histogram):
    """What a table needs of a Histogram, in nanoseconds."""
    return {'count': histogram.count, 'p50': histogram.percentile(50),
            'p99': histogram.percentile(99), 'max': histogram.max()}


def latency(counted):
    """The same of QEMU's own histogram; None where it counted nothing."""
    if not counted or not counted['count']:
        return None
    result = summary(Histogram.from_log2(counted['distribution']))
    # The buckets are wide, the maximum is exact.
    top = counted['max-ns']
    return {**{key: min(result[key], top) for key in ('p50', 'p99')},
            'count': counted['count'], 'max': top}


def throughput(first, last):
    """Pages verified per second of the guest's clock between two of its
    messages; None when there is no time between them."""
    ms = last['ms'] - first['ms']
    return (last['verified'] - first['verified']) / ms * 1e3 if ms > 0 else None


def last_beat(beats, mark, until=math.inf, within=math.inf):
    """
    The last heartbeat after @mark that arrived by @until (host clock) and
    lies within that many seconds of the guest's clock; @mark without one.
    """
    inside = [b for b in beats if b['time'] <= until
              and 0 <= b['ms'] - mark['ms'] <= within * 1e3]
    return inside[-1] if inside else mark


def largest_gap(beats):
    """The longest time, as seen from outside, between two heartbeats."""
    times = [b['time'] for b in beats]
    return max((b - a for a, b in zip(times, times[1:])), default=0.0)
