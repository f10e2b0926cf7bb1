# SPDX-License-Identifier: GPL-2.0-or-later
"""CPU time of a process, as the kernel of this machine counts it."""

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf('SC_CLK_TCK')
# Positions in /proc/PID/stat behind the name, which may hold anything.
USER, SYSTEM, GUEST = 11, 12, 40


@dataclass(frozen=True)
class CpuTime:
    """Seconds; all of its threads, those that have ended too."""
    total: float
    guest: float                # in the guest; part of the total

    def __sub__(self, earlier):
        return CpuTime(self.total - earlier.total, self.guest - earlier.guest)


def parse_stat(text):
    """CpuTime of the content of /proc/PID/stat."""
    fields = text.rpartition(')')[2].split()
    return CpuTime((int(fields[USER]) + int(fields[SYSTEM])) / TICKS_PER_S,
                   int(fields[GUEST]) / TICKS_PER_S)


def cpu_time(pid):
    return parse_stat(Path(f'/proc/{pid}/stat').read_text())
