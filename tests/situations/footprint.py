# SPDX-License-Identifier: GPL-2.0-or-later
"""What a QEMU holds of the host, before and after it has been destination,
and after it has been source as well."""

import os
import re
from collections import Counter
from pathlib import Path

from harness import HarnessError

# With the guest comes a connection to its console.  QEMU opens the device of
# userfaultfd once, and KVM has a thread from the first KVM_RUN on.
WITH_THE_GUEST = Counter({'socket:': 1, 'userfaultfd': 1, 'kvm-nx-lpage-re': 1})
RSS_KIB = 4096              # memory that may come and go
MIB_KIB = 1024


def open_files():
    """Of the whole host, as the kernel counts"""
    return int(Path('/proc/sys/fs/file-nr').read_text().split()[0])


def memory_kib(pid, but_mib):
    """Memory in RAM without the one mapping of @but_mib MiB, the guest's"""
    total = size = 0
    for line in Path(f'/proc/{pid}/smaps').read_text().splitlines():
        word, _, rest = line.partition(':')
        if word == 'Size':
            size = int(rest.split()[0])
        elif word == 'Rss' and size != but_mib * MIB_KIB:
            total += int(rest.split()[0])
    return total


def names(folder, name_of):
    """How many of each name there are in a folder of /proc"""
    found = Counter()
    for entry in Path(folder).iterdir():
        try:
            # Numbers of sockets and of the like tell nothing.
            found[re.sub(r'\[\d+\]', '', os.path.basename(name_of(entry)))] += 1
        except FileNotFoundError:
            pass                # gone meanwhile
    return found


def comm(entry):
    return (entry / 'comm').read_text().strip()


class Footprint:
    def __init__(self, qemu, spec):
        pid = qemu.process.pid
        self.files = names(f'/proc/{pid}/fd', os.readlink)
        self.threads = names(f'/proc/{pid}/task', comm)
        self.memory = memory_kib(pid, spec.memory_mib)
        # Said by no-memory.c.
        found = re.findall(r'^bitmaps (\d+)$',
                           qemu.log.read_text(errors='replace'), re.MULTILINE)
        self.bitmaps = int(found[-1]) if found else 0
        self.bitmaps_seen = max(map(int, found), default=0)

    def beyond(self, before, first):
        """
        What there is beyond the footprint @before, in words.
        @first: of the first destination, at the same moment
        """
        more = ((self.files - before.files) + (self.threads - before.threads)
                - WITH_THE_GUEST)
        told = [f'{count} {name}' for name, count in more.items()]
        if self.bitmaps:
            told.append(f'{self.bitmaps} bitmaps')
        if self.memory > first.memory + RSS_KIB:
            told.append(f'{self.memory - first.memory} KiB of memory')
        return told


class Leaks:
    """
    Call waiting() when a destination waits, and moved() when it has the
    guest; the source, too, was a destination before, but for the first one.
    """

    def __init__(self):
        self.history = []           # of each process: its footprints
        self.excused = {}           # of some, by number from 1: words

    def waiting(self, s):
        self.history.append([Footprint(s.destination, s.spec)])

    def moved(self, s, source_ended=True):
        """@source_ended: else it is paused, and has what it needs to go on."""
        self.history[-1].append(Footprint(s.destination, s.spec))
        if len(self.history) > 1 and source_ended:
            self.history[-2].append(Footprint(s.source, s.spec))

    def excuse(self, word):
        """The last destination may leave behind what is named so."""
        self.excused.setdefault(len(self.history), set()).add(word)

    def check(self):
        """HarnessError if something is left behind"""
        first = self.history[0][1]
        for number, (before, *later) in enumerate(self.history, 1):
            excused = self.excused.get(number, ())
            if not later[0].bitmaps_seen and 'bitmaps' not in excused:
                raise HarnessError(f'destination {number} made no bitmaps')
            told = [what for now in later for what in now.beyond(before, first)
                    if not any(word in what for word in excused)]
            if told:
                raise HarnessError(f'destination {number} leaves behind: '
                                   + ', '.join(told))
