# SPDX-License-Identifier: GPL-2.0-or-later
"""Orders to what is preloaded into a QEMU (meddle.c): calls that fail, vCPUs that
are slow, bits that change."""

import errno
import mmap
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness import HarnessError

HERE = Path(__file__).resolve().parent

# As in meddle.c, in this order.
CALLS = ('copy', 'zero page', 'slot on', 'slot off', 'unregister', 'fault poll',
         'fault read', 'send', 'receive', 'park', 'vcpu poll', 'bitmap',
         'try alloc', 'prefault')
ORDER = struct.Struct('iiii16s')
COUNTS = struct.Struct(f'{len(CALLS)}Q')
KNOBS = ('slow_us', 'slow_one_in', 'set_again', 'clear_early')
FIGURES = ('slowed', 'bits_set', 'bits_set_noticed', 'bits_cleared',
           'bits_cleared_noticed')
SEEN = ORDER.size * len(CALLS)
FAILED = SEEN + COUNTS.size
KNOBS_AT = FAILED + COUNTS.size
FIGURES_AT = KNOBS_AT + 4 * len(KNOBS)
SIZE = FIGURES_AT + 8 * len(FIGURES)

# What comes of a failure.
NOTHING, PAUSE, FALLBACK, IN_PART = 'nothing', 'pause', 'fallback', 'in part'

# For an error: a part of the bytes is sent, or received.
PARTLY = -1


@dataclass(frozen=True)
class Failure:
    """
    A call that fails as the kernel may let it fail.

    times       how often in a row, at most
    done        after it has done its work
    side        of the QEMU whose calls these are
    outcome     NOTHING: QEMU does it again, or can do without.
                PAUSE: the migration is paused, and can be recovered.
                FALLBACK: userfaultfd serves all.  IN_PART: some memslots.
    """
    call: str
    error: int
    outcome: str = NOTHING
    times: int = 3
    done: bool = False
    side: str = 'destination'

    def __str__(self):
        return (f'{self.call} '
                + ('in part' if self.error == PARTLY else
                   errno.errorcode[self.error])
                + (' though done' if self.done else '')
                + (f' {self.times} times' if self.times > 3 else '')
                + (' at the source' if self.side == 'source' else ''))


# Before the switchover is over: nothing has been placed yet.
AT_START = (
    Failure('slot on', errno.ENOMEM, FALLBACK, 1),
    Failure('try alloc', errno.ENOMEM, FALLBACK, 1),
    Failure('bitmap', errno.ENOMEM, IN_PART),
)

LATER = (
    # No memory at the moment; the mapping is being changed.
    Failure('copy', errno.ENOMEM), Failure('zero page', errno.ENOMEM),
    Failure('copy', errno.EAGAIN), Failure('zero page', errno.EAGAIN),
    # Somebody else was faster, and brought the same.
    Failure('copy', errno.EEXIST, times=1, done=True),
    Failure('zero page', errno.EEXIST, times=1, done=True),
    # For a reason that does not pass by itself.
    Failure('copy', errno.EFAULT, PAUSE, 1),
    Failure('zero page', errno.EFAULT, PAUSE, 1),
    Failure('slot off', errno.ENOMEM),
    Failure('slot off', errno.ENOMEM, times=1 << 20),
    Failure('unregister', errno.ENOMEM, times=1),
    Failure('fault poll', errno.EINTR), Failure('fault read', errno.EINTR),
    Failure('fault read', errno.EAGAIN),
    Failure('park', errno.EINTR), Failure('park', errno.EAGAIN),
    # The vCPU comes to it by itself.
    Failure('prefault', errno.EINTR), Failure('prefault', errno.EOPNOTSUPP),
    Failure('prefault', errno.EOPNOTSUPP, times=1 << 20),
    Failure('vcpu poll', errno.EINTR), Failure('vcpu poll', errno.ENOMEM),
    *(Failure(call, error, outcome, times, side=side)
      for side in ('source', 'destination') for call in ('send', 'receive')
      for error, outcome, times in ((errno.EINTR, NOTHING, 3),
                                    (errno.EAGAIN, NOTHING, 3),
                                    (PARTLY, NOTHING, 50),
                                    (errno.ENOMEM, PAUSE, 1))),
)


def build(folder):
    """The library, in @folder"""
    compiler = shutil.which('cc') or shutil.which('gcc')
    if not compiler:
        raise HarnessError('no C compiler')
    library = Path(folder) / 'meddle.so'
    subprocess.run([compiler, '-O1', '-Wall', '-Wextra', '-Werror', '-shared',
                    '-fPIC', '-o', library, HERE / 'meddle.c'], check=True)
    return library


class Board:
    """What is shared with one QEMU, in the file @path.  The main thread's."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.write_bytes(bytes(SIZE))
        with open(self.path, 'r+b') as stream:
            self._map = mmap.mmap(stream.fileno(), SIZE)

    def close(self):
        self._map.close()

    def order(self, failure, countdown, times=1, thread=''):
        """
        The call of @failure fails when it is made for the @countdown-th time
        from now on, and so often in all.
        @thread: begin of the name of the threads whose calls count
        """
        at = CALLS.index(failure.call) * ORDER.size
        name = thread.encode()
        # Not before all else is in place does it count.
        for wanted in (0, times):
            ORDER.pack_into(self._map, at, countdown, wanted, failure.error,
                            failure.done, name)

    def withdraw(self):
        """No call fails any more."""
        self._map[:SEEN] = bytes(SEEN)
        for knob in KNOBS:
            self.set(knob, 0)

    def seen(self, call):
        """How often it was made"""
        return COUNTS.unpack_from(self._map, SEEN)[CALLS.index(call)]

    def failed(self, call):
        """How often it failed by an order"""
        return COUNTS.unpack_from(self._map, FAILED)[CALLS.index(call)]

    def set(self, knob, value):
        struct.pack_into('i', self._map, KNOBS_AT + 4 * KNOBS.index(knob), value)

    def figure(self, name):
        return struct.unpack_from('Q', self._map,
                                  FIGURES_AT + 8 * FIGURES.index(name))[0]
