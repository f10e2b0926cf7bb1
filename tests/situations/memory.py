# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory: what the guest's RAM is made of, what gives and takes memory while
pages arrive, and who else watches writes to it."""

import contextlib
import re
import time
from pathlib import Path

from harness import Missed
from harness.migration import DONE, MIB, POSTCOPY
from situation import (Skip, check, reached, refused, row, small_guest,
                       small_migration)

PAGE = 4096
NOTICE = 20                     # seconds for vCPUs to fault that much
RAM_MIB = 160                   # of the guest, where a row says nothing else
TRACE = ('-trace', 'postcopy_userfault_vcpu')
# With next to nothing sent before (no pass), postcopy takes until hurry().
HELD = small_migration(bandwidth=MIB, postcopy_bandwidth=MIB // 16)
# With the chore "churn", which dirties enough in a pass, and would take long if
# all of that were absent.
HELD_LATE = small_migration(bandwidth=64 * MIB, postcopy_bandwidth=MIB // 16)
FAST = small_migration(bandwidth=64 * MIB, postcopy_bandwidth=16 * MIB)


# --- what rows share ----------------------------------------------------------

def guest_on(s, *backends, memory_mib=RAM_MIB, **guest):
    """
    The guest's RAM is @backends, in equal parts: values of -object without
    id and size.  Returns QEMU's arguments for them.
    """
    size = memory_mib // len(backends)
    machine = 'q35'
    arguments = list(TRACE)
    for number, backend in enumerate(backends):
        arguments += ['-object', f'{backend},id=ram{number},size={size}M']
    if len(backends) == 1:
        machine += ',memory-backend=ram0'
    else:
        for number in range(len(backends)):
            arguments += ['-numa', f'node,nodeid={number},memdev=ram{number},'
                                   f'cpus={number}']
    s.spec = small_guest(machine=machine, memory_mib=memory_mib, **guest)
    return arguments


class Mapping:
    """One line of /proc/PID/smaps, and what belongs to it."""

    def __init__(self, line):
        first, last = (int(word, 16)
                       for word in line.split(maxsplit=1)[0].split('-'))
        self.bytes = last - first
        self.shared = line.split()[1][3] == 's'
        self.name = line.split(maxsplit=5)[5].strip() if '/' in line else ''
        self.figures = {}               # in KiB


def big_mappings(qemu, least=32 * MIB):
    """The mappings of @qemu that are large enough to be guest memory"""
    found = []
    for line in Path(f'/proc/{qemu.process.pid}/smaps').read_text().split('\n'):
        if re.match(r'[0-9a-f]+-[0-9a-f]+ ', line):
            found.append(Mapping(line))
        elif line.endswith(' kB'):
            key, value = line[:-3].split(':')
            found[-1].figures[key] = int(value)
    return [m for m in found if m.bytes >= least]


def check_mapping(s, condition, what):
    """Source and destination have guest memory for which @condition holds."""
    for qemu in (s.source, s.destination):
        check(any(condition(m) for m in big_mappings(qemu)),
              f'the memory of the {qemu.name} is not {what}')


def resident(qemu):
    """Bytes of guest memory that are there"""
    return sum(m.figures['Rss'] for m in big_mappings(qemu)) * 1024


def trace_lines(qemu, event):
    """What QEMU has said about the trace event so far, a string each"""
    lines = qemu.log.read_text(errors='replace').splitlines()
    return [line.partition(event + ' ')[2] for line in lines
            if event + ' ' in line]


def faults(s):
    """[(block, offset)] of the vCPUs' faults on the destination"""
    found = []
    for line in trace_lines(s.destination, 'postcopy_userfault_vcpu'):
        words = line.split()
        found.append((words[1], int(words[3], 16)))
    return found


