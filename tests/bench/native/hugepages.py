# SPDX-License-Identifier: GPL-2.0-or-later
"""Huge pages in postcopy: runs of huge-bench, and what they come to."""

import contextlib
from pathlib import Path

import program
import stats
from common import StepError

# What huge-bench.c says of each
MODES = ('whole', 'in-order', 'from-piece', 'piece-first', 'kept')
THREADS, LINKS = (1, 4, 16), (0, 1250)
# KiB of a huge page: (its name, MiB of memory, touches)
SIZES = {2048: ('2M', 512, 1024), 1048576: ('1G', 2048, 1024)}
# (heading, figure, digits)
COLUMNS = (
    ('waited', 'waited', 0), ('p50 us', 'p50_us', 0), ('p99 us', 'p99_us', 0),
    ('touches/s', 'touches_per_s', 0), ('touched ms', 'touched_ms', 0),
    ('all ms', 'complete_ms', 0), ('device us', 'device_us', 0),
    ('calls', 'calls', 0), ('source', 'source_calls', 0), ('CPU us', 'cpu_us', 0))
WIDTH = 11
NR = '/sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages'


def command(path, size, rounds, threads=THREADS, links=LINKS):
    _, mib, touches = SIZES[size]
    return [path, '--host-page', str(size), '--mib', str(mib),
            '--touches', str(touches), '--rounds', str(rounds),
            '--threads', ','.join(map(str, threads)),
            '--link', ','.join(map(str, links))]


@contextlib.contextmanager
def reserved(size, nr=NR):
    """So many huge pages as are needed, and what was there before at the end"""
    path, needed = Path(nr.format(size)), SIZES[size][1] * 1024 // size
    try:
        before = path.read_text()
        try:
            path.write_text(f'{needed}\n')
            if int(path.read_text()) < needed:
                raise StepError(f'the kernel reserved {int(path.read_text())} huge '
                                f'pages of {size} KiB, and {needed} are needed')
            yield
        finally:
            path.write_text(before)
    except OSError as error:
        raise StepError(f'huge pages cannot be reserved: {error}') from error


def of_run(raw):
    """{figure: number}, from what the program printed of a run"""
    pages = raw['host_pages']
    # Each sleep is a call of its own, and so is what ends it.
    calls = raw['reads'] + raw['ioctls'] + raw['requests'] + 2 * raw['sleeps']
    return {
        'waited': 100 * raw['vcpu_waited'] / raw['touches'],
        'p50_us': raw['vcpu_p50_ns'] / 1e3,
        'p99_us': raw['vcpu_p99_ns'] / 1e3,
        'touches_per_s': raw['touches'] / raw['touched_ns'] * 1e9,
        'touched_ms': raw['touched_ns'] / 1e6,
        'complete_ms': raw['complete_ns'] / 1e6,
        'device_us': raw['device_p50_ns'] / 1e3,
        'calls': calls / pages,
        'source_calls': raw['source_calls'] / pages,
        'cpu_us': raw['cpu_ns'] / 1e3 / pages,
    }


def in_rounds(raws):
    """{(link, vCPUs): [{mode: figures} of each round]}"""
    found = {}
    for raw in raws:
        rounds = found.setdefault((raw['link'], raw['threads']), {})
        rounds.setdefault(raw['round'], {})[raw['mode']] = of_run(raw)
    return {key: [rounds[number] for number in sorted(rounds)]
            for key, rounds in found.items()}


def link_text(link):
    return f'link of {link:,} MB/s' if link else 'no limit on the link'


def table(found, size):
    """Lines, for a terminal"""
    name = SIZES[size][0]
    lines = [f' medians; waited: % of touches; p50, p99: of these; device: p50 of '
             f'the guarded mapping;',
             f' calls, source (its calls), CPU: of {name}; x: p50, whole over this, '
             'within a round (smallest..largest)']
    for link in dict.fromkeys(link for link, _ in found):
        lines += ['', f' {link_text(link)}',
                  f' {"vCPUs":>5} {"":<11}' + ''.join(
                      f'{head:>{WIDTH}}' for head, _, _ in COLUMNS) + '  x']
        for (one, threads), rounds in found.items():
            if one != link:
                continue
            for mode in MODES:
                if any(mode in it for it in rounds):
                    lines.append(f' {threads:>5} {mode:<11}' + row(rounds, mode))
    return lines


def row(rounds, mode):
    text = ''
    for _, figure, digits in COLUMNS:
        spread = stats.of_mode(rounds, mode, figure)
        text += f'{spread.median:>{WIDTH},.{digits}f}'
    gain = stats.ratio(rounds, MODES[0], mode, 'p50_us')
    if mode != MODES[0] and gain:
        digits = 1 if gain.median < 1000 else 0
        text += (f'  {gain.median:,.{digits}f} ({gain.min:,.{digits}f}..'
                 f'{gain.max:,.{digits}f})')
    return text


def run(path, size, rounds, threads=THREADS, links=LINKS):
    """What huge-bench prints; or StepError"""
    return list(program.read_runs(command(path, size, rounds, threads, links)))


def own_access(path):
    """Line: which way KVM's own accesses go, by what huge-kvm says"""
    try:
        said, = program.read_runs([path])
    except StepError as error:
        return f' KVM\'s own accesses were not looked at: {error}'
    return (' KVM writes the guest\'s clock to a piece that has not come, memslot on '
            f'the alias: {said["alias"]}; on the guarded mapping: {said["guarded"]}')
