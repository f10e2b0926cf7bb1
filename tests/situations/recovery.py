# SPDX-License-Identifier: GPL-2.0-or-later
"""Pause and recover: the way between the two QEMUs is cut in the middle of
postcopy, while vCPUs wait for pages.

A way is cut() and then mend()ed, which gives the URIs to go on with, for the
destination and for the source.
"""

import socket
import threading
import time
from pathlib import Path

from faulty import MAIN, PREEMPT, FaultyRelay, Narrow
from harness.migration import MIB, POSTCOPY
from netlink import ADDRESSES, Link
from relay import Relay, free_port
from situation import (Waiting, asked_by_vcpus, begin_in_vain, check, is_parked, preload,
                       reached, row, said, small_guest, small_migration, wanted)
from tls import shared_key

SENDMSG = '46'      # number of the system call
LONG = 600          # seconds that nothing gets through
NOTICE = 60         # seconds until both sides know that the way is cut
SETTLE = 20         # seconds until vCPUs that lack pages have asked for them
ANSWER = 5          # seconds that the monitor may take
ENOUGH = 8 * MIB    # left to come, so that each vCPU lacks some of it
MOST = 33           # pages that a vCPU asks for at a fault, one and those ahead


def until_they_wait(s, qemu):
    """
    Until vCPUs of @qemu sleep for pages: all, as far as the guest lets them.
    Returns where they are.
    """
    waiting = Waiting(qemu)
    end = time.monotonic() + SETTLE * s.patience
    # Whoever spins for a lock of one that waits never settles.
    while not waiting.settled() and time.monotonic() < end:
        s.tick()
    reached(waiting.lacking, f'no vCPU waits: {waiting}')
    return waiting


class Socket:
    """A UNIX socket; the operator says migrate-pause."""

    def __init__(self, s):
        self.s = s
        self.number = 0

    def cut(self):
        self.s.migration.pause()

    def mend(self):
        self.number += 1
        uri = f'unix:{self.s.folder}/again{self.number}'
        return uri, uri


class Relayed:
    """TCP; both sides find their connections closed."""

    def __init__(self, s, relay):
        self.s = s
        self.relay = relay

    def cut(self):
        # One for each connection and side.
        expected = 4 if self.s.migration.spec.preempt else 2
        ends = self.relay.cut()
        check(ends == expected, f'{ends} sockets were open, not {expected}')

    def mend(self):
        self.relay.target = free_port()
        return (f'tcp:127.0.0.1:{self.relay.target}',
                f'tcp:127.0.0.1:{self.relay.port}')


class Linked:
    """TCP between network namespaces; nobody notices that the link is down
    until the operator says migrate-pause to both sides."""

    def __init__(self, s, link):
        self.s = s
        self.link = link
        self.port = 4000

    def cut(self):
        s = self.s
        self.link.cut()
        until_they_wait(s, s.destination)
        for qemu in (s.source, s.destination):
            status = qemu.command('query-migrate')['status']
            reached(status == 'postcopy-active',
                    f'the {qemu.name} noticed by itself: {status}')
        s.migration.pause()
        s.destination.command('migrate-pause')

    def mend(self):
        self.link.mend()
        self.port += 1
        uri = f'tcp:{ADDRESSES[1]}:{self.port}'
        return uri, uri


def interrupt(s, way):
    """
    Cut and mend once.  Returns the pages that vCPUs had asked for and not
    got, those that the vCPUs which did not wait could still ask for, and the
    pages that were then asked for anew.
    """
    m = s.migration
    reached(m.phase == POSTCOPY, f'there is nothing to cut in {m.phase}')
    s.watch(False)
    m.tolerate_pause()
    way.cut()
    s.until(m.paused, NOTICE, 'the two sides were not paused')
    left = s.source.command('query-migrate')['ram']['remaining']
    reached(left >= ENOUGH, f'only {left} bytes were left for vCPUs to wait for')
    waiting = until_they_wait(s, s.destination)
    before = s.counters()
    s.run_for(0.5)
    # Who did not wait may have come to; who did cannot have gone on.
    came = s.counters()['exits'] - before['exits']
    check(came <= waiting.others,
          f'a vCPU went on: {came} exits; before: {waiting}')
    m.recover(*way.mend())
    s.until(m.recovered, NOTICE, 'the migration did not recover')
    # Only then the destination asks.
    s.until(lambda: s.counters()['resent'] > before['resent'], NOTICE,
            'nothing was asked for anew')
    s.watch(True)
    again = s.counters()['resent'] - before['resent']
    more = MOST * waiting.others
    return asked_by_vcpus(before) - wanted(before), more, again


