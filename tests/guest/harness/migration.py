# SPDX-License-Identifier: GPL-2.0-or-later
"""A source, a destination and the way from one to the other.

    start()         precopy runs
    switch_over()   the guest goes on at the destination, memory follows
    pause()         break the channel; recover() mends it
    cancel()        before the switchover
    poll()          where it is now; call it a few times per second

Times of phases come from QEMU's events, which carry the host's clock, so that
a slow poll does not blur them.
"""

import time
from dataclasses import dataclass, field

from . import HarnessError, Missed
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
    parameters: dict = field(default_factory=dict)      # likewise
    source_parameters: dict = field(default_factory=dict)


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
    """
    Main thread only.  @uri, or @source_uri where the source has another name
    for the way.  A status in the set tolerated is not an error.
    """

    def __init__(self, source, destination, uri, spec=None, source_uri=None):
        self.source = source
        self.destination = destination
        self.uri = uri
        self.source_uri = source_uri or uri
        self.spec = spec or MigrationSpec()
        self.tolerated = set()
        self.phase = None
        # Events of earlier migrations of the same processes do not count.
        self._first = {qemu: len(qemu.read_events())
                       for qemu in (source, destination)}
        self.passes = 0         # whole passes of precopy
        self.left_at_switchover = 0     # bytes, as last seen before it

    def start(self):
        capabilities = ['events', 'postcopy-ram', *self.spec.capabilities]
        states = [{'capability': c, 'state': True} for c in capabilities]
        # The source may have it from when it was a destination, and would then
        # send pages over a channel that nobody reads.
        states.append({'capability': 'postcopy-preempt',
                       'state': self.spec.preempt})
        for qemu in (self.source, self.destination):
            qemu.command('migrate-set-capabilities', capabilities=states)
            if self.spec.parameters:
                qemu.command('migrate-set-parameters', **self.spec.parameters)
        self.source.command('migrate-set-parameters',
                            max_bandwidth=self.spec.bandwidth,
                            max_postcopy_bandwidth=self.spec.postcopy_bandwidth,
                            downtime_limit=self.spec.downtime_limit_ms,
                            **self.spec.source_parameters)
        self.destination.command('migrate-incoming', uri=self.uri)
        self.source.command('migrate', uri=self.source_uri)
        self.phase = PRECOPY

    def switch_over(self):
        self.source.command('migrate-start-postcopy')
        self.phase = SWITCHOVER

    def cancel(self):
        """The source keeps the guest; the destination ends."""
        self.tolerated.add('cancelled')
        self.source.command('migrate_cancel')

    def cancelled(self):
        """Whether that is done; HarnessError if the migration failed."""
        info = self.source.command('query-migrate')
        self._check(self.source, info)
        return info['status'] == 'cancelled'

    def tolerate_pause(self):
        """A broken channel is no failure from here until recovered()."""
        self.tolerated.add('postcopy-paused')

    def pause(self):
        """Break the channel; both sides end up in postcopy-paused."""
        self.tolerate_pause()
        self.source.command('migrate-pause')

    @staticmethod
    def _statuses(*qemus):
        return {qemu.command('query-migrate').get('status') for qemu in qemus}

    def paused(self):
        return (self._statuses(self.source, self.destination)
                == {'postcopy-paused'})

    def recovered(self):
        """Whether pages come again; a broken channel is then a failure."""
        good = (self._statuses(self.source, self.destination)
                <= {'postcopy-active', 'completed'})
        if good:
            self.tolerated.discard('postcopy-paused')
        return good

    def recover(self, uri, source_uri=None):
        """Go on over a new channel, once both sides are paused."""
        self.destination.command('migrate-recover', uri=uri)
        self.source.command('migrate', uri=source_uri or uri, resume=True)

    def _check(self, qemu, info):
        status = info.get('status')
        if status in FAILURES and status not in self.tolerated:
            raise HarnessError(f'migration {status} on the {qemu.name}: '
                               f'{info.get("error-desc", "no reason given")}')

    def event(self, qemu, name, **data):
        """The first event @name of @qemu in this migration, or None."""
        return qemu.find_event(name, self._first[qemu], **data)

    def completed(self, qemu):
        return self.event(qemu, 'MIGRATION', status='completed')

    def _advance(self):
        """Follow the phases by the events that have arrived."""
        if (self.phase == SWITCHOVER
                and self.event(self.destination, 'RESUME')):
            self.phase = POSTCOPY
        if (self.phase == POSTCOPY and self.completed(self.source)
                and self.completed(self.destination)):
            self.check_postcopy()
            self.phase = DONE

    def check_postcopy(self):
        """
        Missed if it was none: the last pass may have been the last of all before
        the switchover.
        """
        if not self.event(self.source, 'MIGRATION', status='postcopy-active'):
            raise Missed('precopy converged just before the switchover')

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
            raise Missed('precopy converged: the guest is too idle or the '
                         'link too fast for postcopy')
        if self.phase == DONE:
            # What was read above is from before the last page: read again.
            ram = self.source.command('query-migrate').get('ram', {})
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
            event = self.event(qemu, name, **data)
            return event_time(event) if event else None
        ends = [at(q, 'MIGRATION', status='completed')
                for q in (self.source, self.destination)]
        return {'start': at(self.source, 'MIGRATION', status='active'),
                'switchover': at(self.source, 'STOP'),
                'resumed': at(self.destination, 'RESUME'),
                'done': max(ends) if None not in ends else None}
