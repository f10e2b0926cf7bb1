# SPDX-License-Identifier: GPL-2.0-or-later
"""A way between two QEMUs that breaks at a byte, lies, takes its time, and stops
reading."""

import socket
import threading
import time
from collections import Counter
from pathlib import Path

from relay import Relay, close

# Channels, in the order in which they come; more of the last kind may follow.
MAIN, PREEMPT, FURTHER = 0, 1, 2
NAMES = ('main', 'preempt', 'further')

BUFFERS = [Path(f'/proc/sys/net/ipv4/tcp_{name}') for name in ('rmem', 'wmem')]
NARROW = '4096 16384 16384'     # bytes: smallest, usual, largest


class Narrow:
    """TCP's buffers are small; a context manager, which restores them."""

    def __enter__(self):
        self._before = [path.read_text() for path in BUFFERS]
        for path in BUFFERS:
            path.write_text(NARROW)

    def __exit__(self, *_):
        for path, text in zip(BUFFERS, self._before):
            path.write_text(text)


class FaultyRelay(Relay):
    """
    A Relay that can be told to cut itself after so many more bytes in one
    direction, over whichever connection they come or over a certain one, to
    hold up what it passes on, and not to take anything for a while.  "outward"
    is from the source to the destination; a channel is MAIN, PREEMPT or FURTHER.
    """

    def __init__(self):
        self._budget = {}       # (outward, channel or None): bytes until the cut
        self._alone = set()     # of those: only the channel is cut
        self._budget_lock = threading.Lock()
        self.delay = {True: 0.0, False: 0.0}    # seconds for each read
        self.cuts = 0                   # made because a budget was spent
        self.broken = False             # one channel was cut alone
        self.passed = Counter()         # (outward, channel): bytes
        self._stalled = {}              # (outward, channel): until when
        self._garble = None             # outward bytes until one is changed
        self._garble_to = 0
        super().__init__()

    def cut_after(self, outward, count, channel=None, alone=False):
        """
        One cut, in the middle of a message or not; @count may be 0.
        @channel: only the bytes of that one count, and
        @alone: only that one is cut
        """
        with self._budget_lock:
            self._budget[outward, channel] = count
            if alone:
                self._alone.add((outward, channel))

    def stall(self, outward, channel, seconds):
        """Take nothing of that direction of a channel for so long."""
        self._stalled[outward, channel] = time.monotonic() + seconds

    def garble_after(self, count, bits):
        """Change @bits (1 to 255) of one byte on its way to the destination."""
        with self._budget_lock:
            self._garble, self._garble_to = count, bits

    @property
    def garbled(self):
        """Whether that has been done"""
        return self._garble is None

    @property
    def armed(self):
        """Whether a cut may come at any byte, or is there on one channel"""
        return bool(self._budget) or self.broken

    def disarm(self):
        with self._budget_lock:
            self._budget.clear()
            self._alone.clear()
            self._stalled.clear()
            self._garble = None

    def cut(self):
        self.broken = False
        return super().cut()

    def cut_channel(self, channel):
        """Close both ends of one channel."""
        with self._lock:
            ends = self._open[2 * channel:2 * channel + 2]
            self.broken = bool(ends)
        for sock in ends:
            close(sock)

    def _garbled(self, data):
        with self._budget_lock:
            if self._garble is None:
                return data
            if self._garble >= len(data):
                self._garble -= len(data)
                return data
            data = bytearray(data)
            data[self._garble] ^= self._garble_to
            self._garble = None
            return data

    def _spend(self, outward, channel, count):
        """
        (bytes that still pass, what to cut after them); the latter is None, or
        a function.
        """
        with self._budget_lock:
            for key in ((outward, None), (outward, channel)):
                left = self._budget.get(key)
                if left is None:
                    continue
                if left >= count:
                    self._budget[key] = left - count
                    continue
                del self._budget[key]
                self.cuts += 1
                if key in self._alone:
                    self._alone.discard(key)
                    return left, lambda: self.cut_channel(channel)
                return left, self.cut
        return count, None

    def _wait_out(self, outward, channel):
        while time.monotonic() < self._stalled.get((outward, channel), 0):
            time.sleep(0.01)

    def _channel_of(self, sock):
        with self._lock:
            return self._open.index(sock) // 2 if sock in self._open else MAIN

    def _pass_on(self, source, target):
        try:
            outward = source.getsockname()[1] == self.port
            channel = self._channel_of(source)
            while True:
                self._wait_out(outward, channel)
                data = source.recv(1 << 16)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                # It may have been waiting for data when it was told.
                self._wait_out(outward, channel)
                time.sleep(self.delay[outward])
                if outward:
                    data = self._garbled(data)
                passing, cut = self._spend(outward, channel, len(data))
                target.sendall(data[:passing])
                self.passed[outward, channel] += passing
                if cut:
                    cut()
                    return
        except OSError:
            # As TCP itself has it: who sends to nobody hears of that.
            close(source)
            close(target)
