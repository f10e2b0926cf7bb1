# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls that fail, bits that change, a channel that breaks alone.

meddle.c, preloaded into the destination, does what is ordered.  The soak does
the same at random; here each is sure to happen, and what comes of it is known.
"""

import errno
import os

import meddle
from faulty import PREEMPT, FaultyRelay
from footprint import names
from harness.migration import MIB
from meddle import Board, Failure
from relay import free_port
from situation import (check, preloaded, reached, row, said, small_guest,
                       small_migration)

NOTICE = 60
LISTEN, FAST, VCPU = 'mig/dst/listen', 'mig/dst/preempt', 'CPU '


def prefix(s, board):
    """What puts meddle.c into a QEMU, beside what counts bitmaps"""
    env, preload, *others = preloaded(s.folder.parent, 'nothing')
    library = meddle.build(s.folder.parent)
    return [env, f'LD_PRELOAD={library}:{preload.partition("=")[2]}', *others,
            f'MEDDLE={board.path}']


def start(s, both=()):
    """A guest, and a destination with the board that is returned"""
    s.folder.parent.mkdir(parents=True, exist_ok=True)
    board = Board(s.folder.parent / f'{s.folder.name}.board')
    s.boot('', both)
    s.prepare(s.accel_option, both, prefix=prefix(s, board))
    s.wait_for_beats()
    return board


def order(board, call, error, countdown=1, times=1, done=False, thread=''):
    board.order(Failure(call, error, done=done), countdown, times, thread)


AGAIN = (('copy', errno.ENOMEM, 50, 20), ('zero page', errno.EAGAIN, 5, 20),
         ('fault poll', errno.EINTR, 1, 2), ('fault read', errno.EINTR, 1, 2),
         ('park', errno.EINTR, 20, 20), ('vcpu poll', errno.EINTR, 20, 20),
         ('prefault', errno.EINTR, 20, 20),
         ('send', errno.EAGAIN, 20, 2), ('receive', errno.EINTR, 20, 2))


@row('faults', 'calls that fail for a while')
def for_a_while(s):
    """Nobody notices: QEMU does them again."""
    board = start(s)
    for call, error, countdown, times in AGAIN:
        order(board, call, error, countdown, times)
    # Before any pass of precopy, so that pages of zeroes are missing, too.
    s.whole(small_migration(postcopy_bandwidth=8 * MIB), passes=0)
    for call, *_ in AGAIN:
        reached(board.failed(call), f'{call} did not fail')
        print(f'  {call}: {board.failed(call)} of {board.seen(call)} failed',
              flush=True)


# Exits of vCPUs from which KVM's page faults are told
EXITS = 300


def faults_of_exits(s):
    """KVM's page faults of vCPUs, for each exit because of an absent page"""
    def figures():
        stats = s.destination.command('query-stats', target='vcpu', providers=[
            {'provider': 'kvm', 'names': ['pf_taken']}])
        taken = [entry['value'] for vcpu in stats for entry in vcpu['stats']]
        reached(taken, 'KVM does not count page faults')
        return s.counters()['exits'], sum(taken)

    exits, taken = figures()
    s.until(lambda: s.counters()['exits'] >= exits + EXITS, NOTICE,
            'vCPUs do not leave for absent pages')
    now = figures()
    return (now[1] - taken) / (now[0] - exits)