def check_faults_in(s, *names, least=1):
    """
    Until vCPUs have waited for as many pages of each of the blocks.  A block
    has the name of its memory backend, with a path before it.
    """
    end = time.monotonic() + NOTICE * s.patience
    while True:
        blocks = [block.rpartition('/')[2] for block, _ in faults(s)]
        if all(blocks.count(name) >= least for name in names):
            return
        reached(s.migration.phase != DONE and time.monotonic() < end,
                f'vCPUs did not get {least} pages of each of {names}')
        s.tick()


def mapped_by_kvm(qemu):
    """{'pages_4k': count, 'pages_2m': count, ...} of second-stage mappings"""
    answer = qemu.command('query-stats', target='vm', providers=[
        {'provider': 'kvm', 'names': ['pages_4k', 'pages_2m', 'pages_1g']}])
    return {stat['name']: stat['value'] for provider in answer
            for stat in provider['stats']}


def in_postcopy(s):
    """Nothing that a row has waited for may have outlasted postcopy."""
    s.tick()
    if s.migration.phase != POSTCOPY:
        raise Missed(f'too late: the migration is in phase {s.migration.phase}')


# --- what RAM is made of ------------------------------------------------------

@row('memory', 'memfd, shared')
def memfd(s):
    s.start(both=guest_on(s, 'memory-backend-memfd,share=on'))
    check_mapping(s, lambda m: m.shared and m.name.startswith('/memfd:'),
                  'a shared memfd')
    s.whole()
    check_faults_in(s, 'ram0')


@row('memory', 'shared file', full=True)
def shared_file(s):
    def on(side):
        return guest_on(s, 'memory-backend-file,share=on,'
                           f'mem-path={folder}/{s.folder.name}.{side}')
    folder = '/dev/shm'
    s.start(on('source'), on('destination'))
    check_mapping(s, lambda m: m.shared and m.name.startswith(folder),
                  'a shared file')
    for side in ('source', 'destination'):
        Path(f'{folder}/{s.folder.name}.{side}').unlink()
    s.whole()
    check_faults_in(s, 'ram0')


@row('memory', 'several NUMA blocks', full=True)
def numa(s):
    s.start(both=guest_on(s, 'memory-backend-ram',
                          'memory-backend-memfd,share=on', hot_mib=64))
    s.into_postcopy(HELD, passes=0)
    # Sooner than the background stream could bring them.
    check_faults_in(s, 'ram0', 'ram1', least=300)
    s.hurry()
    s.conclude()


@row('memory', 'preallocated', full=True)
def preallocated(s):
    """Postcopy throws away what the destination has allocated in advance."""
    s.start(both=guest_on(s, 'memory-backend-ram,prealloc=on'))
    whole = RAM_MIB * MIB
    check(resident(s.destination) >= whole,
          f'{resident(s.destination)} bytes were there in advance')
    s.begin(small_migration())
    s.until(lambda: resident(s.destination) < whole // 2, 10,
            'the destination kept what it had allocated')
    s.passes(1)
    s.switch_over()
    s.conclude()
    check_faults_in(s, 'ram0')


@row('memory', 'file on a disk: refused')
def file_on_disk(s):
    s.start(guest_on(s, 'memory-backend-ram'),
            guest_on(s, f'memory-backend-file,share=on,mem-path={s.folder}/ram'))
    refused('Postcopy is not supported: Host backend files need to be TMPFS '
            'or HUGETLBFS only', s.begin)
    s.drop_destination()
    s.check_memory()


# --- huge pages ---------------------------------------------------------------

@contextlib.contextmanager
def huge_pages(kib, count):
    """@count more huge pages of @kib KiB in this machine, for a while"""
    folder = Path(f'/sys/kernel/mm/hugepages/hugepages-{kib}kB')
    if not folder.exists():
        raise Skip(f'no huge pages of {kib} KiB on this CPU')
    number = folder / 'nr_hugepages'
    before = int(number.read_text())
    try:
        number.write_text(f'{before + count}\n')
        if int((folder / 'free_hugepages').read_text()) < count:
            raise Skip(f'this machine does not have {count} free huge pages '
                       f'of {kib} KiB')
        yield
    finally:
        number.write_text(f'{before}\n')


