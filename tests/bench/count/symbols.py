# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of addresses, and what plugin.c is to know of which function."""

import bisect
import re
import subprocess
from dataclasses import dataclass

# As in plugin.c
SWITCH, IRQ_ENTER, IRQ_EXIT, TIMER, RELEASE = 1, 2, 3, 4, 5
ACQUIRE = 16
SPIN, RW_READ, RW_WRITE, MUTEX, SEM_READ, SEM_WRITE, USER = range(7)
LOCK_TYPES = ('spinlock', 'rwlock, read', 'rwlock, write', 'mutex',
              'semaphore, read', 'semaphore, write', 'QemuMutex')
ALWAYS, IF_ZERO, IF_NONZERO = range(3)


def acquires(lock, condition=ALWAYS):
    return ACQUIRE + lock * 4 + condition


def each(names, hook):
    return {name: hook for name in names.split()}


KERNEL_HOOKS = {
    '__switch_to': SWITCH,
    'irq_enter_rcu': IRQ_ENTER,
    'irq_exit_rcu': IRQ_EXIT,
    'sysvec_apic_timer_interrupt': TIMER,
    **each('_raw_spin_lock _raw_spin_lock_irq _raw_spin_lock_irqsave '
           '_raw_spin_lock_bh', acquires(SPIN)),
    **each('_raw_spin_trylock _raw_spin_trylock_bh',
           acquires(SPIN, IF_NONZERO)),
    **each('_raw_read_lock _raw_read_lock_irq _raw_read_lock_irqsave '
           '_raw_read_lock_bh', acquires(RW_READ)),
    **each('_raw_write_lock _raw_write_lock_irq _raw_write_lock_irqsave '
           '_raw_write_lock_bh', acquires(RW_WRITE)),
    **each('mutex_lock', acquires(MUTEX)),
    **each('mutex_lock_killable mutex_lock_interruptible',
           acquires(MUTEX, IF_ZERO)),
    **each('mutex_trylock', acquires(MUTEX, IF_NONZERO)),
    **each('down_read', acquires(SEM_READ)),
    **each('down_read_killable down_read_interruptible',
           acquires(SEM_READ, IF_ZERO)),
    **each('down_read_trylock', acquires(SEM_READ, IF_NONZERO)),
    **each('down_write', acquires(SEM_WRITE)),
    **each('down_write_killable', acquires(SEM_WRITE, IF_ZERO)),
    **each('down_write_trylock', acquires(SEM_WRITE, IF_NONZERO)),
    **each('_raw_spin_unlock _raw_spin_unlock_irq _raw_spin_unlock_irqrestore '
           '_raw_spin_unlock_bh _raw_read_unlock _raw_read_unlock_irq '
           '_raw_read_unlock_irqrestore _raw_read_unlock_bh _raw_write_unlock '
           '_raw_write_unlock_irq _raw_write_unlock_irqrestore '
           '_raw_write_unlock_bh mutex_unlock up_read up_write', RELEASE),
}
# Without these the figures would be wrong.
NEEDED = {'__switch_to', 'irq_enter_rcu', 'irq_exit_rcu', '_raw_spin_lock',
          'mutex_lock', 'mutex_unlock', 'down_read', 'down_read_trylock',
          'up_read', '_raw_read_lock', 'sysvec_apic_timer_interrupt'}

QEMU_HOOKS = {
    'qemu_mutex_lock_impl': acquires(USER),
    'qemu_mutex_trylock_impl': acquires(USER, IF_ZERO),
    'qemu_mutex_unlock_impl': RELEASE,
    'qemu_rec_mutex_lock_impl': acquires(USER),
    'qemu_rec_mutex_trylock_impl': acquires(USER, IF_ZERO),
    'qemu_rec_mutex_unlock_impl': RELEASE,
}


class SymbolError(Exception):
    """The names do not have what is needed."""


class Symbols:
    """Names by address; an address belongs to the last name before it."""

    def __init__(self, pairs=()):
        self.addresses, self.names = [], []
        for address, name in sorted(pairs):
            self.addresses.append(address)
            self.names.append(name)

    def name(self, address):
        i = bisect.bisect_right(self.addresses, address)
        return self.names[i - 1] if i else ''

    def all_named(self, name):
        return [a for a, n in zip(self.addresses, self.names) if n == name]

    def find(self, name):
        """Its address, or None; SymbolError if there are several."""
        found = self.all_named(name)
        if len(found) > 1:
            raise SymbolError(f'{len(found)} functions are called {name}')
        return found[0] if found else None

    def extent(self, name):
        """(first address, that of the next name); SymbolError if not there."""
        first = self.find(name)
        if first is None:
            raise SymbolError(f'there is no function {name}')
        i = bisect.bisect_right(self.addresses, first)
        return first, (self.addresses[i] if i < len(self.addresses)
                       else float('inf'))


def read_symbols(text, base=0):
    """Functions in what nm or /proc/kallsyms says"""
    pairs = re.findall(r'^([0-9a-f]+) [tTwWiI] (\S+)', text, re.M)
    found = [(base + int(address, 16), name.split('@')[0])
             for address, name in pairs]
    if found and not any(address for address, _ in found):
        raise SymbolError('the kernel hides its addresses')
    return found


def symbols_of_file(path, base):
    """Of a program or library; an empty list if it has none."""
    found = []
    for option in ((), ('-D',)):
        done = subprocess.run(['nm', *option, '--defined-only', path],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              universal_newlines=True, check=False)
        found += read_symbols(done.stdout, base)
    return sorted(set(found))


@dataclass(frozen=True)
class Mapping:
    start: int
    end: int
    base: int                   # of the file: what its symbols are relative to
    path: str


def read_maps(text):
    """The files that a process has mapped, by /proc/PID/maps"""
    found, bases = [], {}
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or not fields[5].startswith('/'):
            continue
        start, end = (int(word, 16) for word in fields[0].split('-'))
        base = bases.setdefault(fields[5], start - int(fields[2], 16))
        if 'x' in fields[1]:
            found.append(Mapping(start, end, base, fields[5]))
    return found


class Names:
    """Of all addresses in the kernel and in a process"""

    def __init__(self, kallsyms, maps):
        self.kernel = Symbols(read_symbols(kallsyms))
        self.maps = read_maps(maps)
        self.files = {}

    def _symbols(self, mapping):
        if mapping.path not in self.files:
            self.files[mapping.path] = Symbols(
                symbols_of_file(mapping.path, mapping.base))
        return self.files[mapping.path]

    def name(self, address):
        if address >> 63:
            return self.kernel.name(address)
        for mapping in self.maps:
            if mapping.start <= address < mapping.end:
                file = mapping.path.rpartition('/')[2]
                name = self._symbols(mapping).name(address)
                return f'{name or "?"} [{file}]'
        return '?'

    def program(self, name='qemu-system-x86_64'):
        """Symbols of the program itself"""
        for mapping in self.maps:
            if mapping.path.rpartition('/')[2] == name:
                return self._symbols(mapping)
        raise SymbolError(f'{name} is not among the mapped files')


def hooks(names):
    """{address: what plugin.c is to do there}; SymbolError without a needed one"""
    found = {}
    for symbols, wanted, needed in (
            (names.kernel, KERNEL_HOOKS, NEEDED),
            (names.program(), QEMU_HOOKS, set(QEMU_HOOKS))):
        for name, hook in wanted.items():
            address = symbols.find(name)
            if address is not None:
                found[address] = hook
            elif name in needed:
                raise SymbolError(f'there is no function {name}')
    return found
