# SPDX-License-Identifier: GPL-2.0-or-later
"""What a row of the list of situations is, and what rows share.

A row (harness.rows) is a function of a Situation.  Rows stand in the modules
named in MODULES, in the order in which they run:

    @row('channels', 'without preempt')
    def without_preempt(s):
        ...

A Situation is one guest that verifies its memory (harness.moving) with a
policy of KVM userfault, and the checks that every row ends with.
"""

import shutil
import subprocess
from pathlib import Path

from harness import HarnessError, Missed
from harness.migration import MIB, MigrationSpec
from harness.moving import MovingGuest
from harness.qemu import GuestSpec
from harness.rows import Rows, Skip, check, reached    # noqa: F401  (for rows)

MODULES = ('channels', 'recovery', 'setup', 'waiting', 'slots', 'memory', 'others',
           'faults', 'urgent', 'peers')
ROWS = Rows()
row = ROWS.row
HERE = Path(__file__).resolve().parent


def refused(reason, function, *arguments, **named):
    """The call must fail, and say @reason."""
    try:
        function(*arguments, **named)
    except Missed:
        raise
    except HarnessError as error:
        check(reason in str(error), f'refused, but not with "{reason}": {error}')
    else:
        raise HarnessError(f'it was to be refused with "{reason}"')


FUTEX = '202'           # number of the system call
PARK_OPERATION = 0x80   # FUTEX_WAIT_PRIVATE
PARK_VALUE = 0          # a vCPU that waits expects that of its futex
CANCELLED = 60          # seconds until a migration is, in the end
HALTED = 'kvm_vcpu_block'       # where in the kernel an idle vCPU sleeps


def place_of(pid, thread):
    """(system call and arguments, where in the kernel) of a vCPU's thread"""
    task = Path(f'/proc/{pid}/task/{thread}')
    return ((task / 'syscall').read_text().split(),
            (task / 'wchan').read_text().strip())


def is_parked(call, _):
    """Whether that thread sleeps for a page in the service."""
    return (call[0] == FUTEX and int(call[2], 0) == PARK_OPERATION
            and int(call[3], 0) == PARK_VALUE)


def lacks_page(call, kernel):
    """Whether it sleeps for a page there or, where KVM itself writes into the
    guest (the time, say), in userfaultfd."""
    return is_parked(call, kernel) or kernel == 'handle_userfault'


class Waiting:
    """
    Where the vCPUs of @qemu were when it was last asked whether they wait for
    pages.  They need not all do so: one whose guest tasks wait for another
    vCPU is idle, or spins for what that one holds.
    """

    def __init__(self, qemu):
        self.qemu = qemu
        self.threads = qemu.threads()
        self.places = []

    def look(self):
        self.places = [place_of(self.qemu.process.pid, thread)
                       for thread in self.threads]

    @property
    def lacking(self):
        """Number of vCPUs that sleep for a page"""
        return sum(lacks_page(*place) for place in self.places)

    @property
    def others(self):
        """Number of vCPUs that do not"""
        return len(self.places) - self.lacking

    def settled(self):
        """A condition: at least one lacks a page, the others are idle."""
        self.look()
        return self.lacking and all(lacks_page(*place) or place[1] == HALTED
                                    for place in self.places)

    def __str__(self):
        return ', '.join(f'{kernel} in system call {" ".join(call[:1])}'
                         for call, kernel in self.places)


def preload(folder, name, **environment):
    """What puts @name.c into a QEMU, with an @environment that it looks at"""
    compiler = shutil.which('cc') or shutil.which('gcc')
    if not compiler:
        raise Skip('no C compiler')
    library = folder / f'{name}.so'
    subprocess.run([compiler, '-O1', '-shared', '-fPIC', '-o', library,
                    HERE / f'{name}.c'], check=True)
    return ['env', f'LD_PRELOAD={library}',
            *(f'{key}={value}' for key, value in environment.items())]


def preloaded(folder, mode):
    """What puts no-memory.c into a QEMU"""
    return preload(folder, 'no-memory', NO_MEMORY=mode)


def said(qemu, text):
    """How often it has been in the log"""
    return qemu.log.read_text(errors='replace').count(text)


def wanted(c):
    """Pages that came because somebody had asked, of counters"""
    return c['pages-vcpu'] + c['pages-readahead'] + c['pages-userfaultfd']


def asked_by_vcpus(c):
    """Pages that vCPUs have asked for, also ahead, of counters"""
    return c['requests'] + c['readahead-pages']


def small_guest(**changes):
    """A guest that boots fast and has something to verify."""
    settings = {'cpus': 2, 'memory_mib': 160, 'hot_mib': 16, 'slow_us': 200}
    settings.update(changes)
    return GuestSpec(**settings)


