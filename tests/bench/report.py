# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of a case: a column for each mode, one for each ratio."""

import stats

# (text, figure, factor, digits, is the ratio worth a column)
ROWS = (
    ('pages fetched on demand /s', 'requests_per_s', 1, 0, True),
    ('  vCPU exits for each', 'exits_per_page', 1, 3, True),
    ('pages pushed /s', 'pushed_per_s', 1, 0, False),
    ('guest: faults /s', 'faults_per_s', 1, 0, True),
    ('  per vCPU', 'faults_per_s_per_vcpu', 1, 0, True),
    ('  slowest vCPU', 'faults_per_s_slowest_vcpu', 1, 0, True),
    ('guest: fault latency p50, us', 'latency_p50_us', 1, 0, True),
    ('  p90', 'latency_p90_us', 1, 0, True),
    ('  p99', 'latency_p99_us', 1, 0, True),
    ('  max', 'latency_max_us', 1, 0, True),
    ('guest: touches for each fault', 'touches_per_fault', 1, 2, True),
    ('guest: touches /s in the window', 'touches_per_s', 1, 0, True),
    ('  before: source, all present', 'touches_per_s_before', 1, 0, True),
    ('  after: destination, likewise', 'touches_per_s_after', 1, 0, True),
    ('QEMU: vCPU exit p50, us', 'vcpu_p50_us', 1, 0, False),
    ('  p99', 'vcpu_p99_us', 1, 0, False),
    ('QEMU: userfaultfd p50, us', 'uffd_p50_us', 1, 0, False),
    ('  p99', 'uffd_p99_us', 1, 0, False),
    ('CPU us per page: destination', 'destination_cpu_us_per_request', 1, 0,
     True),
    ('  without the guest itself', 'destination_host_cpu_us_per_request', 1, 0,
     True),
    ('  source, likewise', 'source_host_cpu_us_per_request', 1, 0, True),
    ('pages asked for in the window', 'requests', 1, 0, False),
    ('background pages in the window', 'background_pages', 1, 0, False),
    ('bytes from the source, MiB', 'wire_bytes', 2 ** -20, 1, False),
    ('  per request', 'wire_bytes_per_request', 1, 0, True),
    ('pages by vCPU exit, in all', 'pages_vcpu', 1, 0, False),
    ('  by read-ahead', 'pages_readahead', 1, 0, False),
    ('    used for sure', 'readahead_used', 1, 0, False),
    ('    its walk given up', 'readahead_dropped', 1, 0, False),
    ('  by userfaultfd', 'pages_userfaultfd', 1, 0, False),
    ('downtime, ms', 'downtime_ms', 1, 0, False),
    ('window, s', 'window_s', 1, 2, False),
    ('switchover to last page, s', 'last_page_s', 1, 2, True),
)
TEXT, CELL = 34, 28


def cell(spread, factor=1, digits=0):
    """Median, and smallest to largest of more than one."""
    if spread is None:
        return '-'
    middle, low, high = (f'{value * factor:,.{digits}f}' for value in
                         (spread.median, spread.min, spread.max))
    return f'{middle} ({low}..{high})' if spread.count > 1 else middle


def line(cells, text=''):
    return f' {text:<{TEXT}}' + ''.join(f'{it:>{CELL}}' for it in cells)


def row(rounds, modes, base, text, figure, factor, digits, wants_ratio):
    """A line, or None when no mode has such a figure."""
    found = [stats.of_mode(rounds, mode, figure) for mode in modes]
    if not any(found):
        return None
    cells = [cell(it, factor, digits) for it in found]
    if base:
        cells += [cell(stats.ratio(rounds, mode, base, figure), 1, 2)
                  if wants_ratio else '' for mode in modes if mode != base]
    return line(cells, text).rstrip()


def table(name, rounds, modes, preferred):
    """Lines, for a terminal"""
    base = stats.baseline(modes, preferred)
    heads = list(modes)
    if base:
        heads += [f'{mode} / {base}' for mode in modes if mode != base]
    rule = ' ' + '-' * (TEXT + CELL * len(heads))
    rows = (row(rounds, modes, base, *columns) for columns in ROWS)
    return [f' {name}: median (smallest..largest) of {len(rounds)} rounds',
            line(heads), rule, *(it for it in rows if it)]


def one_line(case, mode, figures):
    """A run, as soon as it is done"""
    head = f'{case:<20} {mode:<12} '
    if figures.get('pushed_per_s'):
        return head + f'{figures["pushed_per_s"]:>8,.0f} pages/s'
    return (f'{head}{figures["requests_per_s"]:>8,.0f} pages/s  '
            f'latency p50 {figures["latency_p50_us"] or 0:>7,.0f} us  '
            f'p99 {figures["latency_p99_us"] or 0:>8,.0f} us  '
            f'last page after {figures["last_page_s"]:.1f} s')
