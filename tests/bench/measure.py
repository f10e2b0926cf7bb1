# SPDX-License-Identifier: GPL-2.0-or-later
"""One run of the benchmark: a guest migrates while it touches its memory.

The switchover comes at once, and the background stream is a trickle, so that
nearly every page is missing and comes because a vCPU waits for it.  After a
window of that, or when nearly all pages have come, the stream may run freely.

    source         window                         rest       destination
    all present    nothing present, then more     hurry      all present
    "before"       faults, latency, CPU time                 "after"

The first and the last are the limit: the same guest, the same touches, no
page missing.  Another limit is what the way delivers when nobody waits for
pages: the guest is stopped as soon as it runs there, and all of them are pushed.
"""

import time
from dataclasses import dataclass

from harness import HarnessError, conditions
from harness.histogram import Histogram
from harness.migration import DONE, POSTCOPY, MigrationSpec
from harness.moving import TICK, MovingGuest
from machine import number_list
from process import cpu_time

MIB = 1 << 20
# Bytes/s of the background stream.  What comes is more, but no limit makes it
# less: QEMU sends, and counts, no fewer than 32 pages at a time.
TRICKLE = 64 * 1024
NEARLY_ALL = 0.9                # of the hot pages have been asked for
LOOK_S = 1.0                    # between two looks, which take CPU time too
LIMIT_BEATS = 6                 # at each end, of which the first is left out
STATUS = {'on': 'finished', 'off': 'off'}


@dataclass
class Sample:
    """At one moment of the window"""
    time: float                 # the host's clock
    requests: int               # pages that the source was asked for, also ahead
    transferred: int            # bytes
    source: object              # CpuTime
    destination: object
    background: object          # pages; None if the destination cannot say
    exits: object = None        # of vCPUs; likewise


class Run(MovingGuest):
    """Main thread only."""

    def __init__(self, folder, case, mode, patience=1.0, window=6.0, **guest):
        super().__init__(folder, case.guest(**guest), patience)
        self.case = case
        self.mode = mode
        self.window = window
        self.samples = []       # the first is from before the window
        self.measuring = False
        self.versions = []      # of the QEMUs at both ends, at the end

    def run(self, corrupt=False):
        """Figures, {name: number or None}; or HarnessError."""
        try:
            source, destination = self.mode.binaries()
            self.boot(extra=self.mode.source_extra, binary=source)
            self.prepare(self.mode.accel, self.mode.extra, destination)
            if corrupt:
                self.guest.send(b'c')
            before = self._limit()
            self.begin(MigrationSpec(bandwidth=MIB, postcopy_bandwidth=TRICKLE),
                       conditions.uri() if self.case.network else None)
            first = self.report()
            self._sample()      # the destination has done nothing yet
            self.measuring = True
            self.switch_over()
            if self.mode.pushed:
                return self._push()
            self._measure()
            last = self.report()
            self._hurry()
            self.finish()
            after = self._limit()
            self._end()
            return self._figures(before, after, first, last)
        finally:
            self.stop()

    def _limit(self):
        """Beats between which no page is missing"""
        start = len(self.guest.log.beats)
        self.wait_for_beats(start + LIMIT_BEATS)
        return self.guest.log.beats[start + 1:]

    def _measure(self):
        end = time.monotonic() + self.window
        pages = self.case.hot_pages * NEARLY_ALL

        def enough():
            return (time.monotonic() > end or self.progress.phase == DONE
                    or self.samples[-1].requests >= pages)
        self.pause = LOOK_S
        self.until(enough)

    def _end(self):
        self.check_memory()
        self.versions = [qemu.command('query-version')
                         for qemu in (self.source, self.destination)]

    def _push(self):
        """All pages come by themselves; figures of that alone."""
        self.destination.command('stop')
        self._hurry()
        start, before = time.time(), self._pushed()
        self.watch(False)
        self.finish()
        pages = self.progress.userfault['pages-background'] - before
        self.destination.command('cont')
        self.watch(True)
        self._end()
        if pages <= 0:
            raise HarnessError('no page was pushed')
        return {'pushed_per_s': pages / (self.migration.times()['done'] - start)}

    def _pushed(self):
        info = self.destination.command('query-migrate')
        return info['postcopy-userfault']['pages-background']

    def _hurry(self):
        self.measuring = False
        self.pause = TICK
        self.source.command('migrate-set-parameters', max_postcopy_bandwidth=0)

    def _sample(self):
        p = self.progress
        self.samples.append(Sample(time.time(), pages_asked(p), p.transferred,
                                   cpu_time(self.source.process.pid),
                                   cpu_time(self.destination.process.pid),
                                   p.userfault.get('pages-background'),
                                   p.userfault.get('exits')))

    def seen(self):
        if self.measuring and self.progress.phase in (POSTCOPY, DONE):
            self._sample()

    # --- what comes out ------------------------------------------------------

    def timeline(self):
        """[s since the first sample, requests, bytes, background pages]"""
        first = self.samples[0]
        return [[round(s.time - first.time, 3), s.requests,
                 s.transferred - first.transferred, s.background]
                for s in self.samples]

    def _figures(self, before, after, first, last):
        times = self.migration.times()
        if None in times.values():
            raise HarnessError('an event of the migration is missing: '
                               + str(times))
        counters = self.progress.userfault
        check_counters(self.mode, counters)
        during = beats_between(self.guest.log.beats, times['resumed'],
                               self.samples[-1].time)
        return {**window_figures(self.samples, times['resumed']),
                **guest_figures(during, self.case.cpus),
                **limit_figures(before, after),
                **latency_figures(first, last, self.spec.slow_us),
                **counter_figures(counters),
                'downtime_ms': (times['resumed'] - times['switchover']) * 1e3,
                'last_page_s': times['done'] - times['resumed']}


