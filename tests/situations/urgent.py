# SPDX-License-Identifier: GPL-2.0-or-later
"""Further channels for urgent pages: agreed on, cut, refused, and not known."""

from pathlib import Path

from channels import loopback, ping_pong_times, quick
from footprint import Leaks
from memory import HELD, check_faults_in, guest_on
from peers import from_stock, stock_qemu, to_stock
from recovery import (NOTICE, Relayed, Socket, cut_and_recover, interrupt,
                      into_postcopy_by, long_lasting)
from relay import Relay, close
from situation import check, preloaded, reached, row, said
from sockets import is_connected, sends_at_once, tcp_sockets
from tls import shared_key

CHANNELS = 4
REFUSED = 'no further urgent channel'


def use(channels):
    """Arguments of a QEMU"""
    return ['-global', f'migration.postcopy-urgent-channels={channels}']


def threads(qemu, prefix):
    """Of the names of its threads, those that begin with @prefix"""
    names = []
    for path in Path(f'/proc/{qemu.process.pid}/task').iterdir():
        try:
            names.append((path / 'comm').read_text().strip())
        except OSError:                 # it has ended
            pass
    return sorted(name for name in names if name.startswith(prefix))


def until_used(s, channels=CHANNELS):
    s.until(lambda: s.counters()['urgent-channels'] == channels, NOTICE,
            f'{channels} channels did not come to be used')


def check_used(c, channels):
    check(c['urgent-channels'] == channels,
          f'{c["urgent-channels"]} channels were used, not {channels}')


def check_ended(s):
    """The destination's threads for them, when all has come"""
    left = threads(s.destination, 'mig/dst/urgent')
    check(not left, f'threads are left: {left}')


@row('urgent', 'four channels, unix socket')
def four(s):
    spec = long_lasting(s)
    s.start(both=use(CHANNELS))
    s.into_postcopy(spec)
    until_used(s)
    for qemu, side in ((s.source, 'src'), (s.destination, 'dst')):
        found = threads(qemu, f'mig/{side}/urgent')
        check(len(found) == CHANNELS - 1, f'{side}: threads {found}')
    c = s.conclude()
    check_used(c, CHANNELS)
    check_ended(s)


@row('urgent', 'four channels, tcp')
def four_tcp(s):
    """Each carries requests and pages, and none keeps them back."""
    spec = long_lasting(s)
    s.start(both=use(CHANNELS))
    with CountingRelay() as relay:
        into_postcopy_by(s, relay, spec)
        until_used(s)
        for qemu in (s.source, s.destination):
            sockets = [sock for sock in tcp_sockets(qemu) if is_connected(sock)]
            late = sum(not sends_at_once(sock) for sock in sockets)
            check(len(sockets) == 1 + CHANNELS,
                  f'the {qemu.name} has {len(sockets)} connections')
            # The destination sends nothing on the preempt channel.
            check(late <= (qemu is s.destination),
                  f'TCP keeps back what the {qemu.name} sends, on {late}')
            for sock in sockets:
                sock.close()
        s.conclude()
        passed = relay.passed[2:]
        print(f'  bytes out and back, of further channels: {passed}', flush=True)
        reached(len(passed) == CHANNELS - 1
                and all(out > 4096 < back * 1000 for out, back in passed),
                'not all of them were used')


@row('urgent', 'several blocks')
def several_blocks(s):
    """Each channel has a block of its own that it named last."""
    s.start(both=[*use(CHANNELS), *guest_on(s, 'memory-backend-ram',
                                            'memory-backend-ram', hot_mib=64)])
    s.into_postcopy(HELD, passes=0)
    until_used(s)
    check_faults_in(s, 'ram0', 'ram1', least=300)
    s.hurry()
    check_used(s.conclude(), CHANNELS)


@row('urgent', 'four channels, TLS')
def four_tls(s):
    spec = quick()
    keys = shared_key(s.folder.parent / 'tls-key')
    s.start(source=[*keys.source, *use(CHANNELS)],
            destination=[*keys.destination, *use(CHANNELS)])
    spec.parameters.update(keys.parameters)
    s.into_postcopy(spec, loopback())
    until_used(s)
    check_used(s.conclude(), CHANNELS)