def cut_and_recover(s, way, times=1):
    """
    Any number of interruptions, then the end.  Each time all pages are asked
    for anew that are outstanding, and no others.  The counters of vCPUs alone
    do not tell how many that is: the fault thread asks too, now and then.
    """
    rounds = [interrupt(s, way) for _ in range(times)]
    # Nothing more to see here.
    s.source.command('migrate-set-parameters', max_postcopy_bandwidth=0)
    c = s.conclude()
    others = wanted(c) - asked_by_vcpus(c)
    for outstanding, more, again in rounds:
        check(max(outstanding, 1) <= again <= outstanding + more + others,
              f'{outstanding} requests of vCPUs were outstanding, {more} more '
              f'were possible, and {others} pages were asked for by '
              f'others, but {again} were asked for anew')
    check(c['resent'] == sum(again for *_, again in rounds),
          f'{c["resent"]} pages were asked for anew, not as seen: {rounds}')
    return c


def long_lasting(s, **changes):
    """The guest that moves has enough for some interruptions, also where an
    emulated machine takes seconds over each; its migration."""
    s.spec = small_guest(memory_mib=208, hot_mib=64)
    return small_migration(**changes)


def into_postcopy_by(s, relay, spec, **options):
    """@relay is between the two."""
    relay.target = free_port()
    s.into_postcopy(spec, f'tcp:127.0.0.1:{relay.target}',
                    f'tcp:127.0.0.1:{relay.port}', **options)


def with_relay(s, preempt, times, keys=None):
    spec = long_lasting(s, preempt=preempt)
    with Relay() as relay:
        if keys:
            s.start(source=keys.source, destination=keys.destination)
            spec.parameters.update(keys.parameters)
        else:
            s.start()
        into_postcopy_by(s, relay, spec)
        cut_and_recover(s, Relayed(s, relay), times)


def with_link(s, preempt, times):
    spec = long_lasting(s, preempt=preempt)
    with Link() as link:
        s.boot(prefix=link.prefix(0))
        s.prepare(s.accel_option, prefix=link.prefix(1))
        s.wait_for_beats()
        s.into_postcopy(spec, f'tcp:{ADDRESSES[1]}:4000')
        cut_and_recover(s, Linked(s, link), times)
        s.stop()


@row('recovery', 'migrate-pause, preempt, three times')
def pause_preempt(s):
    spec = long_lasting(s)
    s.start()
    s.into_postcopy(spec)
    cut_and_recover(s, Socket(s), 3)


@row('recovery', 'migrate-pause, no preempt', full=True)
def pause_no_preempt(s):
    spec = long_lasting(s, preempt=False)
    s.start()
    s.into_postcopy(spec)
    cut_and_recover(s, Socket(s))


@row('recovery', 'closed socket, preempt', full=True)
def closed_preempt(s):
    with_relay(s, True, 1)


@row('recovery', 'closed socket, no preempt, three times')
def closed_no_preempt(s):
    with_relay(s, False, 3)


@row('recovery', 'closed socket under TLS, preempt', full=True)
def closed_tls(s):
    with_relay(s, True, 1, shared_key(s.folder.parent / 'tls-key'))


@row('recovery', 'cut link, preempt, three times')
def link_preempt(s):
    with_link(s, True, 3)


@row('recovery', 'cut link, no preempt', full=True)
def link_no_preempt(s):
    with_link(s, False, 1)


# --- a recovery breaks, too -------------------------------------------------------

# The command "resume" in the stream, with the length of its data.
RESUME = b'\x08\x00\x09\x00\x00'
CHANNEL = 'postcopy_preempt_new_channel'


def begin_recovery(s, relay):
    relay.target = free_port()
    s.migration.recover(f'tcp:127.0.0.1:{relay.target}',
                        f'tcp:127.0.0.1:{relay.port}')


def recover_and_conclude(s, relay):
    begin_recovery(s, relay)
    s.until(s.migration.recovered, NOTICE, 'the migration did not recover')
    s.watch(True)
    s.conclude()


def break_recovery(s, relay, hold, interrupt_it):
    """
    A migration is cut and recovered in vain: hold() is called before, and
    interrupt_it() returns when it is as far as it shall come.  In the end all
    of the guest is there.
    """
    spec = long_lasting(s)
    s.start(destination=['-trace', CHANNEL])
    into_postcopy_by(s, relay, spec)
    m = s.migration
    s.watch(False)
    m.tolerate_pause()
    relay.cut()
    s.until(m.paused, NOTICE, 'the two sides were not paused')
    until_they_wait(s, s.destination)
    hold()
    begin_recovery(s, relay)
    interrupt_it()
    relay.cut()
    s.until(m.paused, NOTICE, 'the two sides were not paused again')
    # The first channel brings "resume" long before there is a second one.
    relay.slow = 2 * s.patience
    begin_recovery(s, relay)
    s.until(m.recovered, NOTICE, 'the migration did not recover')
    s.until(lambda: s.counters()['resent'], NOTICE, 'nothing was asked for anew')
    s.watch(True)
    s.hurry()
    s.conclude()