def migrate_on_huge_pages(s, kib, memory_mib, spec, options=(), **guest):
    """Whole host pages are asked for and placed."""
    count = memory_mib * 1024 // kib
    with huge_pages(kib, 2 * count):
        try:
            s.start(both=[*options, *guest_on(
                s, f'memory-backend-memfd,hugetlb=on,hugetlbsize={kib}K',
                memory_mib=memory_mib, **guest)])
            # A page may be all that there is; meanwhile nothing moves.
            s.watch(kib < 1024 * 1024)
            check_mapping(s, lambda m: m.figures['KernelPageSize'] == kib,
                          f'made of pages of {kib} KiB')
            counters = s.whole(spec)
            check_huge_faults(s, counters, kib)
        finally:
            s.stop()                    # gives the pages back


def check_huge_faults(s, counters, kib):
    found = [offset for block, offset in faults(s) if block.endswith('ram0')]
    reached(found, 'no faults in RAM')
    check(not any(offset % (kib * 1024) for offset in found),
          f'{len(found)} faults in RAM, not all for whole host pages')
    # Were bits of a page left set, a vCPU would come again after its wait.
    reached(counters['already-present'] * 2 <= counters['waits'],
            f'{counters["waits"]} waits for whole host pages, '
            f'{counters["already-present"]} exits for pages that were there')


@row('memory', 'hugetlb, 2 MiB')
def hugetlb_2m(s):
    migrate_on_huge_pages(s, 2048, RAM_MIB,
                          small_migration(postcopy_bandwidth=8 * MIB))


@row('memory', 'hugetlb, 1 GiB', full=True, limit=300)
def hugetlb_1g(s):
    """
    One page for all of the guest's memory.  KVM or QEMU would be the first to
    touch it, on behalf of the guest, were it not for what the CPU is told to
    lack.
    """
    migrate_on_huge_pages(
        s, 1024 * 1024, 1024,
        small_migration(postcopy_bandwidth=0),
        ('-global', 'apic-common.vapic=off'), hot_mib=64,
        cpu='max,kvmclock=off,kvm-steal-time=off,kvm-pv-eoi=off,'
            'kvm-asyncpf=off')