def pages_asked(progress):
    """
    Pages that the source was asked for.  It counts requests itself, and some of
    those for pages ahead of a vCPU are for several.
    """
    counters = progress.userfault
    return (progress.requests + counters.get('readahead-pages', 0)
            - counters.get('readahead-requests', 0))


def check_counters(mode, counters):
    """HarnessError unless the faults took the way that is measured."""
    if mode.stock_destination and counters:
        raise HarnessError('the destination is no unmodified QEMU')
    if not mode.accel:
        return                  # nothing to choose from
    wanted = STATUS[mode.accel.rpartition('=')[2]]
    found = counters.get('status', 'unknown')
    if found != wanted:
        raise HarnessError(f'KVM userfault was to end as {wanted}, but is '
                           f'{found}: ' + counters.get('reason', 'no reason given'))
    served = counters['exits'] and counters['pages-vcpu']
    if bool(served) != (wanted == 'finished'):
        raise HarnessError(f'{counters["exits"]} exits and '
                           f'{counters["pages-vcpu"]} pages by them with '
                           f'status {found}')


def per(amount, number):
    """@amount / @number; None if there was no @number."""
    return amount / number if number else None


def window_figures(samples, resumed):
    """
    Of QEMU's and the kernel's counts.  The first of @samples was taken when
    the guest still ran on the source, and nothing on the destination.
    @resumed: when it began to run there, on the host's clock
    """
    first, last = samples[0], samples[-1]
    faults = last.requests - first.requests
    seconds = last.time - resumed
    if faults <= 0 or seconds <= 0:
        raise HarnessError('no page was asked for in the window')
    here = last.destination - first.destination
    there = last.source - first.source
    return {'window_s': seconds,
            'requests': faults,
            'requests_per_s': faults / seconds,
            'background_pages': last.background,
            'exits_per_page': None if last.exits is None
            else last.exits / faults,
            'wire_bytes': last.transferred - first.transferred,
            'wire_bytes_per_request':
                (last.transferred - first.transferred) / faults,
            'destination_cpu_us_per_request': here.total / faults * 1e6,
            'destination_host_cpu_us_per_request':
                (here.total - here.guest) / faults * 1e6,
            'source_host_cpu_us_per_request':
                (there.total - there.guest) / faults * 1e6}


def beats_between(beats, resumed, end):
    """
    Those that the guest sent from the destination, by @end.  The first one to
    arrive after it had @resumed may be one of the source's that was read late.
    """
    return [b for b in beats if resumed < b['time'] <= end][1:]


def rate(beats, value):
    """Per second of the guest's clock, between the first and last beat."""
    if len(beats) < 2 or beats[-1]['ms'] <= beats[0]['ms']:
        return None
    return ((value(beats[-1]) - value(beats[0]))
            / (beats[-1]['ms'] - beats[0]['ms']) * 1e3)


def guest_figures(beats, cpus):
    """As the guest sees the window"""
    each = [rate(beats, lambda beat, i=i: number_list(beat['slows'])[i])
            for i in range(cpus)]
    known = [value for value in each if value is not None]
    faults = sum(known) if known else None
    touches = rate(beats, lambda beat: beat['verified'])
    return {'faults_per_s': faults,
            'touches_per_fault': per(touches, faults) if known else None,
            'faults_per_s_per_vcpu': per(faults, cpus) if known else None,
            'faults_per_s_slowest_vcpu': min(known, default=None),
            'faults_per_s_fastest_vcpu': max(known, default=None),
            'touches_per_s': touches}


def limit_figures(before, after):
    return {f'touches_per_s_{name}': rate(beats, lambda beat: beat['verified'])
            for name, beats in (('before', before), ('after', after))}


def percentiles(name, histogram):
    """In us, of a histogram of ns"""
    def us(value):
        return None if value is None else value / 1e3
    return {**{f'{name}_p{percent}_us': us(histogram.percentile(percent))
               for percent in (50, 90, 99)},
            f'{name}_max_us': us(histogram.max())}


def latency_figures(first, last, slow_us):
    """Of touches that were faults, between two reports of the guest"""
    touches = Histogram.from_guest(last.counts_since(first))
    faults = touches.at_least(slow_us * 1000)
    return {'faults': faults.count, **percentiles('latency', faults)}


def counter_figures(counters):
    """Of the destination, after the last page; None where it has no such"""
    names = ('exits', 'flushes', 'pages-vcpu', 'pages-readahead',
             'pages-userfaultfd', 'readahead-pages', 'readahead-used',
             'readahead-dropped')
    found = {name.replace('-', '_'): counters.get(name) for name in names}
    for name, key in (('vcpu', 'latency'), ('uffd', 'userfaultfd-latency')):
        counted = counters.get(key, {})
        found.update(percentiles(name, Histogram.from_log2(
            counted.get('distribution', []))))
        if counted.get('count'):
            found[f'{name}_max_us'] = counted['max-ns'] / 1e3
    return found