def begin_in_vain(s):
    """A migration that is cancelled, and its destination dropped"""
    s.begin(small_migration(bandwidth=MIB))
    s.go_on()
    migration = s.migration
    migration.cancel()
    s.drop_destination()
    s.until(migration.cancelled, CANCELLED, 'the migration was not cancelled')


def small_migration(**changes):
    """
    A migration of small_guest() that does not converge in precopy, whatever
    the bandwidth that QEMU estimates, and leaves the vCPUs enough to fault on.
    """
    settings = {'bandwidth': 24 * MIB, 'postcopy_bandwidth': 2 * MIB,
                'downtime_limit_ms': 10}
    settings.update(changes)
    return MigrationSpec(**settings)


class Situation(MovingGuest):
    """@policy: value of userfault= on the destination."""

    def __init__(self, folder, policy='on', patience=1.0, spec=None):
        super().__init__(Path(folder), spec or small_guest(), patience)
        self.policy = policy

    @property
    def accel_option(self):
        return f',userfault={self.policy}'

    def go_on(self, beats=3):
        """Until the guest has shown its heart beating @beats times more."""
        self.wait_for_beats(len(self.guest.log.beats) + beats)

    def start(self, source=(), destination=(), both=(), beats=4):
        """Boot the guest, and have a destination wait for it.
        @source, @destination, @both: further arguments of QEMU"""
        self.boot('', [*both, *source])
        self.prepare(self.accel_option, [*both, *destination])
        self.wait_for_beats(beats)

    def into_postcopy(self, spec=None, uri=None, source_uri=None, passes=1):
        """From the first precopy pass until the guest runs over there."""
        self.begin(spec or small_migration(), uri, source_uri)
        self.passes(passes)
        self.switch_over()

    def hurry(self):
        """From here on the background stream has no limit."""
        self.source.command('migrate-set-parameters',
                            max_postcopy_bandwidth=0)

    def conclude(self):
        """The last page, all of the guest's memory, the counters."""
        self.finish()
        self.check_memory()
        return self.check_counters()

    def whole(self, spec=None, uri=None, source_uri=None, passes=1):
        """A whole migration; its counters."""
        self.into_postcopy(spec, uri, source_uri, passes)
        return self.conclude()

    def check_moved(self):
        """The guest runs on the destination, and there alone."""
        self.migration = None
        self.watch(True)
        running = [qemu.command('query-status')['running']
                   for qemu in (self.source, self.destination)]
        check(running == [False, True],
              f'running at the source and at the destination: {running}')

    def check_counters(self):
        """The counters, after they have proved the way the faults took."""
        c = self.counters()
        said = (f'status {c.get("status")}, {c.get("exits")} exits, '
                f'{c.get("pages-vcpu")} pages by them, '
                f'{c.get("pages-userfaultfd")} by userfaultfd'
                + (f' ({c["reason"]})' if 'reason' in c else ''))
        if self.policy == 'on':
            check(c.get('status') == 'finished', 'KVM userfault was not used: ' + said)
            reached(c['exits'] and c['pages-vcpu'] and c['latency']['count'],
                    'KVM userfault served nothing: ' + said)
            self.check_requests(c)
        else:
            check(c.get('status') == 'off' and not c['exits'],
                  'KVM userfault was not to be used: ' + said)
            reached(c['pages-userfaultfd'], 'userfaultfd served nothing: ' + said)
        return c

    def check_requests(self, c):
        """No page was asked for twice, but for those that were asked for
        anew after a broken connection.  The source counts requests, of which
        those ahead of a vCPU may be for several pages.  One of these pages
        that comes by itself while it is being asked for, with nobody waiting
        for it, counts for the background stream: a few may.  The last page may
        be on its way when somebody asks for it, and the source be gone before
        it hears of that: one for each thread, or what it asks for ahead."""
        several = c['readahead-pages'] - c['readahead-requests']
        asked = self.progress.requests + several
        crossed = (c['readahead-pages'] + 99) // 100
        late = (self.spec.cpus + 1) * (8 if several or crossed else 1)
        check(wanted(c) - late <= asked <= wanted(c) + c['resent'] + crossed,
              f'{wanted(c)} pages were wanted, {c["resent"]} of them again, and '
              f'the source was asked for {asked}')
        used, dropped = c['readahead-used'], c['readahead-dropped']
        check(used + dropped <= c['readahead-pages'],
              f'{c["readahead-pages"]} pages were asked for ahead, {used} of '
              f'them used and {dropped} dropped')
