# SPDX-License-Identifier: GPL-2.0-or-later
"""Circumstances to migrate in: a slow network, huge pages.

Both need root.  What cannot be had is a HarnessError that says what is missing.
"""

import contextlib
import ctypes
import os
import re
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import HarnessError

CLONE_NEWNET = 0x40000000
HUGE_MIB = 2
HUGE = Path('/sys/kernel/mm/hugepages/hugepages-2048kB')
# In packets; what is on its way for some milliseconds must fit.
NETEM_LIMIT = 100000


def command(*words):
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, check=False,
                              stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise HarnessError(f'{words[0]}: {error.strerror}: a delay needs '
                           'ip and tc, of the package iproute2') from error
    if done.returncode:
        raise HarnessError(f'{" ".join(words)}: {done.stdout.strip()}')


@dataclass(frozen=True)
class Network:
    """What is between source and destination."""
    delay_us: int = 0           # of each packet, each way
    rate_mbit: int = 0          # 0: no limit

    @classmethod
    def parse(cls, text):
        """"tcp", or of "200us", "2ms", "100mbit" one or two joined by "+"."""
        found = {}
        for word in [] if text == 'tcp' else text.split('+'):
            number = re.fullmatch(r'([1-9]\d*)(us|ms|mbit)', word)
            if not number:
                raise HarnessError(f'no network "{word}"; write tcp, or a delay '
                                   'like 200us or 2ms, a rate like 100mbit, or '
                                   'both like 2ms+100mbit')
            value, unit = int(number[1]), number[2]
            name = 'rate_mbit' if unit == 'mbit' else 'delay_us'
            if name in found:
                raise HarnessError(f'no network "{text}": one delay, one rate')
            found[name] = value * 1000 if unit == 'ms' else value
        return cls(**found)

    def netem_words(self):
        """A packet passes the loopback interface once on its way; the answer
        does so too."""
        return ['tc', 'qdisc', 'replace', 'dev', 'lo', 'root', 'netem',
                'delay', f'{self.delay_us}us',
                *(('rate', f'{self.rate_mbit}mbit') if self.rate_mbit else ()),
                'limit', str(NETEM_LIMIT)]

    def use(self):
        """The loopback interface is this network from now on."""
        if not self.delay_us and not self.rate_mbit:
            # Fails where there was none before.
            subprocess.run(['tc', 'qdisc', 'del', 'dev', 'lo', 'root'],
                           stderr=subprocess.DEVNULL, check=False)
            return
        try:
            command(*self.netem_words())
        except HarnessError as error:
            raise HarnessError(f'{error} (a delay needs a kernel with '
                               'CONFIG_NET_SCH_NETEM)') from error


def own_network():
    """
    From now on this process and its children have a network of their own, with
    a loopback interface and nothing else.  Before any thread is started.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise HarnessError('a network of its own, for the delay: '
                           f'{os.strerror(ctypes.get_errno())} (be root)')
    command('ip', 'link', 'set', 'lo', 'up')


def uri():
    """Where a destination listens: a port that nobody has taken yet."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return f'tcp:127.0.0.1:{sock.getsockname()[1]}'


def huge_arguments(memory_mib):
    """What has QEMU take the guest's memory from huge pages"""
    return ['-object', 'memory-backend-memfd,id=ram,hugetlb=on,'
            f'hugetlbsize={HUGE_MIB}M,size={memory_mib}M',
            '-machine', 'memory-backend=ram']


@contextlib.contextmanager
def huge_pages(memory_mib, folder=HUGE):
    """Enough of them for a source and a destination of @memory_mib each."""
    number, count = folder / 'nr_hugepages', 2 * memory_mib // HUGE_MIB
    try:
        before = int(number.read_text())
        number.write_text(f'{before + count}\n')
    except OSError as error:
        raise HarnessError(f'huge pages: {error.strerror}: {number} (be root, '
                           'on a CPU that has them)') from error
    try:
        free = int((folder / 'free_hugepages').read_text())
        if free < count:
            raise HarnessError(f'{count} huge pages of {HUGE_MIB} MiB are '
                               f'needed, {free} are free: use less --memory')
        yield
    finally:
        number.write_text(f'{before}\n')
