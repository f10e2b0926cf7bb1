# SPDX-License-Identifier: GPL-2.0-or-later
"""Memslots that come, go and change while postcopy runs.

A chore of the guest (tests/guest/chore-slots.c) changes the layout again and
again, and checks the memory behind it.  The destination traces its slots and
the exits of its vCPUs, and the rows read that trace: the change took place
after the switchover, exits served pages before it, and exits served pages of
the very slots that were made or changed.
"""

import re

from harness.migration import MIB
from situation import (check, reached, refused, row, small_guest,
                       small_migration)

# Number of changes without which a row proves nothing
ENOUGH = 4
EVENTS = ('kvm_userfault_start', 'kvm_userfault_slot_add',
          'kvm_userfault_slot_remove', 'kvm_userfault_exit',
          'kvm_userfault_stop', 'kvm_set_user_memory')
SVGA = ('-device', 'vmware-svga,addr=0x10')
# More than the guest's memory, hence sent before it by the background stream,
# which therefore does not bring what the chores are to fault on.
FRONT = ('-object', 'memory-backend-ram,id=front,size=128M',
         '-device', 'ivshmem-plain,memdev=front,master=on')
LOW_SMRAM = range(0xa0000, 0xc0000)
LOG_DIRTY = 1           # flags of a slot
PAGE = 4096


class Trace:
    """What the destination traced while KVM userfault was on, in order."""

    def __init__(self, path):
        self.added = []         # (when, address space, range of addresses)
        self.removed = []       # when
        self.exits = []         # (when, address)
        self.flags = []         # (when, range of addresses, flags)
        self._read(path)

    def _read(self, path):
        on = False
        for when, line in enumerate(path.read_text(errors='replace')
                                    .splitlines()):
            match = re.search(r'(kvm_\w+) ?(.*)', line)
            name, rest = match.groups() if match else ('', '')
            if name == 'kvm_userfault_start':
                on = True
            elif name == 'kvm_userfault_stop':
                on = False
            elif on and name in EVENTS:
                self._take(when, name, rest)

    def _take(self, when, name, rest):
        value = {key: int(number, 0) for key, number
                 in re.findall(r'(\w+)[ =#](-?0x[0-9a-f]+|-?\d+)', rest)}
        if name == 'kvm_userfault_exit':
            self.exits.append((when, value['gpa']))
            return
        if name == 'kvm_userfault_slot_remove':
            self.removed.append(when)
            return
        where = range(value['gpa'], value['gpa'] + value['size'])
        if name == 'kvm_userfault_slot_add':
            self.added.append((when, value['slot'] >> 16, where))
        elif value['size']:
            self.flags.append((when, where, value['flags']))

    def exits_in(self, since, where, until=None):
        return sum(since < when and (until is None or when < until)
                   and address in where for when, address in self.exits)

    def made(self, space=0):
        """
        (when, range of addresses) of the slots that were made after the first
        exit.  Earlier ones come with the devices' state.
        """
        reached(self.exits, 'no page came by an exit')
        return [(when, where) for when, number, where in self.added
                if number == space and when > self.exits[0][0]]

    def check_new_slots(self, where, space=0):
        """
        Slots that touch @where were made once the guest ran, and pages of
        those very slots came by exits.
        """
        new = [(when, there) for when, there in self.made(space)
               if overlap(there, where)]
        reached(len(new) >= ENOUGH and len(self.removed) >= ENOUGH,
                f'only {len(new)} slots were made at {where.start:#x}, '
                f'{len(self.removed)} were removed')
        served = sum(self.exits_in(when, there) > 0 for when, there in new)
        reached(served, f'{len(new)} slots were made at {where.start:#x}, and '
                'no page of them came by an exit')
        return len(new), served


def overlap(a, b):
    return a.start < b.stop and b.start < a.stop


def trace_arguments(s):
    words = ['-D', str(s.folder / 'trace')]
    for event in EVENTS:
        words += ['-trace', event]
    return words


