# SPDX-License-Identifier: GPL-2.0-or-later
"""A source, a destination and the way from one to the other.

    start()         precopy runs
    switch_over()   the guest goes on at the destination, memory follows
    poll()          where it is now; call it a few times per second

Times of phases come from QEMU's events, which carry the host's clock, so that
a slow poll does not blur them.
"""

import time
from dataclasses import dataclass

from . import HarnessError
from .qemu import event_time

PRECOPY, SWITCHOVER, POSTCOPY, DONE = ('precopy', 'switchover', 'postcopy',
                                       'done')
MIB = 1 << 20
FAILURES = ('failed', 'cancelled', 'postcopy-paused')


@dataclass
class MigrationSpec:
    preempt: bool = True
    bandwidth: int = 64 * MIB           # bytes/s; 0: no limit
    postcopy_bandwidth: int = 4 * MIB   # background stream; 0: no limit
    downtime_limit_ms: int = 300
    capabilities: tuple = ()            # further ones, for both sides


@dataclass
class Progress:
    """What poll() saw."""
    time: float
    phase: str
    sync_count: int             # passes begun, as the source counts
    remaining: int              # bytes
    transferred: int            # bytes
    requests: int               # pages asked for, as the source counts
    userfault: dict             # the destination's postcopy-userfault or {}


class Migration:
    """Main thread only."""

    def __init__(self, source, destination, uri, spec=None):
        self.source = source
        self.destination = destination
        self.uri = uri
        self.spec = spec or MigrationSpec()
        self.phase = None
        self.passes = 0         # whole passes of precopy
        self.left_at_switchover = 0     # bytes, as last seen before it

    def start(self):
        capabilities = ['events', 'postcopy-ram', *self.spec.capabilities]
        if self.spec.preempt:
            capabilities.append('postcopy-preempt')
        states = [{'capability': c, 'state': True} for c in capabilities]
        for qemu in (self.source, self.destination):
            qemu.command('migrate-set-capabilities', capabilities=states)
        self.source.command('migrate-set-parameters',
                            max_bandwidth=self.spec.bandwidth,
                            max_postcopy_bandwidth=self.spec.postcopy_bandwidth,
                            downtime_limit=self.spec.downtime_limit_ms)
        self.destination.command('migrate-incoming', uri=self.uri)
        self.source.command('migrate', uri=self.uri)
        self.phase = PRECOPY

    def switch_over(self):
        self.source.command('migrate-start-postcopy')
        self.phase = SWITCHOVER

    def _check(self, qemu, info):
        status = info.get('status')
        if status in FAILURES:
            raise HarnessError(f'migration {status} on the {qemu.name}: '
                               f'{info.get("error-desc", "no reason given")}')

    def _advance(self):
        """Follow the phases by the events that have arrived."""
        if (self.phase == SWITCHOVER
                and self.destination.find_event('RESUME')):
            self.phase = POSTCOPY
        if (self.phase == POSTCOPY
                and self.source.find_event('MIGRATION', status='completed')
                and self.destination.find_event('MIGRATION',
                                                status='completed')):
            self.phase = DONE

    def poll(self):
        """Raises HarnessError when the migration has failed."""
        info = self.source.command('query-migrate')
        self._check(self.source, info)
        userfault = {}
        if self.phase in (SWITCHOVER, POSTCOPY):
            there = self.destination.command('query-migrate')
            self._check(self.destination, there)
            userfault = there.get('postcopy-userfault', {})
        self._advance()
        ram = info.get('ram', {})
        if self.phase == PRECOPY and info.get('status') == 'completed':
            raise HarnessError('precopy converged: the guest is too idle or '
                               'the link too fast for postcopy')
        if self.phase == DONE:
            there = self.destination.command('query-migrate')
            userfault = there.get('postcopy-userfault', {})
        progress = Progress(
            time=time.monotonic(), phase=self.phase,
            sync_count=ram.get('dirty-sync-count', 0),
            remaining=ram.get('remaining', 0) if self.phase != DONE else 0,
            transferred=ram.get('transferred', 0),
            requests=ram.get('postcopy-requests', 0), userfault=userfault)
        if self.phase == PRECOPY:
            # The first count is the one that precedes the first pass.
            self.passes = max(progress.sync_count - 1, 0)
            self.left_at_switchover = progress.remaining
        return progress

    def times(self):
        """
        Seconds on the host's clock, or None for what has not happened:
        start, switchover (source stopped), resumed (destination runs), done.
        """
        def at(qemu, name, **data):
            event = qemu.find_event(name, **data)
            return event_time(event) if event else None
        ends = [at(q, 'MIGRATION', status='completed')
                for q in (self.source, self.destination)]
        return {'start': at(self.source, 'MIGRATION', status='active'),
                'switchover': at(self.source, 'STOP'),
                'resumed': at(self.destination, 'RESUME'),
                'done': max(ends) if None not in ends else None}