@row('memory', 'host pages of another size: refused')
def other_page_size(s):
    with huge_pages(2048, RAM_MIB // 2):
        try:
            s.start(guest_on(s, 'memory-backend-memfd'),
                    guest_on(s, 'memory-backend-memfd,hugetlb=on'))
            s.begin()
            refused('', s.passes, 1)
            s.destination.process.wait(30)
            words = s.destination.log.read_text(errors='replace')
            check('Postcopy needs matching RAM page sizes' in words, words)
            s.drop_destination()
            s.check_memory()
        finally:
            s.stop()


KHUGEPAGED = Path('/sys/kernel/mm/transparent_hugepage/khugepaged')


@contextlib.contextmanager
def eager_khugepaged():
    """The thread that makes huge pages does not take its time."""
    settings = {'scan_sleep_millisecs': 0, 'alloc_sleep_millisecs': 0,
                'pages_to_scan': 65536}
    before = {name: (KHUGEPAGED / name).read_text() for name in settings}
    try:
        for name, value in settings.items():
            (KHUGEPAGED / name).write_text(f'{value}\n')
        yield
    finally:
        for name, value in before.items():
            (KHUGEPAGED / name).write_text(value)


@row('memory', 'transparent huge pages come back')
def thp(s):
    if not KHUGEPAGED.exists():
        raise Skip('this kernel has no transparent huge pages')
    with eager_khugepaged():
        s.start()
        s.until(lambda: mapped_by_kvm(s.source)['pages_2m'], 60,
                'the source has no huge pages')
        before = mapped_by_kvm(s.source)
        s.into_postcopy()
        during = mapped_by_kvm(s.destination)
        in_postcopy(s)
        check(during['pages_4k'] and not during['pages_2m'],
              f'in postcopy KVM has mapped {during}')
        s.conclude()
        s.until(lambda: mapped_by_kvm(s.destination)['pages_2m']
                >= before['pages_2m'] * 3 // 4, 60,
                'huge mappings have not come back')
        s.check_memory()


# --- memory that is given and taken -------------------------------------------

BALLOON = ('-device', 'virtio-balloon-pci')


def balloon(s, qemu, mib):
    """Have the guest shrink or grow to @mib."""
    qemu.command('balloon', value=mib * MIB)
    s.until(lambda: qemu.command('query-balloon')['actual'] == mib * MIB, 60,
            f'the balloon did not get to {mib} MiB')


@row('memory', 'balloon', full=True, limit=300)
def ballooning(s):
    """
    In postcopy the guest inflates and deflates its balloon, but QEMU must not
    throw the pages away: it would not get them again.
    """
    def discarded():
        return len(trace_lines(s.destination, 'ram_block_discard_range'))
    s.spec = small_guest(chores=('churn',))
    s.start(both=BALLOON, destination=['-trace', 'ram_block_discard_range'])
    balloon(s, s.source, 120)
    s.into_postcopy(HELD_LATE)
    actual = s.destination.command('query-balloon')['actual']
    check(actual == 120 * MIB, f'the balloon came with {actual} bytes')
    before = discarded()
    balloon(s, s.destination, 104)
    balloon(s, s.destination, 136)
    in_postcopy(s)
    check(discarded() == before, 'QEMU has discarded pages in postcopy')
    s.hurry()
    s.conclude()
    balloon(s, s.destination, 104)
    check(discarded() > before, 'QEMU discards nothing after postcopy')
    balloon(s, s.destination, RAM_MIB)
    check_chore(s, 'churn')


def check_chore(s, name):
    """The chore gets on from here, and all memory is right."""
    done = s.guest.log.chores[name]['done']
    s.until(lambda: s.guest.log.chores[name]['done'] >= done + 2, 120,
            f'the chore {name} did not get on')
    s.check_memory()


PLUGGABLE_MIB = 256


def virtio_mem(s, requested_mib, options):
    """A guest with so much more memory; QEMU's arguments for it."""
    s.spec = small_guest(
        chores=('churn',), kernel_options=('memhp_default_state=online_movable',))
    return ['-m', 'maxmem=1G', '-object',
            f'memory-backend-ram,id=extra,size={PLUGGABLE_MIB}M',
            '-device', 'virtio-mem-pci,id=plug,memdev=extra,'
                       f'requested-size={requested_mib}M' + options, *TRACE]


def plugged(qemu):
    """MiB of the virtio-mem device that the guest has plugged in"""
    return qemu.command('qom-get', path='plug', property='size') // MIB


def wait_plugged(s, qemu, mib):
    s.until(lambda: plugged(qemu) == mib, 60, f'{mib} MiB were not plugged in')


def request(qemu, mib):
    qemu.command('qom-set', path='plug', property='requested-size',
                 value=mib * MIB)


def migrate_with_virtio_mem(s, options=''):
    """
    Memory that was plugged in moves with the guest; none is plugged in while
    the guest's pages arrive.
    """
    s.start(both=virtio_mem(s, 128, options))
    wait_plugged(s, s.source, 128)
    s.into_postcopy(HELD_LATE)
    check(plugged(s.destination) == 128, 'the device lost its memory')
    request(s.destination, 192)
    s.run_for(1)
    in_postcopy(s)
    check(plugged(s.destination) == 128, 'memory was plugged in in postcopy')
    s.hurry()
    s.conclude()
    check_faults_in(s, 'extra')
    # The guest tries again at once when it is asked anew.
    request(s.destination, 256)
    wait_plugged(s, s.destination, 256)
    check_chore(s, 'churn')


@row('memory', 'virtio-mem', full=True)
def virtio_mem_plain(s):
    migrate_with_virtio_mem(s)


@row('memory', 'virtio-mem with dynamic memslots', full=True)
def virtio_mem_memslots(s):
    migrate_with_virtio_mem(s, ',dynamic-memslots=on')


UNPLUGGED_PAGES = 64            # that the chore reads


@row('memory', 'virtio-mem, a vCPU reads what is not plugged in')
def virtio_mem_read(s):
    """The source has nothing there to send, so nobody may wait for it."""
    both = virtio_mem(s, 0, '')
    s.spec.chores = ('unplugged',)
    s.start(both=both)
    s.into_postcopy(HELD, passes=0)
    s.guest.send(b'g')

    def read():
        return s.guest.log.chores['unplugged']['done']
    s.until(lambda: read() >= UNPLUGGED_PAGES, 20,
            'the guest did not read them all')
    in_postcopy(s)
    s.hurry()
    c = s.conclude()
    check(c['discarded'] >= UNPLUGGED_PAGES,
          f'{c["discarded"]} faults on discarded pages were told apart')


# --- who else watches writes --------------------------------------------------

def measure_dirty_rate(s, mode):
    """While dirty logging is on too, vCPUs go on leaving for absent pages."""
    there = s.destination
    there.command('calc-dirty-rate', calc_time=1, mode=mode)
    in_postcopy(s)
    before = s.counters()['exits']
    s.until(lambda: there.command('query-dirty-rate')['status'] == 'measured',
            30, 'the dirty rate was not measured')
    in_postcopy(s)
    after = s.counters()['exits']
    rate = there.command('query-dirty-rate')['dirty-rate']
    reached(rate > 0, 'no page was found dirty')
    reached(s.policy == 'off' or after > before,
            f'{before} exits before and {after} after dirty logging')


@contextlib.contextmanager
def next_journey(s):
    """
    The destination is about to leave in its turn, for the one that follows.
    Gives the migration by which it came, whose source stays until the end.
    """
    origin, arrival = s.source, s.migration
    s.source, s.destination, s.migration = s.destination, s.following, None
    s.following = None
    try:
        if arrival.poll().phase != POSTCOPY:
            raise Missed('it had all come before')
        yield arrival
    finally:
        origin.stop()


def wait_arrived(arrival):
    arrival.source.command('migrate-set-parameters', max_postcopy_bandwidth=0)
    while arrival.poll().phase != DONE:
        pass


def measure_and_leave(s, mode, option=''):
    """Dirty logging in postcopy, and again as soon as the last page is here"""
    s.spec = small_guest(hot_mib=32)
    s.boot()
    s.prepare(s.accel_option + option)
    s.prepare_following(s.accel_option)
    s.wait_for_beats()
    s.into_postcopy(HELD, passes=0)
    measure_dirty_rate(s, mode)
    with next_journey(s) as arrival:
        wait_arrived(arrival)
        s.whole(FAST)


@row('memory', 'dirty bitmap on in postcopy, then away at once')
def dirty_bitmap(s):
    measure_and_leave(s, 'dirty-bitmap')


@row('memory', 'dirty ring on in postcopy, then away at once',
     full=True)
def dirty_ring(s):
    measure_and_leave(s, 'dirty-ring', ',dirty-ring-size=4096')


@row('memory', 'migrate again in postcopy: refused')
def again_in_postcopy(s):
    """
    QEMU does not let a guest leave that is still arriving.  It counts itself
    as migrating from then on, so it is told to cancel what it has refused.
    """
    s.start()
    s.prepare_following(s.accel_option)
    s.into_postcopy(HELD, passes=0)
    with next_journey(s) as arrival:
        refused('duplicate yank instance', s.source.command, 'migrate',
                uri='tcp:127.0.0.1:1')
        arrival.tolerated.add('cancelled')
        s.source.command('migrate_cancel')
        wait_arrived(arrival)
        s.whole(FAST)
