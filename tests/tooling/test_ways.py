#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Ways that break at a byte, and what counts as asked for twice
(tests/situations).  Needs neither KVM nor QEMU."""

import socket
import sys
import unittest
from pathlib import Path
from types import SimpleNamespace

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / 'situations'), str(TESTS / 'guest')]

from faulty import FaultyRelay                              # noqa: E402
from harness import HarnessError                            # noqa: E402
from situation import Situation                             # noqa: E402


def receive(sock):
    """Everything until the connection ends"""
    found = b''
    try:
        while data := sock.recv(65536):
            found += data
    except OSError:
        pass
    return found


class Relays(unittest.TestCase):
    def setUp(self):
        self.server = self.enterContext(socket.create_server(('127.0.0.1', 0)))
        self.relay = self.enterContext(FaultyRelay())
        self.relay.target = self.server.getsockname()[1]

    def ends(self):
        """(source's, destination's) of a new connection"""
        source = socket.create_connection(('127.0.0.1', self.relay.port))
        destination, _ = self.server.accept()
        for sock in (source, destination):
            sock.settimeout(5)          # a way that stays open is a failure
        return self.enterContext(source), self.enterContext(destination)

    def test_cut_at_the_byte(self):
        source, destination = self.ends()
        self.relay.cut_after(True, 100000)
        source.sendall(bytes(150000))
        self.assertEqual((len(receive(destination)), self.relay.cuts), (100000, 1))
        self.assertFalse(self.relay.armed)

    def test_cut_on_the_way_back(self):
        source, destination = self.ends()
        self.relay.cut_after(False, 0)
        destination.sendall(b'x')
        self.assertEqual(receive(source), b'')

    def test_one_byte_is_wrong(self):
        source, destination = self.ends()
        self.relay.garble_after(100, 255)
        source.sendall(bytes(1000))
        source.shutdown(socket.SHUT_WR)
        self.assertEqual(receive(destination),
                         bytes(100) + b'\xff' + bytes(899))
        self.assertTrue(self.relay.garbled)

    def test_disarmed_passes_all(self):
        source, destination = self.ends()
        self.relay.cut_after(True, 1)
        self.relay.garble_after(1, 255)
        self.relay.disarm()
        source.sendall(bytes(1000))
        source.shutdown(socket.SHUT_WR)
        self.assertEqual(receive(destination), bytes(1000))


class Requests(unittest.TestCase):
    """Of a guest with two vCPUs"""
    COUNTERS = {'pages-vcpu': 90, 'pages-readahead': 0, 'pages-userfaultfd': 10,
                'resent': 0, 'readahead-pages': 0, 'readahead-requests': 0,
                'readahead-used': 0, 'readahead-dropped': 0}

    def check(self, asked, **changes):
        it = SimpleNamespace(spec=SimpleNamespace(cpus=2),
                             progress=SimpleNamespace(requests=asked))
        Situation.check_requests(it, {**self.COUNTERS, **changes})

    def test_each_once(self):
        self.check(100)

    def test_one_twice(self):
        with self.assertRaises(HarnessError):
            self.check(101)

    def test_anew_after_a_break(self):
        self.check(101, resent=1)

    def test_one_too_late_for_each_thread(self):
        self.check(97)
        with self.assertRaises(HarnessError):
            self.check(96)


if __name__ == '__main__':
    unittest.main()
