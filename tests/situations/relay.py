# SPDX-License-Identifier: GPL-2.0-or-later
"""A way between two QEMUs that a row can cut."""

import socket
import threading
import time


def free_port(address='127.0.0.1'):
    """A TCP port of @address nobody listens on."""
    with socket.socket() as sock:
        sock.bind((address, 0))
        return sock.getsockname()[1]


def close(sock):
    """Also ends the reads and writes of other threads on it."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    sock.close()


class Relay:
    """
    Passes TCP connections to its own port on to another one, on the loopback
    interface; cut() closes all that there are.  A context manager.

    withhold    bytes: who sends them is not heard any more
    withheld    an event: somebody has
    slow        seconds until a connection beside another one is passed on

    Threads: one accepts, two for each connection pass bytes on, all until
    their sockets are closed.
    """

    def __init__(self):
        self.target = None              # port; may change between connections
        self.withhold = None
        self.withheld = threading.Event()
        self.slow = 0
        self._open = []                 # sockets; under _lock
        self._cuts = 0                  # so far; under _lock
        self._lock = threading.Lock()
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port = self._listener.getsockname()[1]
        self._start(self._accept)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        close(self._listener)
        self.cut()

    def cut(self):
        """Close all connections; returns how many ends there were."""
        with self._lock:
            ends, self._open = self._open, []
            self._cuts += 1
        for sock in ends:
            close(sock)
        return len(ends)

    @staticmethod
    def _start(function, *arguments):
        threading.Thread(target=function, args=arguments, daemon=True).start()

    def _patient(self):
        """Wait beside another connection; whether that was not cut."""
        cuts, end = self._cuts, time.monotonic() + self.slow
        while self._open and time.monotonic() < end:
            time.sleep(0.02)
        return cuts == self._cuts

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._patient():
                close(near)
                continue
            try:
                far = socket.create_connection(('127.0.0.1', self.target))
            except OSError:
                close(near)
                continue
            if not self._take(near, far):
                close(near)
                close(far)
                continue
            with self._lock:
                self._open += [near, far]
            self._start(self._pass_on, near, far)
            self._start(self._pass_on, far, near)

    def _take(self, near, far):
        """Whether a connection is passed on"""
        return True

    def _count(self, source, data):
        """@source has sent @data."""

    def _pass_on(self, source, target):
        try:
            while True:
                data = source.recv(1 << 18)
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                self._count(source, data)
                if self.withhold and self.withhold in data:
                    self.withheld.set()
                    return
                target.sendall(data)
        except OSError:
            # The sender is to know that nobody reads.
            close(source)
