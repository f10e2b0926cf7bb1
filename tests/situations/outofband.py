# SPDX-License-Identifier: GPL-2.0-or-later
"""A second monitor, which answers while QEMU's main thread waits for a page.

The main thread, too, touches guest memory, and waits in userfaultfd for what is
not there.  On a broken channel it waits until the migration has been recovered,
which therefore has to be asked for out of band.
"""

import json
import socket

from harness import HarnessError

LIMIT = 60                      # seconds for an answer


class OutOfBand:
    """Main thread only; a context manager."""

    def __init__(self, path):
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.settimeout(LIMIT)
        self._sock.connect(str(path))
        self._stream = self._sock.makefile('rwb')
        self._stream.readline()         # the greeting
        self._ask({'execute': 'qmp_capabilities',
                   'arguments': {'enable': ['oob']}})

    @staticmethod
    def option(path):
        return ['-qmp', f'unix:{path},server=on,wait=off']

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()
        self._sock.close()

    def _ask(self, message):
        self._stream.write(json.dumps(message).encode() + b'\n')
        self._stream.flush()
        for line in self._stream:
            answer = json.loads(line)
            if 'event' not in answer:
                return answer
        raise HarnessError('the monitor for recovery is closed')

    def command(self, name, **arguments):
        """What is wrong, or ''."""
        answer = self._ask({'exec-oob': name, 'arguments': arguments, 'id': 1})
        return answer.get('error', {}).get('desc', '')
