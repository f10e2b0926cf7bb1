#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The results of a demonstration as one page that needs nothing else:

    page.py build/demo/demo.json > demo.html

Every figure on it is out of the results.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent / 'guest'), str(HERE)]

import charts                                               # noqa: E402
import report                                               # noqa: E402
from charts import micro                                    # noqa: E402
from harness import webpage                                 # noqa: E402
from harness.webpage import (details, document, facts,      # noqa: E402
                             figure, figure_card, keys, make_table, section,
                             tag, whole_names)
from timeline import mean_within                            # noqa: E402

MODES = {'on': 'userfault=on', 'off': 'userfault=off',
         'stock': 'a QEMU that does not know it'}


# --- tables ------------------------------------------------------------------

def result_table(results):
    rows = report.rows(results)
    head = ['', *(r['userfault'] for r in results)]
    if len(results) == 2:
        head.append(report.ratio_title(results))
    lines = []
    for name, (_, values, ratio) in zip(whole_names(t for t, *_ in rows),
                                        rows):
        lines.append([name, *map(micro, values),
                      *([ratio] if len(results) == 2 else [])])
    return make_table('All figures of the report, by userfault=', head, lines)


def time_table(results):
    """The picture over time, second by second"""
    low, high = charts.time_range(results)
    lines = []
    for second in range(int(low), int(high) + 1):
        cells = [mean_within(r[key], second, second + 1)
                 for key in ('guest_rates', 'fault_rates') for r in results]
        if any(cell is not None for cell in cells):
            lines.append([f'{second}', *map(report.count, cells)])
    head = [f'{what}, {r["userfault"]}' for what in ('verified/s', 'faults/s')
            for r in results]
    return make_table('Means of each second since the switchover',
                      ['second', *head], lines)


def latency_table(results):
    """Every bar of the pictures of latency"""
    columns, head = [], []
    for who, make in (('guest', charts.guest_series),
                      ('QEMU', charts.qemu_series)):
        for series in map(make, results):
            for _, name, counts in series['parts']:
                if counts:
                    columns.append(counts)
                    head.append(f'{who}: {name}, {series["mode"]}')
    octaves = sorted({i for counts in columns for i in counts})
    lines = [[f'{micro(report.duration(1 << i))} to '
              f'{micro(report.duration(2 << i))}',
              *(report.count(counts.get(i, 0)) for counts in columns)]
             for i in octaves]
    return make_table('Number of faults', ['duration', *head], lines)


# --- parts of the page -------------------------------------------------------

def compared(results, value, form):
    return webpage.compared((r['userfault'], micro(form(value(r))))
                            for r in results)


def cards(results):
    order = ' | '.join(r['userfault'] for r in results)
    errors = sum(r['guest_errors'] for r in results)
    verified = sum(r['guest_verified'] for r in results)
    return tag('div', '\n'.join((
        figure_card('switchover to last page', compared(
            results, lambda r: r['postcopy_s'] * 1e9, report.duration), order),
        figure_card('page faults served per second', compared(
            results, lambda r: r['faults_per_s'], report.count), order),
        figure_card('median of a page fault in the guest', compared(
            results, lambda r: r['guest_latency']['p50'], report.duration),
            order),
        figure_card('wrong pages seen by the guest',
                    tag('b', str(errors), class_='' if errors else 'verdict'),
                    f'of {verified:,} verified'))), class_='figures')


def mode_keys(results):
    return webpage.mode_keys((r['userfault'], MODES[r['userfault']])
                             for r in results)


def way_keys():
    return keys((f'<rect class="way {kind}" width="26" height="12"/>', name)
                for kind, name, _ in charts.ARRIVALS)


def time_section(results):
    return section('Over time', mode_keys(results) + figure(
        charts.over_time(results),
        'Both migrations on one axis; the guest stops on the source at zero, '
        'and its last page arrives at the dotted line. Note the logarithmic '
        'scale of the guest.')
        + details('the same as a table', time_table(results)))


def latency_section(results):
    slow = report.duration(results[0]['settings']['slow_us'] * 1e3)
    return section('How long a page fault took', mode_keys(results) + figure(
        charts.latencies(results, 'guest'),
        'Seen by the guest: the time its threads took to touch a page for '
        f'the first time, where that was {micro(slow)} or more. The dots are '
        'the median and the 99th percentile. The same yardstick for all.')
        + figure(
        charts.latencies(results, 'qemu'),
        'Seen by QEMU: of a vCPU that leaves KVM, from its exit until it goes '
        'on; of userfaultfd, from the moment the fault is read, so that time '
        'in its queue is missing. Two yardsticks: compare by the picture '
        'above.') + details('the same as a table', latency_table(results)))


def arrival_section(results):
    lines = [[MODES[r['userfault']],
              *(report.count(r['counters'].get(key))
                for *_, key in charts.ARRIVALS)] for r in results]
    return section('What made each page come', way_keys()
                   + figure(charts.arrivals(results),
                            'Pages by who asked for them first; those of the '
                            'background stream came before anybody asked.')
                   + details('the same as a table', make_table(
                       'Pages', ['', *(name for _, name, _ in charts.ARRIVALS)],
                       lines)))


def how(results):
    """What was run on what"""
    settings, versions = results[0]['settings'], results[0]['versions']
    known = (
        ('guest', f'{settings["cpus"]} vCPUs, {settings["memory_mib"]} MiB'
         + (' in pages of 2 MiB' if settings['huge'] else '') + '; '
         f'{settings["hot_mib"]} MiB of it written and verified all the time, '
         f'seed {settings["seed"]}'),
        ('link', f'{settings["bandwidth_mib"]} MiB/s, '
         f'{settings["delay_us"]} us each way on top of its own; in postcopy '
         f'{settings["postcopy_bandwidth_mib"]} MiB/s for what nobody waits '
         'for; preempt channel ' + ('on' if settings['preempt'] else 'off')),
        ('precopy', f'{settings["passes"]} whole passes'),
        ('QEMU', versions['qemu']), ('kernel', versions['kernel']),
        ('machine', 'the test host: emulated, so absolute figures mean '
         'nothing; compare the modes' if versions['emulated']
         else 'this one, with its own KVM'))
    return section('How it was measured',
                   facts((name, micro(what)) for name, what in known))


def page(results):
    """The whole page; @results as in demo.json, each mode once."""
    results = report.in_order(results)
    title = 'Postcopy migration with and without KVM userfault'
    body = '\n'.join((
        tag('h1', title),
        tag('p', 'A guest that rewrites and verifies its memory all the time '
            'is migrated while it runs, once for each mode of the '
            'destination. With <code>userfault=on</code> a vCPU that touches '
            'an absent page leaves KVM and asks for that page itself; with '
            '<code>userfault=off</code> all go through userfaultfd.'),
        cards(results), time_section(results), latency_section(results),
        arrival_section(results),
        section('Side by side', result_table(results)),
        how(results)))
    return document(title, body)


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith('-'):
        sys.exit('usage: page.py demo.json > demo.html')
    try:
        results = json.loads(Path(sys.argv[1]).read_text())
        print(page(results), end='')
    except (OSError, ValueError) as error:
        sys.exit(f'page.py: {sys.argv[1]}: {error}')


if __name__ == '__main__':
    main()