@row('urgent', 'the smaller number counts')
def smaller(s):
    """As it does if it is the number of the other side."""
    s.start(source=use(8), destination=use(2))
    s.into_postcopy(quick())
    until_used(s, 2)
    check_used(s.conclude(), 2)


@row('urgent', 'only the source was told to', full=True)
def only_source(s):
    s.start(source=use(CHANNELS))
    check_used(s.whole(quick()), 1)


@row('urgent', 'only the destination was told to', full=True)
def only_destination(s):
    s.start(destination=use(CHANNELS))
    check_used(s.whole(quick()), 1)


@row('urgent', 'no preempt: one channel', full=True)
def no_preempt(s):
    s.start(both=use(CHANNELS))
    check_used(s.whole(quick(preempt=False)), 1)


@row('urgent', 'userfaultfd: one channel', full=True)
def userfaultfd(s):
    s.policy = 'off'
    s.start(both=use(CHANNELS))
    check_used(s.whole(quick()), 1)


@row('urgent', 'migrate-pause, three times')
def paused(s):
    """They are made anew, and nothing is asked for twice."""
    spec = long_lasting(s)
    s.start(both=use(CHANNELS))
    s.into_postcopy(spec)
    until_used(s)
    for _ in range(3):
        interrupt(s, Socket(s))
        s.until(lambda: len(threads(s.destination, 'mig/dst/urgent'))
                == CHANNELS - 1, NOTICE, 'they were not made anew')
    s.hurry()
    s.conclude()
    check_ended(s)


class CountingRelay(Relay):
    """Counts bytes by connection, [out, back]; can cut or refuse one alone."""

    def __init__(self):
        self.passed = []                # in the order of the connections
        self.limit = None               # connections that are accepted
        self._ends = []
        super().__init__()

    def cut_one(self, number):
        for sock in self._ends[number]:
            close(sock)

    def _take(self, near, far):
        if self.limit is not None and len(self.passed) >= self.limit:
            return False
        self.passed.append([0, 0])
        self._ends.append((near, far))
        return True

    def _count(self, source, data):
        for ends, counts in zip(self._ends, self.passed):
            if source in ends:
                counts[ends.index(source)] += len(data)


@row('urgent', 'one of them is cut')
def one_is_cut(s):
    """The others are closed, and all of them made anew by the recovery."""
    spec = long_lasting(s)
    s.start(both=use(CHANNELS))
    with CountingRelay() as relay:
        into_postcopy_by(s, relay, spec)
        until_used(s)

        class One(Relayed):
            def cut(self):
                """The last of those that are there"""
                relay.cut_one(len(relay.passed) - 1)
        cut_and_recover(s, One(s, relay), 2)
        reached(len(relay.passed) == 3 * (1 + CHANNELS),
                f'{len(relay.passed)} connections were made')
    check_ended(s)


@row('urgent', 'their connections come to nothing')
def come_to_nothing(s):
    """What there is goes on being used."""
    s.start(both=use(CHANNELS))
    with CountingRelay() as relay:
        relay.limit = 2
        into_postcopy_by(s, relay, quick())
        c = s.conclude()
    check_used(c, 1)


@row('urgent', 'from and to one guest, four times', full=True)
def ping_pong(s):
    """Nothing is left behind."""
    leaks = Leaks()
    prepare, boot = s.prepare, s.boot
    s.prepare = lambda accel, **more: prepare(accel, use(CHANNELS), **more)
    s.boot = lambda accel, **more: boot(accel, use(CHANNELS), **more)
    ping_pong_times(s, 4, lambda *_: leaks.moved(s), leaks.waiting,
                    preloaded(s.folder.parent, 'nothing'))
    leaks.check()


@row('urgent', 'from Debian 13 (10.0), which knows one', full=True)
def from_one(s):
    prepare = s.prepare
    s.prepare = lambda accel, **more: prepare(accel, use(CHANNELS), **more)
    check_used(from_stock(s, '10.0', preempt=True), 1)


@row('urgent', 'to Debian 13 (10.0), which knows one', full=True)
def to_one(s):
    stock_qemu('10.0')
    boot = s.boot
    s.boot = lambda accel, **more: boot(accel, use(CHANNELS), **more)
    to_stock(s, '10.0', preempt=True)
    check(not said(s.source, REFUSED), 'it tried to connect further channels')
