# SPDX-License-Identifier: GPL-2.0-or-later
"""The virtual machine of the benchmark, for harness.moving: QEMU's arguments
and the figures that its guest adds to the protocol of tests/guest/console.h.
"""

from dataclasses import dataclass

from harness import HarnessError, paths
from harness.qemu import FIRMWARE, GuestSpec

ORDERS = ('random', 'sequential', 'strided', 'shared', 'moving')
MAX_CPUS = 64


def image():
    return paths.existing('USERFAULT_BENCH_GUEST',
                          paths.build_folder() / 'bench/bench.bin',
                          "the benchmark's guest", 'make bench')


@dataclass
class BenchSpec(GuestSpec):
    """Of GuestSpec, what a guest without a kernel has."""
    # The same to QEMUs from 7.2 on, and no paravirtual CPU features, whose
    # pages KVM would touch by itself.
    machine: str = 'pc-q35-7.2'
    cpu: str = 'qemu64'
    held: bool = True
    order: str = 'random'
    write: bool = True

    def parameters(self):
        return (f'order={self.order} write={int(self.write)} hot={self.hot_mib} '
                f'seed={self.seed} slow_us={self.slow_us} '
                f'beat_ms={self.beat_ms}')

    def arguments(self, folder, accel_options=''):
        firmware = [word for path in FIRMWARE for word in ('-L', path)]
        return [*firmware, '-nodefaults', '-no-user-config',
                '-display', 'none', '-vga', 'none',
                '-machine', self.machine,
                '-accel', self.accel + accel_options,
                '-cpu', self.cpu,
                '-smp', str(self.cpus),
                '-m', f'{self.memory_mib}M',
                '-bios', str(image()),
                '-fw_cfg', f'name=opt/bench,string={self.parameters()}',
                '-no-reboot',
                '-chardev', f'socket,id=guest,path={folder}/guest,'
                            'server=on,wait=off',
                '-serial', 'chardev:guest',
                *self.extra]


def number_list(text):
    """The numbers of a list in a message: ":1:2:3"."""
    empty, *numbers = text.split(':')
    if empty or not numbers:
        raise HarnessError(f'the guest sent "{text}" instead of a list')
    return [int(number) for number in numbers]