@row('faults', 'a page that has come is mapped before the vCPU goes on')
def mapped_before(s):
    """So its vCPU leaves once for it; twice if KVM cannot do that."""
    board = start(s)
    # Nearly nothing comes by itself: such pages have a fault without an exit.
    s.into_postcopy(small_migration(bandwidth=MIB // 16,
                                    postcopy_bandwidth=MIB // 256), passes=0)
    once = faults_of_exits(s)
    order(board, 'prefault', errno.EOPNOTSUPP, times=1 << 30)
    twice = faults_of_exits(s)
    print(f'  {once:.2f} faults an exit, and {twice:.2f} when KVM could not map '
          'ahead', flush=True)
    # Those of pages that came by themselves are in both.
    check(twice - once > 0.5, 'KVM does not map ahead')
    s.hurry()
    s.conclude()


@row('faults', 'KVM does not come to an end with a page while a memslot is made')
def hangs_in_kvm(s):
    """Who makes the memslot waits for the vCPU, and kicks it."""
    board = start(s, ('-m', 'slots=1,maxmem=1G'))
    s.into_postcopy(small_migration(bandwidth=MIB // 16,
                                    postcopy_bandwidth=MIB // 256), passes=0)
    order(board, 'prefault', errno.EINTR, done=True)
    s.until(lambda: board.failed('prefault'), NOTICE, 'KVM mapped no page ahead')
    s.destination.command('object-add', qom_type='memory-backend-ram', id='late',
                          size=128 * MIB)
    s.destination.command('device_add', driver='pc-dimm', id='dimm', memdev='late')
    s.go_on()
    s.hurry()
    s.conclude()


@row('faults', 'a page that is there before it is placed')
def placed_before(s):
    """By somebody who did not wake those that wait for it."""
    board = start(s)
    for call in ('copy', 'zero page'):
        order(board, call, errno.EEXIST, 10, 200, done=True)
    s.whole(small_migration(postcopy_bandwidth=8 * MIB))
    reached(board.failed('copy') == 200, f'{board.failed("copy")} pages were there')


def recover(s, relay):
    """The migration has paused by itself, on both sides."""
    m = s.migration
    relay.cut()
    relay.target = free_port()
    m.recover(f'tcp:127.0.0.1:{relay.target}', f'tcp:127.0.0.1:{relay.port}')
    s.until(m.recovered, NOTICE, 'the migration did not recover')
    s.watch(True)


def over_relay(s, relay, breaks, paused=lambda: None):
    """
    A migration that pauses after breaks() was called, and recovers after
    paused()
    """
    relay.target = free_port()
    s.into_postcopy(small_migration(),
                    f'tcp:127.0.0.1:{relay.target}', f'tcp:127.0.0.1:{relay.port}')
    s.watch(False)
    s.migration.tolerate_pause()
    breaks()
    s.until(s.migration.paused, NOTICE, 'the two sides were not paused')
    paused()
    recover(s, relay)
    s.hurry()
    s.conclude()


def cannot_place(s, thread):
    board = start(s)
    with FaultyRelay() as relay:
        over_relay(s, relay, lambda: order(board, 'copy', errno.EFAULT,
                                           thread=thread))
    check(board.failed('copy') == 1, f'{board.failed("copy")} pages were not placed')
    check(said(s.destination, 'cannot place a page') == 1, 'it was not said')


@row('faults', 'a page that a vCPU was given cannot be placed')
def cannot_place_given(s):
    """It is sent again, once the migration has been recovered."""
    cannot_place(s, VCPU)


@row('faults', 'a page of the preempt channel cannot be placed', full=True)
def cannot_place_urgent(s):
    cannot_place(s, FAST)


@row('faults', 'a page of the main channel cannot be placed', full=True)
def cannot_place_background(s):
    cannot_place(s, LISTEN)


# Of a page, by which it is in place after no less than 1.8 s
TRIES = 900


@row('faults', 'the link is cut while a vCPU places its page')
def cut_while_placing(s):
    """The source learns of that page, and does not send it again."""
    board = start(s)
    with FaultyRelay() as relay:
        def breaks():
            order(board, 'copy', errno.EAGAIN, times=TRIES, thread=VCPU)
            s.until(lambda: board.failed('copy'), NOTICE, 'no vCPU placed a page')
            relay.cut()

        def paused():
            check(board.failed('copy') == TRIES, 'paused when the page had been '
                  f'tried {board.failed("copy")} times of {TRIES}')

        over_relay(s, relay, breaks, paused)
    check(not said(s.destination, 'cannot place a page'), 'a page came twice')


@row('faults', 'the preempt channel breaks alone')
def preempt_breaks(s):
    """Both sides notice, although the other channel is in order."""
    s.start()
    with FaultyRelay() as relay:
        over_relay(s, relay, lambda: relay.cut_channel(PREEMPT))


def status(qemu):
    return qemu.command('query-migrate')['status']


def boot_meddled(s):
    """A guest on a source with the board that is returned"""
    s.folder.parent.mkdir(parents=True, exist_ok=True)
    board = Board(s.folder.parent / f'{s.folder.name}.board')
    s.boot(prefix=prefix(s, board))
    return board


@row('faults', 'pages go out in parts when all have been sent')
def all_sent(s):
    """Up to machine types of 7.2 that is said on the channel of the pages, by
    another thread than the one that sends them."""
    s.spec = small_guest(machine='pc-q35-7.2', cpu='qemu64')
    board = boot_meddled(s)
    s.prepare(s.accel_option)
    s.wait_for_beats()
    s.into_postcopy(small_migration(postcopy_bandwidth=8 * MIB))
    s.until(lambda: s.source.command('query-migrate')['ram']['remaining'] < 4 * MIB,
            NOTICE, 'the background stream did not come near its end')
    order(board, 'send', meddle.PARTLY, 1, 1 << 20, thread='mig/src/return')
    s.conclude()
    reached(board.failed('send'), 'all pages went out whole')


@row('faults', 'the source cannot read the return path')
def source_is_deaf(s):
    """It pauses at the end: the guest runs on the destination, and there alone."""
    board = boot_meddled(s)
    s.prepare(s.accel_option)
    s.wait_for_beats()
    s.into_postcopy(small_migration(preempt=False))
    s.watch(False)
    s.migration.tolerate_pause()
    order(board, 'receive', errno.ENOMEM, thread='mig/src/return')
    s.until(lambda: board.failed('receive'), NOTICE, 'it could read')
    s.hurry()
    s.until(lambda: status(s.destination) == 'completed', NOTICE,
            'the destination did not get all pages')
    s.until(lambda: status(s.source) == 'postcopy-paused', NOTICE,
            'the source was not paused')
    s.check_moved()
    s.check_memory()


@row('faults', 'KVM has no memory to give bitmaps back')
def keeps_bitmaps(s):
    board = start(s)
    order(board, 'slot off', errno.ENOMEM, 3, 1 << 20)
    s.whole(small_migration(postcopy_bandwidth=8 * MIB))
    reached(board.failed('slot off'), 'all bitmaps were given back')
    check(said(s.destination, 'keeps its bitmap'), 'no warning')
    s.go_on()


@row('faults', 'a memslot cannot be unregistered')
def stays_registered(s):
    """It is when userfaultfd is closed, which must not be left out."""
    board = start(s)
    s.into_postcopy(small_migration(postcopy_bandwidth=8 * MIB))
    # Not that of the test whether the host has userfaultfd.
    order(board, 'unregister', errno.ENOMEM)
    s.conclude()
    reached(board.failed('unregister'), 'all were unregistered')
    files = names(f'/proc/{s.destination.process.pid}/fd', os.readlink)
    # The device of userfaultfd may be.
    check('anon_inode:[userfaultfd]' not in files, 'userfaultfd is still open')


@row('faults', 'bits are set again')
def set_again(s):
    """vCPUs leave for pages that are there, and just go on."""
    board = start(s)
    board.set('set_again', 2000)
    c = s.whole(small_migration(postcopy_bandwidth=8 * MIB))
    noticed = board.figure('bits_set_noticed')
    print(f'  {board.figure("bits_set")} bits set, {noticed} exits for them, '
          f'{c["already-present"]} counted', flush=True)
    reached(noticed > 20, f'{noticed} vCPUs left for them')
    check(c['already-present'] >= noticed - s.spec.cpus,
          f'{noticed} exits for pages that were there, and '
          f'{c["already-present"]} counted')


@row('faults', 'bits are cleared early')
def cleared_early(s):
    """vCPUs do not leave, and get their pages through userfaultfd."""
    board = start(s)
    board.set('clear_early', 2000)
    c = s.whole()
    noticed = board.figure('bits_cleared_noticed')
    print(f'  {board.figure("bits_cleared")} bits cleared, {noticed} faults for '
          f'them, {c["userfaultfd-latency"]["count"]} served', flush=True)
    reached(noticed > 20, f'{noticed} faults came through userfaultfd')
    check(c['userfaultfd-latency']['count'] >= noticed // 2,
          f'{noticed} faults came through userfaultfd, and '
          f'{c["userfaultfd-latency"]["count"]} were counted')


@row('faults', 'vCPUs are slow to ask')
def slow(s):
    """The page may be there before the vCPU gets to ask for it."""
    board = start(s)
    board.set('slow_us', 20000)
    board.set('slow_one_in', 2)
    s.whole(small_migration(postcopy_bandwidth=8 * MIB))
    reached(board.figure('slowed') > 50, f'{board.figure("slowed")} were slow')