@row('recovery', 'cut again with both channels there')
def cut_with_both(s):
    """What is left of the first recovery is not taken for the second one's."""
    with Relay() as relay:
        def hold():
            relay.withhold = RESUME

        def interrupt_it():
            s.until(relay.withheld.is_set, NOTICE, 'nobody resumed')
            s.until(lambda: said(s.destination, CHANNEL) == 2, NOTICE,
                    'the second channel did not come')
            relay.withhold = None
        break_recovery(s, relay, hold, interrupt_it)


@row('recovery', 'cut again before the second channel is there')
def cut_with_one(s):
    """The destination does not wait for it for ever."""
    with Relay() as relay:
        def hold():
            relay.slow = NOTICE * s.patience

        def interrupt_it():
            s.until(lambda: s.destination.command('query-migrate')['status']
                    == 'postcopy-active', NOTICE, 'nobody resumed')
            check(said(s.destination, CHANNEL) == 1, 'the second channel came')
        break_recovery(s, relay, hold, interrupt_it)


class Crowd:
    """Somebody connects to @port, and goes, again and again; a context manager"""

    def __init__(self, port):
        self._port, self._over = port, False
        self._thread = threading.Thread(target=self._come_and_go, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over = True
        self._thread.join()

    def _come_and_go(self):
        while not self._over:
            try:
                # Where many wait to be accepted TCP would try again in a second.
                socket.create_connection(('127.0.0.1', self._port), 0.02).close()
            except OSError:
                time.sleep(0.001)


@row('recovery', 'others connect while the way breaks')
def others_connect(s):
    """They are not taken for another migration."""
    spec = long_lasting(s)
    s.boot('')
    # So that the destination takes its time between two channels.
    s.prepare(s.accel_option, prefix=preload(s.folder.parent, 'slow-shutdown',
                                             SLOW_SHUTDOWN=300000))
    s.wait_for_beats()
    with Relay() as relay:
        into_postcopy_by(s, relay, spec)
        m = s.migration
        s.watch(False)
        m.tolerate_pause()
        with Crowd(relay.target):
            relay.cut()
            s.until(lambda: said(s.destination, 'a connection is refused'),
                    NOTICE, 'nobody came at that time')
        # Whoever comes to a paused destination may be the source.
        s.until(m.paused, NOTICE, 'the two sides were not paused')
        s.hurry()
        recover_and_conclude(s, relay)


def break_at_the_end(s, break_it):
    """
    break_it(relay) is called when the first channel has been read, and pages that
    vCPUs wait for are on the second one, and on no other.
    """
    s.start(destination=['-trace', 'postcopy_recover_drain'])
    with FaultyRelay() as relay:
        into_postcopy_by(s, relay, small_migration())
        m = s.migration
        s.watch(False)
        m.tolerate_pause()
        relay.stall(True, PREEMPT, NOTICE * s.patience)
        until_they_wait(s, s.destination)
        s.hurry()
        s.until(lambda: not s.source.command('query-migrate')['ram']['remaining'],
                NOTICE, 'the background stream did not end')
        s.run_for(1)
        check(s.counters()['status'] == 'active', 'nobody waits any more')
        break_it(relay)
        relay.disarm()
        s.until(m.paused, NOTICE, 'the two sides were not paused')
        check(said(s.destination, 'postcopy_recover_drain') == 1,
              'the first channel was still being read')
        recover_and_conclude(s, relay)


@row('recovery', 'second channel breaks when the first has been read')
def breaks_at_the_end(s):
    break_at_the_end(s, lambda relay: relay.cut_channel(PREEMPT))


@row('recovery', 'migrate-pause when the first channel has been read')
def paused_at_the_end(s):
    """Of the destination, as if no end of the way were to be seen"""
    break_at_the_end(s, lambda _: s.destination.command('migrate-pause'))


FEW = MIB           # bytes that fit into TCP's buffers


@row('recovery', 'first channel breaks when the second has come to its end')
def breaks_after_the_end(s):
    """A source of such a machine says on the second one when it has sent all; a
    recovery sends more, on another one."""
    s.spec = small_guest(machine='pc-q35-7.2', cpu='qemu64')
    s.start(destination=['-trace', 'postcopy_recover_preempt_ended'])
    with FaultyRelay() as relay:
        into_postcopy_by(s, relay, small_migration())
        s.watch(False)
        s.migration.tolerate_pause()
        s.until(lambda: s.source.command('query-migrate')['ram']['remaining'] < FEW,
                NOTICE, 'the background stream did not come near its end')
        relay.stall(True, MAIN, NOTICE * s.patience)
        s.hurry()
        s.until(lambda: said(s.destination, 'postcopy_recover_preempt_ended'),
                NOTICE, 'the source did not say that it had sent all')
        until_they_wait(s, s.destination)
        relay.cut()
        relay.disarm()
        s.until(s.migration.paused, NOTICE, 'the two sides were not paused')
        recover_and_conclude(s, relay)


def is_stuck(qemu, thread):
    """Whether a @thread of it waits for room in a socket"""
    for task in Path(f'/proc/{qemu.process.pid}/task').iterdir():
        try:
            if (task / 'comm').read_text().strip() == thread:
                return ((task / 'syscall').read_text().split()[0] == SENDMSG
                        and (task / 'wchan').read_text() == 'wait_woken')
        except OSError:         # it has ended
            continue
    return False


def until_stuck(s, relay):
    """The preempt channel is not read any more, and the source cannot send."""
    end = time.monotonic() + NOTICE * s.patience
    while True:
        relay.stall(True, PREEMPT, LONG * s.patience)
        s.run_for(2)
        if is_stuck(s.source, 'mig/src/return'):
            return
        # The vCPUs have not asked for more than there is room for.
        reached(time.monotonic() < end, 'the source could send all')
        relay.disarm()
        s.run_for(1)


@row('recovery', 'migrate-pause while the source is stuck in a send')
def paused_when_stuck(s):
    """Nobody takes the pages of the preempt channel, more than buffers hold."""
    s.spec = small_guest(cpus=4, hot_mib=32, sequential=True)
    with Narrow(), FaultyRelay() as relay:
        s.start()
        into_postcopy_by(s, relay, small_migration(), passes=0)
        m = s.migration
        s.watch(False)
        m.tolerate_pause()
        until_stuck(s, relay)
        m.pause()
        s.until(m.paused, NOTICE, 'the two sides were not paused')
        relay.disarm()
        recover_and_conclude(s, relay)


@row('recovery', 'connection lost, after a migration that was cancelled')
def lost_after_cancel(s):
    """The preempt channel of that one, which machine types up to 7.2 make early, is
    not taken for the one of the recovery."""
    s.spec = small_guest(machine='pc-q35-7.2', cpu='qemu64')
    s.start(source=['-trace', 'postcopy_recover_forget_preempt'])
    begin_in_vain(s)
    s.prepare(s.accel_option)
    with Relay() as relay:
        into_postcopy_by(s, relay, small_migration())
        cut_and_recover(s, Relayed(s, relay), 1)
    reached(said(s.source, 'postcopy_recover_forget_preempt '),
            'the first migration had made no channel')


# --- the source is gone -----------------------------------------------------------

def timed(s, qemu, command, **arguments):
    """Its result; fails if it took longer than ANSWER."""
    start = time.monotonic()
    result = qemu.command(command, **arguments)
    took = time.monotonic() - start
    check(took < ANSWER * s.patience, f'{command} took {took:.1f} s')
    return result


def lose_source(s):
    """Kill it; returns the destination once that is paused, or Missed."""
    source, destination = s.source, s.destination
    s.watch(False)
    s.migration = s.source = None
    source.process.kill()
    source.process.wait()
    source.stop()

    def status():
        return destination.command('query-migrate')['status']
    s.until(lambda: status() in ('postcopy-paused', 'completed'), NOTICE,
            'the destination was not paused')
    reached(status() != 'completed', 'all pages had come before')
    return destination


@row('recovery', 'source killed')
def source_killed(s):
    spec = long_lasting(s)
    s.start()
    s.into_postcopy(spec)
    qemu = lose_source(s)
    waiting = until_they_wait(s, qemu)
    parked = sum(is_parked(*place) for place in waiting.places)
    # Inside KVM nothing but the page ends a wait, and "stop" waits for that.
    reached(parked == waiting.lacking, f'a vCPU waits in userfaultfd: {waiting}')
    before = s.counters()
    check(timed(s, qemu, 'query-status')['running'], 'it does not run')
    timed(s, qemu, 'stop')
    check(timed(s, qemu, 'query-status')['status'] == 'paused', 'not stopped')
    broken = (timed(s, qemu, 'query-migrate')['postcopy-userfault']['waits-broken']
              - before['waits-broken'])
    check(broken >= parked,
          f'{broken} of {parked} waits were broken by stop')
    check(len(timed(s, qemu, 'query-cpus-fast')) == s.spec.cpus, 'vCPUs missing')
    timed(s, qemu, 'cont')
    until_they_wait(s, qemu)
    start = time.monotonic()
    timed(s, qemu, 'quit')
    code = qemu.process.wait(ANSWER * s.patience)
    s.destination = None
    check(code == 0, f'it ended with {code} after {time.monotonic() - start:.1f} s')
