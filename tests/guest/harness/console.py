# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest says on its console (the protocol of tests/guest/console.h),
as one stream across the switchover.

The console of each QEMU is a socket.  While the guest runs on the source its
bytes come from there, afterwards from the destination; a line may be cut in
two by the switchover.  Since the source has stopped before the destination
starts, taking the source's bytes first puts the halves together again.
"""

import functools
import operator
import os
import selectors
import socket
import threading
import time

from .histogram import counts_between


def parse_values(words):
    """What follows the name, of the words of a line"""
    values = {}
    for word in words[1:]:
        if words[0] == 'hist':
            bucket, _, count = word.partition(':')
            values[int(bucket)] = int(count)
        else:
            key, _, value = word.partition('=')
            values[key] = int(value, 0) if value[:1].isdigit() else value
    return values


def parse_line(line):
    """
    (name, {key: int or str}) of one line, or None when it is damaged or no
    message.  Histogram lines give {bucket: count}.
    """
    body, mark, check = line.rpartition(b' *')
    if not mark:
        return None
    try:
        if functools.reduce(operator.xor, body, 0) != int(check, 16):
            return None
        words = body.decode('ascii').split()
    except ValueError:
        return None
    if not words:
        return None
    try:
        return words[0], parse_values(words)
    except ValueError:          # damaged in spite of its sum, a byte of 256
        return None


class GuestReport:
    """A report: the figures at one moment and the histogram until then."""

    def __init__(self, figures):
        self.figures = figures
        self.counts = {}
        self.complete = False

    def counts_since(self, earlier):
        return counts_between(earlier.counts, self.counts)


class GuestLog:
    """Everything that the guest said.  Fed by one thread; fields may be read
    from another one, lists only grow."""

    def __init__(self):
        self.ready = None
        self.beats = []         # dicts, with 'time', the host's clock
        self.marks = []
        self.chores = {}        # name: the figures of its last message
        self.notes = []         # of chores
        self.errors = []
        self.reports = []
        self.fatal = None
        self.damaged_lines = 0
        self._rest = b''

    def feed(self, data, now):
        *lines, self._rest = (self._rest + data).split(b'\n')
        for line in lines:
            self._take(line.rstrip(b'\r'), now)

    def _take(self, line, now):
        message = parse_line(line)
        if message is None:
            self.damaged_lines += bool(line)
            return
        name, values = message
        if name == 'ready':
            self.ready = values
        elif name == 'beat':
            self.beats.append({**values, 'time': now})
        elif name == 'chore':
            self.chores[values['name']] = values
        elif name == 'note':
            self.notes.append(values)
        elif name == 'mark':
            self.marks.append(values)
        elif name == 'error':
            self.errors.append(values)
        elif name == 'fatal':
            self.fatal = values
        elif name == 'report':
            self.reports.append(GuestReport(values))
        elif name == 'hist' and self.reports:
            self.reports[-1].counts.update(values)
        elif name == 'end' and self.reports:
            self.reports[-1].complete = True

    @property
    def last_beat(self):
        return self.beats[-1] if self.beats else None

    def complete_reports(self):
        return [r for r in self.reports if r.complete]

    def error_count(self):
        beat = self.last_beat
        return max(beat['errors'] if beat else 0, len(self.errors))


class GuestConsole:
    """
    Reads the consoles of one guest in a thread of its own, and sends
    commands to it.  attach() the source's console first.
    """

    def __init__(self, transcript=None):
        """@transcript: path of a file that gets every byte, or None"""
        self.log = GuestLog()
        self._sockets = []
        self._selector = selectors.DefaultSelector()
        self._wake_r, self._wake_w = os.pipe()
        self._selector.register(self._wake_r, selectors.EVENT_READ)
        self._lock = threading.Lock()       # _sockets, _selector's set
        self._transcript = open(transcript, 'wb') if transcript else None
        self._closing = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def attach(self, path, limit=30):
        """Connect to the console socket at @path, which QEMU is making."""
        end = time.monotonic() + limit
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(path))
                break
            except OSError:
                sock.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        sock.setblocking(False)
        with self._lock:
            self._sockets.append(sock)
            self._selector.register(sock, selectors.EVENT_READ)
        os.write(self._wake_w, b'.')

    def send(self, command, side=-1):
        """Send one byte to the guest; side 0 is the source, -1 the last."""
        with self._lock:
            self._sockets[side].send(command)

    def close(self):
        self._closing = True
        os.write(self._wake_w, b'.')
        self._thread.join()
        for sock in self._sockets:
            sock.close()
        self._selector.close()
        os.close(self._wake_r)
        os.close(self._wake_w)
        if self._transcript:
            self._transcript.close()

    def _read(self):
        while not self._closing:
            self._selector.select()
            with self._lock:
                sockets = list(self._sockets)
            try:
                os.set_blocking(self._wake_r, False)
                os.read(self._wake_r, 64)
            except BlockingIOError:
                pass
            for side in range(len(sockets)):
                self._drain(sockets, side)

    def _drain(self, sockets, side):
        """
        Take all that @side has said.  Its bytes count only after those of
        the sides before it, which may have come in while it was read:

            source                destination         this thread
                                                      source: nothing
            "beat n=1 m"
                                  "s=250 ..."
                                                      destination: "s=250 ..."

        What the destination says was said after the source had stopped, so
        that looking at the source once more finds the first half.
        """
        while True:
            data = self._receive(sockets[side])
            if not data:
                return
            for earlier in range(side):
                self._drain(sockets, earlier)
            self.log.feed(data, time.time())
            if self._transcript:
                self._transcript.write(data)
                self._transcript.flush()

    def _receive(self, sock):
        """Bytes that are there, or b''; a closed connection is forgotten."""
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return b''
        except OSError:
            data = b''
        if not data:
            self._forget(sock)
        return data

    def _forget(self, sock):
        with self._lock:
            try:
                self._selector.unregister(sock)
            except KeyError:
                pass
