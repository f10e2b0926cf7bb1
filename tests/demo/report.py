# SPDX-License-Identifier: GPL-2.0-or-later
"""The results of a demonstration: one line per run, and the table that puts
userfault=on beside userfault=off."""

import statistics

from options import MODES

BOLD, DIM, PLAIN = '\033[1m', '\033[2m', '\033[0m'


def duration(ns):
    """Nanoseconds for people: three digits and a unit."""
    if ns is None:
        return '-'
    for unit, size in (('s', 1e9), ('ms', 1e6), ('us', 1e3)):
        if ns >= size:
            value = ns / size
            digits = 0 if value >= 100 else 1 if value >= 10 else 2
            return f'{value:.{digits}f} {unit}'
    return f'{ns:.0f} ns'


def count(n):
    return '-' if n is None else f'{n:,.0f}'


def _latency(which, key):
    def value(result):
        latency = result[which]
        return latency[key] if latency else None
    return value


def _counter(name):
    return lambda result: result['counters'].get(name)


# (text, value of a result, how to print it, is the ratio worth a column)
ROWS = (
    ('downtime', lambda r: r['stopped_ms'] * 1e6, duration, False),
    ('switchover to last page', lambda r: r['postcopy_s'] * 1e9, duration,
     True),
    ('demand faults served', lambda r: r['faults'], count, False),
    ('  per second', lambda r: r['faults_per_s'], count, True),
    ('  per second, first 5 s', lambda r: r['early_faults_per_s'], count,
     True),
    ('guest: pages verified/s in precopy',
     lambda r: r['guest_precopy_pages_per_s'], count, False),
    ('                       in postcopy',
     lambda r: r['guest_postcopy_pages_per_s'], count, True),
    ('                       its first 5 s',
     lambda r: r['guest_early_pages_per_s'], count, True),
    ('guest: fault latency p50', _latency('guest_latency', 'p50'), duration,
     True),
    ('                     p99', _latency('guest_latency', 'p99'), duration,
     True),
    ('                     max', _latency('guest_latency', 'max'), duration,
     True),
    ('QEMU: vCPU exit p50', _latency('vcpu_latency', 'p50'), duration, False),
    ('                p99', _latency('vcpu_latency', 'p99'), duration, False),
    ('                max', _latency('vcpu_latency', 'max'), duration, False),
    ('QEMU: userfaultfd p50', _latency('uffd_latency', 'p50'), duration,
     False),
    ('                  p99', _latency('uffd_latency', 'p99'), duration,
     False),
    ('                  max', _latency('uffd_latency', 'max'), duration,
     False),
    ('pages arrived by vCPU exit', _counter('pages-vcpu'), count, False),
    ('                 read-ahead', _counter('pages-readahead'), count, False),
    ('                 userfaultfd', _counter('pages-userfaultfd'), count,
     False),
    ('                 background', _counter('pages-background'), count,
     False),
    ('longest silence of the heartbeat',
     lambda r: r['guest_gap_ms'] * 1e6, duration, False),
    ('pages verified in all', lambda r: r['guest_verified'], count, False),
    ('guest self-check errors', lambda r: r['guest_errors'], count, False),
)

TEXT, CELL = 38, 16


def _ratio(first, second):
    return f'{first / second:.2f}' if first and second else '-'


def in_order(results):
    """@results in the order in which they are shown: on, off, stock."""
    return sorted(results, key=lambda r: MODES.index(r['userfault']))


def modes_of(results):
    """The modes that were run, once each and in order"""
    return [m for m in MODES if any(r['userfault'] == m for r in results)]


def _middle(results, mode, value):
    """The median of @value over the runs of @mode; None where none has one."""
    found = [value(r) for r in results if r['userfault'] == mode]
    found = [v for v in found if v is not None]
    return statistics.median(found) if found else None


def rows(results):
    """[text, values as text, 'on / off' as text or ''] of each row that has a
    value, in the order of modes_of(); of several runs the medians."""
    modes, found = modes_of(results), []
    for text, value, form, wants_ratio in ROWS:
        values = [_middle(results, mode, value) for mode in modes]
        if all(v is None for v in values):
            continue
        ratio = wants_ratio and len(modes) == 2
        found.append((text, [form(v) for v in values],
                      _ratio(*values) if ratio else ''))
    return found


def ratio_title(results):
    return ' / '.join(modes_of(results))


def table(results, color=False, unicode=True):
    """Lines of the table; @results in the order in which they ran, shown with
    userfault=on first, as medians if there are several of a mode."""
    bold, dim, plain = (BOLD, DIM, PLAIN) if color else ('', '', '')
    modes = modes_of(results)
    head = ' ' * (TEXT + 1)
    head += ''.join(f'{"userfault=" + mode:>{CELL}}' for mode in modes)
    head += f'{ratio_title(results):>{CELL - 4}}' if len(modes) == 2 else ''
    dash = '─' if unicode else '-'
    lines = [bold + head + plain, dim + ' ' + dash * (len(head) - 1) + plain]
    for text, values, ratio in rows(results):
        line = f' {text:<{TEXT}}' + ''.join(f'{v:>{CELL}}' for v in values)
        lines.append(line + (f'{ratio:>{CELL - 4}}' if ratio else ''))
    return lines


def one_line(result):
    """A run in one line."""
    return (f'userfault={result["userfault"]:<3}  '
            f'{result["guest_errors"]} errors in '
            f'{result["guest_verified"]:,} pages verified, '
            f'downtime {duration(result["stopped_ms"] * 1e6)}, '
            f'memory there after {result["postcopy_s"]:.1f} s, '
            f'{result["faults_per_s"]:,.0f} faults/s, '
            f'guest p50 {duration(result["guest_latency"]["p50"])} '
            f'p99 {duration(result["guest_latency"]["p99"])}')
