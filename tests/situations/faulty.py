# SPDX-License-Identifier: GPL-2.0-or-later
"""A way between two QEMUs that breaks at a byte, lies, and takes its time."""

import socket
import threading
import time

from relay import Relay


class FaultyRelay(Relay):
    """
    A Relay that can be told to cut itself after so many more bytes in one
    direction, over whichever connection they come, and to hold up what it
    passes on.  "outward" is from the source to the destination.
    """

    def __init__(self):
        self._budget = {}               # outward: bytes until the cut
        self._budget_lock = threading.Lock()
        self.delay = {True: 0.0, False: 0.0}    # seconds for each read
        self.cuts = 0                   # made because a budget was spent
        self._garble = None             # outward bytes until one is changed
        self._garble_to = 0
        super().__init__()

    def cut_after(self, outward, count):
        """One cut, in the middle of a message or not; @count may be 0."""
        with self._budget_lock:
            self._budget[outward] = count

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
        """Whether a cut may come at any byte"""
        return bool(self._budget)

    def disarm(self):
        with self._budget_lock:
            self._budget.clear()
            self._garble = None

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

    def _spend(self, outward, count):
        """Bytes that still pass, less than @count if the cut comes now."""
        with self._budget_lock:
            left = self._budget.get(outward)
            if left is None:
                return count
            if left >= count:
                self._budget[outward] = left - count
                return count
            del self._budget[outward]
            self.cuts += 1
            return left

    def _pass_on(self, source, target):
        try:
            outward = source.getsockname()[1] == self.port
            while True:
                data = source.recv(1 << 16)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                time.sleep(self.delay[outward])
                if outward:
                    data = self._garbled(data)
                passing = self._spend(outward, len(data))
                target.sendall(data[:passing])
                if passing < len(data):
                    self.cut()
                    return
        except OSError:
            pass
