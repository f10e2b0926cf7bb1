# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of the native benchmark: a table for each mode, one of ratios."""

import stats
from figures import COST, GIVING, SERVICE, USERFAULTFD

# (heading, figure, digits)
COLUMNS = (
    ('faults/s', 'faults_per_s', 0), ('CPU us', COST, 1),
    ('vCPUs', 'vcpus_us', 1), ('loader', 'loader_us', 1),
    ('f.thread', 'fault_thread_us', 1), ('p50 us', 'p50_us', 0),
    ('p99 us', 'p99_us', 0), ('switches', 'switches', 2),
    ('writes', 'writes', 3), ('handed', 'handoffs', 3),
    ('longest', 'longest', 0))
RATIOS = (('faults/s', 'faults_per_s'), ('CPU time', COST), ('p50', 'p50_us'),
          ('p99', 'p99_us'))
WIDTH, RATIO_WIDTH = 9, 20


def spread_text(spread, digits):
    """Median (smallest..largest)"""
    if spread is None:
        return '-'
    return (f'{spread.median:.{digits}f} '
            f'({spread.min:.{digits}f}..{spread.max:.{digits}f})')


def mode_table(found, mode):
    lines = [f' {mode}: medians; CPU time, switches, writes: of one fault',
             f' {"vCPUs":>5}' + ''.join(f'{head:>{WIDTH}}'
                                        for head, _, _ in COLUMNS)
             + f'{"CPU us from..to":>{RATIO_WIDTH}}']
    for threads, rounds in found.items():
        line = f' {threads:>5}'
        for _, figure, digits in COLUMNS:
            spread = stats.of_mode(rounds, mode, figure)
            text = '-' if spread is None else f'{spread.median:,.{digits}f}'
            line += f'{text:>{WIDTH}}'
        cost = stats.of_mode(rounds, mode, COST)
        text = f'{cost.min:.1f}..{cost.max:.1f}' if cost else '-'
        lines.append(line + f'{text:>{RATIO_WIDTH}}')
    return lines


def ratio_table(found, base):
    lines = [f' {SERVICE} / {base}: ratio within a round, median '
             '(smallest..largest)',
             f' {"vCPUs":>5}' + ''.join(f'{head:>{RATIO_WIDTH}}'
                                        for head, _ in RATIOS)]
    for threads, rounds in found.items():
        lines.append(f' {threads:>5}' + ''.join(
            f'{spread_text(stats.ratio(rounds, SERVICE, base, figure), 2):>{RATIO_WIDTH}}'
            for _, figure in RATIOS))
    return lines


def all_tables(found):
    """Lines, for a terminal"""
    lines = []
    for mode in (SERVICE, USERFAULTFD):
        lines += mode_table(found, mode) + ['']
    return (lines + ratio_table(found, USERFAULTFD) + ['']
            + ratio_table(found, GIVING))


def instruction_table(counts):
    """@counts: {vCPUs: {side: instructions of one fault}}"""
    sides = next(iter(counts.values()))
    return [' instructions of one fault, system calls not counted',
            f' {"vCPUs":>5}' + ''.join(f'{side:>{WIDTH}}' for side in sides),
            *(f' {threads:>5}' + ''.join(f'{count:>{WIDTH}.1f}'
                                         for count in by_side.values())
              for threads, by_side in counts.items())]