def start(s, chores, both=(), began=None, **settings):
    """
    A guest with chores has moved, and next to nothing is sent that it has not
    asked for.
    @began: chores that it begins with before, if not all of them
    """
    began = chores if began is None else began
    s.spec = small_guest(chores=chores, memory_mib=96, **settings)
    s.start(both=(*FRONT, *both), destination=trace_arguments(s))
    for name in began:
        s.until(lambda: s.guest.log.chores.get(name, {}).get('done', 0) > 1,
                60, f'the chore {name} did not begin')
    s.into_postcopy(small_migration(bandwidth=MIB // 16,
                                    postcopy_bandwidth=MIB // 256), passes=0)


def conclude(s, chores):
    """Once the chores have done enough: the end, and what was traced."""
    for name in chores:
        done = s.guest.log.chores[name]['done'] + 2 * ENOUGH
        s.until(lambda: s.guest.log.chores[name]['done'] >= done, 60,
                f'the chore {name} did not go on')
    s.hurry()
    s.conclude()
    return Trace(s.folder / 'trace')


def devices_on(buses):
    """All PCI devices of what query-pci said, also those behind bridges"""
    for bus in buses:
        for device in bus.get('devices', ()):
            yield device
            if 'pci_bridge' in device:
                yield from devices_on([device['pci_bridge']])


def device_memory(s, name):
    """Addresses of the first prefetchable memory of each device @name..."""
    found = []
    for device in devices_on(s.destination.command('query-pci')):
        if device['qdev_id'].startswith(name):
            found += [range(r['address'], r['address'] + r['size'])
                      for r in device['regions']
                      if r['type'] == 'memory' and r['prefetch']][:1]
    return found


@row('slots', 'PAM registers')
def pam(s):
    start(s, ('pam',), SVGA)
    trace = conclude(s, ('pam',))
    # Made writable, the BIOS is one slot with the memory above it.
    whole = [where for _, where in trace.made()
             if where.start < MIB < where.stop]
    reached(len(whole) >= ENOUGH, 'the big slot was not made anew')
    trace.check_new_slots(range(MIB, s.spec.memory_mib * MIB))
    trace.check_new_slots(range(0xc0000, 0xc4000))


@row('slots', 'ROM reads')
def rom(s):
    start(s, ('rom',), (*SVGA, '-device',
                        'virtio-rng-pci,romfile=vgabios-cirrus.bin'))
    trace = conclude(s, ('rom',))
    video = range(0xc0000, 0xe0000)
    # Precopy may have sent them all.
    reached(trace.exits_in(0, video), 'no page of the video BIOS came by an exit')
    bars = [where for _, where in trace.made() if where.start > 1 << 31]
    reached(len(bars) >= ENOUGH, 'the ROM of the device was not mapped')
    trace.check_new_slots(bars[0])


@row('slots', 'PCI memory moves')
def bar(s):
    start(s, ('bar',), ('-device', 'bochs-display,id=display0,vgamem=4M',
                        '-device', 'bochs-display,id=display1,vgamem=4M'))
    trace = conclude(s, ('bar',))
    places = []

    def settled():
        """In between they are nowhere, which is address -1."""
        places[:] = device_memory(s, 'display')
        return all(place.start > 0 for place in places)
    s.until(settled, 30, 'the displays had no place')
    check(len(places) == 2, f'the displays are at {places}')
    for place in places:
        trace.check_new_slots(place)


@row('slots', 'dirty tracking of a display on and off')
def tracking(s):
    start(s, ('svga',), ('-device', 'vmware-svga,id=display'), began=())
    s.guest.send(b'g')
    picture = s.folder / 'picture'
    for _ in range(3):
        s.go_on(1)
        s.destination.command('screendump', filename=str(picture))
        check(picture.stat().st_size > 1000, 'the picture is empty')
        picture.unlink()
    trace = conclude(s, ('svga',))
    vram, = device_memory(s, 'display')
    flags = [(when, flags & LOG_DIRTY) for when, where, flags in trace.flags
             if overlap(where, vram)]
    for state, name in ((LOG_DIRTY, 'on'), (0, 'off')):
        here = [i for i, (_, now) in enumerate(flags) if now == state]
        reached(len(here) >= ENOUGH, f'tracking went {name} {len(here)} times')
        served = sum(trace.exits_in(flags[i][0], vram, flags[i + 1][0])
                     for i in here[1:] if i + 1 < len(flags))
        reached(served, f'after tracking went {name}, no page came by an exit')


@row('slots', 'SMRAM and SMM')
def smm(s):
    chores = ('smram', 'smi')
    # The display is what else there is at the addresses of SMRAM.
    start(s, chores, SVGA, machine='q35,smm=on')
    trace = conclude(s, chores)
    reached(trace.exits_in(0, LOW_SMRAM),
            'no page of SMRAM came by an exit from system management mode')
    opened = [where for _, where in trace.made() if 0xa0000 in where]
    reached(len(opened) >= ENOUGH, f'SMRAM was opened {len(opened)} times')


def plug(qemu, driver, **settings):
    qemu.command('device_add', driver=driver, **settings)


def check_not_served(trace, new):
    """The new memory was never the source's: nobody is to wait for it."""
    slots = [when for when, where, _ in trace.flags if overlap(where, new)]
    check(slots, 'the new memory has no slot')
    check(not any(overlap(where, new) for _, _, where in trace.added),
          'the new memory got a bitmap')
    reached(any(when > slots[0] for when, _ in trace.exits),
            'no page came by an exit after the new memory was there')


def check_clean_end(s):
    """Postcopy has let go of all memory, the new one included."""
    said = s.destination.log.read_text()
    check('unregister' not in said, f'the destination said: {said.strip()}')


@row('slots', 'device plugged in')
def hotplug(s):
    start(s, ('late',), ('-device', 'pcie-root-port,id=port0,chassis=1',
                         '-device', 'pcie-root-port,id=port1,chassis=2',
                         '-global', 'secondary-vga.vgamem_mb=1'),
          began=())
    refused('not allowed while migrating', plug, s.source, 'secondary-vga',
            bus='port0')
    plug(s.destination, 'virtio-rng-pci', bus='port1')
    plug(s.destination, 'secondary-vga', id='display', bus='port0')
    s.until(lambda: s.guest.log.chores['late']['done'], 60,
            'the guest did not use the device')
    trace = conclude(s, ('late',))
    vram, = device_memory(s, 'display')
    check_not_served(trace, vram)
    check_clean_end(s)


@row('slots', 'memory plugged in')
def memory_hotplug(s):
    start(s, (), ('-m', 'slots=2,maxmem=1G'))
    for qemu in (s.source, s.destination):
        qemu.command('object-add', qom_type='memory-backend-ram', id='late',
                     size=128 * MIB)
    refused('not allowed while migrating', plug, s.source, 'pc-dimm',
            memdev='late')
    plug(s.destination, 'pc-dimm', memdev='late', id='dimm')
    trace = conclude(s, ())
    data = s.destination.command('query-memory-devices')[0]['data']
    check_not_served(trace, range(data['addr'], data['addr'] + data['size']))
    check_clean_end(s)
