# SPDX-License-Identifier: GPL-2.0-or-later
"""One migration of the verifying guest, from boot to a verdict.

The steps are those of Demonstration.run(); harness.moving makes them.
"""

import math
import os
import platform
import time
from collections import deque
from dataclasses import dataclass

import timeline
from harness import HarnessError, conditions
from harness.histogram import Histogram
from harness.migration import DONE, MIB, POSTCOPY, MigrationSpec
from harness.moving import MovingGuest
from harness.qemu import GuestSpec

RATE_WINDOW = 1.0               # seconds over which live rates are taken
EARLY = 5.0                     # seconds of postcopy in which most is missing

# The destination's counters without which the result would be a guess.
COUNTERS = ('status', 'exits', 'requests', 'pages-vcpu', 'pages-readahead',
            'pages-userfaultfd', 'pages-background', 'latency',
            'userfaultfd-latency')
STATUS = {'on': 'finished', 'off': 'off'}       # after a good run


@dataclass
class Settings:
    userfault: str              # 'on', 'off', or 'stock': a QEMU without it
    guest: GuestSpec
    migration: MigrationSpec
    passes: int = 2             # whole precopy passes before the switchover
    patience: float = 1.0
    corrupt: bool = False       # damage a byte, to see the verdict fail
    delay_us: int = 0           # of each packet; 0: over a UNIX socket
    huge: bool = False          # memory in huge pages


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


class Demonstration(MovingGuest):
    """Main thread only.  @view draws what Demonstration holds (view.py)."""

    def __init__(self, settings, folder, view):
        super().__init__(folder, settings.guest, settings.patience)
        self.settings = settings
        self.view = view
        self.step = 'boot'
        self.started = time.monotonic()
        self.fault_rate = Rate()
        self.fault_samples = []         # (host clock, faults served until then)
        self.guest_rate = Rate()
        self._seen_beats = 0

    # --- the steps -----------------------------------------------------------

    def run(self):
        """The result, as a dict for report.py; or HarnessError."""
        try:
            self.boot()
            option = ('' if self.settings.userfault == 'stock'
                      else f',userfault={self.settings.userfault}')
            self.prepare(option)
            self.wait_for_beats()
            self._precopy()
            before = self.report()
            self._postcopy()
            after = self.report()
            self.step = 'check'
            self.check_memory()
            return self._result(before, after)
        finally:
            self.stop()

    def _precopy(self):
        self.step = 'precopy'
        self.begin(self.settings.migration,
                   conditions.uri() if self.settings.delay_us else None)
        if self.settings.corrupt:
            self.guest.send(b'c', 0)
        self.passes(self.settings.passes)

    def _postcopy(self):
        self.step = 'switchover'
        self.switch_over()
        self.step = 'postcopy'
        # What the guest obeys here it surely does after the switchover, while
        # heartbeats may have waited in its console driver.
        self.guest.send(b'm')
        self.finish()

    def seen(self):
        p = self.progress
        if self.step == 'postcopy' and p and p.phase in (POSTCOPY, DONE):
            self.fault_rate.add(p.time, faults_served(p))
            self.fault_samples.append((time.time(), faults_served(p)))
        beats = self.guest.log.beats
        for beat in beats[self._seen_beats:]:
            self.guest_rate.add(beat['ms'] / 1000, beat['verified'])
        self._seen_beats = len(beats)
        self.view.draw(self)

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
            # for the page: how it went, and with what
            'times': timeline.relative(times),
            'guest_rates': timeline.throughput(beats, times),
            'fault_rates': timeline.fault_rates(self.fault_samples, times),
            'settings': figures_of(settings),
            'versions': self._versions(),
        }

    def _versions(self):
        qemu = self.destination.command('query-version')
        return {'qemu': '{major}.{minor}.{micro}'.format(**qemu['qemu'])
                        + f' {qemu["package"]}'.rstrip(),
                'kernel': platform.release(),
                'emulated': is_emulated(self.settings.guest.accel)}


def is_emulated(accel):
    """Whether the machine that was measured is itself an emulated one"""
    return 'TESTHOST' in os.environ or accel == 'tcg'


def figures_of(settings):
    """What somebody needs to know who wants to do it again."""
    guest, migration = settings.guest, settings.migration
    return {'cpus': guest.cpus, 'memory_mib': guest.memory_mib,
            'hot_mib': guest.hot_mib, 'slow_us': guest.slow_us,
            'delay_us': settings.delay_us, 'huge': settings.huge,
            'seed': guest.seed, 'passes': settings.passes,
            'preempt': migration.preempt,
            'bandwidth_mib': migration.bandwidth // MIB,
            'postcopy_bandwidth_mib': migration.postcopy_bandwidth // MIB}


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
