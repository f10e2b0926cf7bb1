#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the soak draws, the way that breaks, and the calls that fail
(tests/situations/plans.py, faulty.py, meddle.py).

Needs neither KVM nor QEMU.
"""

import errno
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / 'situations')]

import footprint                                            # noqa: E402
import meddle                                               # noqa: E402
from faulty import MAIN, PREEMPT, FaultyRelay               # noqa: E402
from harness import HarnessError                            # noqa: E402
from plans import (ACTS, AT_START, CUT, EARLY, KINDS, LOSSES,  # noqa: E402
                   OF_A_SYSTEM, OF_OURS, WEIGHTS, Plan)


def many(count=300, **options):
    rng = random.Random('plans')
    return [Plan(rng, last=True, **options) for _ in range(count)]


class Plans(unittest.TestCase):
    def test_a_seed_gives_the_same_plan(self):
        for seed in range(50):
            one, other = (str(Plan(random.Random(seed))) for _ in range(2))
            self.assertEqual(one, other)

    def test_every_kind_is_drawn(self):
        plans = many()
        for kind in EARLY:
            self.assertTrue(any(plan.early == kind for plan in plans), kind)
        for kind in ACTS:
            self.assertTrue(any(act.kind == kind for plan in plans
                                for act in plan.acts), kind)
        for kind in LOSSES:
            self.assertTrue(any(plan.loss == kind for plan in plans), kind)
        self.assertTrue(any(plan.start for plan in plans))
        self.assertEqual(len(ACTS), len(WEIGHTS))

    def test_every_failure_is_drawn(self):
        drawn = {act.failure for plan in many(2000)
                 for act in [*plan.acts, plan.start] if act and act.failure}
        self.assertEqual(drawn, {*meddle.LATER, *meddle.AT_START})

    def test_each_kind_alone(self):
        for kind in KINDS:
            for plan in many(30, only=(kind,)):
                found = {plan.early, plan.loss, plan.start and AT_START,
                         CUT if plan.cuts else None,
                         *(act.kind for act in plan.acts)} - {None}
                self.assertEqual(found, {kind}, str(plan))

    def test_cuts_meet_each_direction_and_channel(self):
        found = {(cut.outward, cut.channel, cut.alone)
                 for plan in many() for cut in plan.cuts}
        for one in ((True, None, False), (False, None, False),
                    (True, MAIN, False), (True, MAIN, True), (False, MAIN, True),
                    (True, PREEMPT, True), (True, PREEMPT, False)):
            self.assertIn(one, found)
        self.assertFalse(any(channel == PREEMPT and not outward
                             for outward, channel, _ in found))

    def test_there_is_one_channel_without_preempt(self):
        for plan in many():
            if not plan.preempt:
                self.assertFalse(any(cut.channel == PREEMPT or cut.alone
                                     for cut in plan.cuts))
                self.assertFalse(any(act.channel == PREEMPT for act in plan.acts))

    def test_an_unmodified_qemu_is_not_meddled_with(self):
        for plan in many(ours=('source',)):
            self.assertIsNone(plan.start)
            self.assertFalse({act.kind for act in plan.acts} & set(OF_OURS))
            self.assertLess(len(plan.cuts), 2)
        for plan in many(ours=('destination',)):
            self.assertLess(len(plan.cuts), 2)
            self.assertFalse(any(act.failure and act.side == 'source'
                                 for act in plan.acts))

    def test_short_ones_have_all_but_what_needs_a_system(self):
        plans = many(short=True)
        found = {act.kind for plan in plans for act in plan.acts}
        self.assertEqual(found, set(ACTS) - set(OF_A_SYSTEM))
        self.assertLess(max(act.at for plan in plans for act in plan.acts), 1)
        self.assertTrue(any(plan.cuts for plan in plans))

    def test_what_may_break_the_way(self):
        for plan in many():
            self.assertEqual(plan.may_pause, bool(plan.cuts) or any(
                act.kind == 'pause' or act.failure
                and act.failure.outcome == meddle.PAUSE for act in plan.acts))


class Echo:
    """Takes connections, and keeps what comes; a context manager."""

    def __init__(self):
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        self.taken, self.received = [], {}
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            number = len(self.taken)
            self.received[number] = b''
            self.taken.append(sock)
            threading.Thread(target=self._read, args=(number, sock),
                             name=f'read {number}', daemon=True).start()

    def _read(self, number, sock):
        while True:
            try:
                data = sock.recv(1 << 16)
            except OSError:
                return
            if not data:
                return
            self.received[number] += data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for sock in (self.listener, *self.taken):
            sock.close()


class Way(unittest.TestCase):
    def setUp(self):
        self.echo = self.enterContext(Echo())
        self.relay = self.enterContext(FaultyRelay())
        self.relay.target = self.echo.port
        self.channels = []
        for number in (MAIN, PREEMPT):
            self.channels.append(self.enterContext(
                socket.create_connection(('127.0.0.1', self.relay.port))))
            self.until(lambda: len(self.echo.taken) > number)

    def until(self, condition):
        end = time.monotonic() + 10
        while not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def is_closed(self, channel):
        self.channels[channel].settimeout(10)
        return self.channels[channel].recv(1) == b''

    def test_all_is_cut_at_a_byte(self):
        self.relay.cut_after(True, 10)
        self.channels[MAIN].sendall(bytes(25))
        self.assertTrue(self.is_closed(MAIN) and self.is_closed(PREEMPT))
        self.until(lambda: self.echo.received[MAIN] == bytes(10))
        self.assertFalse(self.relay.armed)

    def test_bytes_of_one_channel_count(self):
        self.relay.cut_after(True, 10, PREEMPT)
        self.channels[MAIN].sendall(bytes(25))
        self.until(lambda: len(self.echo.received[MAIN]) == 25)
        self.assertTrue(self.relay.armed)
        self.channels[PREEMPT].sendall(bytes(25))
        self.assertTrue(self.is_closed(MAIN) and self.is_closed(PREEMPT))

    def test_one_channel_is_cut_alone(self):
        self.relay.cut_after(True, 10, PREEMPT, alone=True)
        self.channels[PREEMPT].sendall(bytes(25))
        self.assertTrue(self.is_closed(PREEMPT))
        self.channels[MAIN].sendall(b'still there')
        self.until(lambda: self.echo.received[MAIN] == b'still there')
        # One may still find out any moment.
        self.assertTrue(self.relay.armed)
        self.relay.cut()
        self.assertFalse(self.relay.armed)

    def test_who_sends_to_nobody_hears_of_it(self):
        self.channels[MAIN].sendall(b'there')
        self.until(lambda: self.echo.received[MAIN] == b'there')
        linger = struct.pack('ii', 1, 0)            # closed with a reset
        self.echo.taken[MAIN].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                         linger)
        self.echo.taken[MAIN].shutdown(socket.SHUT_RD)
        self.until(lambda: not any(
            thread.name.startswith('read 0') for thread in threading.enumerate()))
        self.echo.taken[MAIN].close()
        self.channels[MAIN].settimeout(5)
        with self.assertRaises(ConnectionError):
            for _ in range(1000):
                self.channels[MAIN].send(bytes(1 << 16))
                time.sleep(0.01)

    def test_a_channel_that_is_not_read_fills_up(self):
        self.relay.stall(True, MAIN, 60)
        self.channels[MAIN].setblocking(False)
        with self.assertRaises(BlockingIOError):
            for _ in range(10000):
                self.channels[MAIN].send(bytes(1 << 16))
        self.channels[PREEMPT].sendall(b'overtakes')
        self.until(lambda: self.echo.received[PREEMPT] == b'overtakes')
        self.assertEqual(self.relay.passed[True, PREEMPT], 9)
        self.assertEqual(self.relay.passed[True, MAIN], 0)
        self.relay.disarm()
        self.until(lambda: self.relay.passed[True, MAIN])


# The library is loaded into this, which calls what is asked for.
CALLER = '''
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
ctypes.CDLL(None).prctl(15, sys.argv[1].encode())
COPY, ZERO, UNREGISTER, SLOT, PREFAULT = map(
    ctypes.c_ulong, (0xc028aa03, 0xc020aa04, 0x8010aa01, 0x40a0ae49,
                    0xc040aed5))
libc.mmap64.restype = ctypes.c_void_p
libc.syscall.argtypes = [ctypes.c_long] * 7
region = lambda flags: (ctypes.c_uint64 * 20)(flags << 32, 0, 4096)
calls = {
    'copy': lambda: libc.ioctl(-1, COPY, bytes(64)),
    'zero page': lambda: libc.ioctl(-1, ZERO, bytes(64)),
    'unregister': lambda: libc.ioctl(-1, UNREGISTER, bytes(64)),
    'slot on': lambda: libc.ioctl(-1, SLOT, region(8)),
    'slot off': lambda: libc.ioctl(-1, SLOT, region(0)),
    'fault poll': lambda: libc.poll(None, 2, 0),
    'vcpu poll': lambda: libc.poll(None, 1, 0),
    'fault read': lambda: libc.read(-1, None, 32),
    'send': lambda: libc.sendmsg(-1, None, 0),
    'receive': lambda: libc.recvmsg(-1, None, 0),
    'park': lambda: libc.syscall(202, 0, 128, 1, 0, 0, 0),
    'prefault': lambda: libc.ioctl(-1, PREFAULT, bytes(64)),
    'bitmap': lambda: libc.mmap64(None, 100, 3, 0x22, -1, 0) or 0,
}
for name in sys.argv[2:]:
    ctypes.set_errno(0)
    calls[name]()
    print(ctypes.get_errno())
'''


class Calls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.library = meddle.build(cls.folder)

    def setUp(self):
        self.board = meddle.Board(self.folder / 'board')
        self.addCleanup(self.board.close)

    def errors(self, *calls, thread='CPU 0/KVM'):
        """errno after each of @calls"""
        done = subprocess.run(
            [sys.executable, '-c', CALLER, thread, *calls], check=True,
            stdout=subprocess.PIPE, text=True,
            env={**os.environ, 'LD_PRELOAD': str(self.library),
                 'MEDDLE': str(self.board.path)})
        return [int(line) for line in done.stdout.split()]

    def test_the_nth_call_fails_and_so_many_after_it(self):
        self.board.order(meddle.Failure('copy', errno.ENOMEM), 3, 2)
        self.assertEqual(self.errors(*['copy'] * 6),
                         [errno.EBADF, errno.EBADF, errno.ENOMEM, errno.ENOMEM,
                          errno.EBADF, errno.EBADF])
        self.assertEqual((self.board.seen('copy'), self.board.failed('copy')),
                         (6, 2))

    def test_each_call_fails_by_its_own_order(self):
        threads = {'fault poll': 'mig/dst/fault', 'fault read': 'mig/dst/fault'}
        names = set(meddle.CALLS) - {'try alloc'}
        for name in sorted(names):
            self.board.withdraw()
            self.board.order(meddle.Failure(name, errno.EUCLEAN), 1)
            thread = threads.get(name, 'CPU 0/KVM')
            others = sorted(it for it in names - {name})
            with self.subTest(name):
                self.assertEqual(self.errors(name, thread=thread),
                                 [errno.EUCLEAN])
                self.board.order(meddle.Failure(name, errno.EUCLEAN), 1)
                self.assertNotIn(errno.EUCLEAN,
                                 self.errors(*others, thread=thread))

    def test_nothing_fails_without_an_order(self):
        self.board.order(meddle.Failure('send', errno.ENOMEM), 1)
        self.board.withdraw()
        self.assertEqual(self.errors('send', 'receive'), [errno.EBADF] * 2)

    def test_only_threads_that_are_named(self):
        self.board.order(meddle.Failure('send', errno.ENOMEM), 1,
                         thread='mig/src')
        self.assertEqual(self.errors('send'), [errno.EBADF])
        self.assertEqual(self.errors('send', thread='mig/src/main'),
                         [errno.ENOMEM])

    def test_other_threads_of_qemu_are_left_alone(self):
        for name in ('send', 'receive', 'vcpu poll', 'fault poll', 'park'):
            self.board.order(meddle.Failure(name, errno.EUCLEAN), 1)
            self.assertNotIn(errno.EUCLEAN, self.errors(name, thread='qemu-main'))


class Excuses(unittest.TestCase):
    def check(self, leaks, files, seen=1):
        """The first destination leaves @files behind."""
        class Print(footprint.Footprint):
            def __init__(self, files):
                self.files = footprint.Counter(files) + footprint.WITH_THE_GUEST
                self.threads = footprint.Counter()
                self.memory, self.bitmaps, self.bitmaps_seen = 0, 0, seen
        before = Print({})
        before.files -= footprint.WITH_THE_GUEST
        leaks.history.insert(0, [before, Print(files)])
        leaks.check()

    def test_what_is_excused_and_nothing_else(self):
        leaks = footprint.Leaks()
        leaks.excused[1] = {'kvm-vcpu'}
        self.check(leaks, {'anon_inode:kvm-vcpu:': 1})
        for excused, files, seen in (({'kvm-vcpu'}, {'socket:': 1}, 1),
                                     ({}, {'anon_inode:kvm-vcpu:': 1}, 1),
                                     ({'kvm-vcpu'}, {}, 0)):
            leaks = footprint.Leaks()
            leaks.excused[1] = excused
            with self.assertRaises(HarnessError):
                self.check(leaks, files, seen)


if __name__ == '__main__':
    unittest.main()
