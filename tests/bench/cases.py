# SPDX-License-Identifier: GPL-2.0-or-later
"""What the benchmark measures: cases, and the modes each is measured in."""

from dataclasses import dataclass

from harness import HarnessError, conditions, paths
from machine import MAX_CPUS, ORDERS, BenchSpec     # noqa: F401

STOCK_VERSION = '10.0'


@dataclass(frozen=True)
class Case:
    """
    One pattern of touches.  No vCPU is to come to the end of its part within the
    window: it would go on with pages that are there, as fast as it can, and take
    the host's CPUs from those that still wait.
    """
    order: str
    write: bool = True
    cpus: int = 4
    hot_mib: int = 64
    memory_mib: int = 96
    network: str = ''           # as Network.parse() reads it; '': a UNIX socket

    def __post_init__(self):
        if not 1 <= self.cpus <= MAX_CPUS:
            raise HarnessError(f'the guest of the benchmark has 1 to {MAX_CPUS} '
                               f'vCPUs, not {self.cpus}')
        if self.network:
            conditions.Network.parse(self.network)

    @property
    def name(self):
        return (f'{self.order}-{"write" if self.write else "read"}'
                f'-{self.cpus}' + (f'-{self.network}' if self.network else ''))

    @property
    def hot_pages(self):
        return self.hot_mib << 8

    def guest(self, **settings):
        return BenchSpec(cpus=self.cpus, memory_mib=self.memory_mib,
                         hot_mib=self.hot_mib, order=self.order,
                         write=self.write, **settings)


CASES = (
    Case('random'),
    Case('random', write=False),
    Case('sequential', hot_mib=384, memory_mib=416),
    Case('strided', hot_mib=384, memory_mib=416),
    Case('shared', write=False),
    Case('shared'),
    Case('moving'),
    Case('random', cpus=1),
    Case('random', cpus=2),
    Case('random', cpus=8, hot_mib=128, memory_mib=160),
    Case('random', cpus=16, hot_mib=256, memory_mib=288),
    Case('random', cpus=64, hot_mib=256, memory_mib=288),
    Case('random', network='tcp'),
    Case('random', network='30us'),
    Case('random', network='200us'),
    Case('random', network='2ms'),
    Case('random', network='100mbit'),
)
QUICK = ('random-write-4', 'shared-read-4')


@dataclass(frozen=True)
class Mode:
    """Who is at both ends."""
    text: str
    accel: str = ''             # of the destination
    extra: tuple = ()           # likewise, QEMU's arguments
    source_extra: tuple = ()    # of the source
    stock_source: bool = False
    stock_destination: bool = False
    pushed: bool = False        # nobody touches anything

    def binaries(self):
        """(source, destination); None is the QEMU that was built."""
        stock = (stock_qemu() if self.stock_source or self.stock_destination
                 else None)
        return (stock if self.stock_source else None,
                stock if self.stock_destination else None)


URGENT = ('-global', 'migration.postcopy-urgent-channels=4')
NO_READAHEAD = ('-global', 'migration.postcopy-userfault-readahead=0')
MODES = {
    'on': Mode('KVM userfault', ',userfault=on'),
    'channels': Mode('KVM userfault with four urgent channels', ',userfault=on',
                     URGENT, URGENT),
    'single': Mode('KVM userfault without read-ahead', ',userfault=on',
                   NO_READAHEAD),
    'off': Mode('userfaultfd', ',userfault=off'),
    'stock-on': Mode('KVM userfault, from an unmodified QEMU', ',userfault=on',
                     stock_source=True),
    'stock-single': Mode('the same without read-ahead', ',userfault=on',
                         NO_READAHEAD, stock_source=True),
    'stock-off': Mode('userfaultfd, from an unmodified QEMU', ',userfault=off',
                      stock_source=True),
    'stock': Mode('an unmodified QEMU at both ends', stock_source=True,
                  stock_destination=True),
    'pushed': Mode('all pages pushed, nobody faulting', ',userfault=on',
                   pushed=True),
}
# What others are compared with; the first there
BASELINE = ('off', 'stock', 'single')


def stock_qemu():
    """The unmodified QEMU; HarnessError if it is not there."""
    return paths.existing(
        'USERFAULT_STOCK_QEMU',
        paths.build_folder() / 'peers' / STOCK_VERSION / 'qemu-system-x86_64',
        'an unmodified QEMU', 'scripts/userfault/peers.py')


def rounds(modes, count):
    """
    The modes of each of @count rounds.  Every other round has them backwards,
    so that a machine that gets slower or faster favours none.
    """
    return [list(modes) if i % 2 == 0 else list(reversed(modes))
            for i in range(count)]
