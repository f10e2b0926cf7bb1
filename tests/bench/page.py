#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The results of the benchmark as one page that needs nothing else:

    page.py build/bench/bench.json > bench.html

Every figure on it is out of the summaries, as in bench.txt; those over time are
out of the timelines.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent / 'guest'), str(HERE)]

import cases                                                # noqa: E402
import charts                                               # noqa: E402
import targets                                              # noqa: E402
import report                                               # noqa: E402
import saved as saved_results                               # noqa: E402
from harness import webpage                                 # noqa: E402
from harness.svg import escape                              # noqa: E402
from harness.webpage import (Markup, details, document,     # noqa: E402
                             facts, figure, figure_card, group_table,
                             make_table, mode_keys, section, tag)
from saved import modes_of, ratios_of                     # noqa: E402

STYLE = HERE / 'style.css'       # beside that of all pages
TITLE = 'Fetching pages in postcopy, with KVM userfault and without'
# (head, figure, factor, digits)
SUMMARY = (
    ('pages fetched on demand /s', 'requests_per_s', 1, 0),
    ('guest faults /s per vCPU', 'faults_per_s_per_vcpu', 1, 0),
    ('latency p50, µs', 'latency_p50_us', 1, 0),
    ('p90', 'latency_p90_us', 1, 0),
    ('p99', 'latency_p99_us', 1, 0),
    ('max', 'latency_max_us', 1, 0),
    ('host CPU µs per fault, destination',
     'destination_host_cpu_us_per_request', 1, 0),
    ('likewise, source', 'source_host_cpu_us_per_request', 1, 0),
    ('last page after, s', 'last_page_s', 1, 2),
)
ORDERS = {
    'random': 'each vCPU has a part of its own, in random order',
    'sequential': 'each vCPU has a part of its own, from page to page',
    'strided': 'each vCPU has a part of its own, with large steps',
    'shared': 'all vCPUs touch the same pages',
    'moving': 'each vCPU works within a window that moves through its part',
}


def mode_text(mode):
    return f'{mode}: {cases.MODES[mode].text}' if mode in cases.MODES else mode


def legend(results):
    return mode_keys((mode, mode_text(mode)) for mode in modes_of(results))


def ratio_text(key):
    return ' / '.join(key.split('/'))


# --- tables ------------------------------------------------------------------

def two_lines(spread, factor=1, digits=0):
    """The text of report.cell(); what is in brackets in a line of its own"""
    middle, _, rest = report.cell(spread, factor, digits).partition(' ')
    return Markup(middle + (tag('small', rest.strip('()')) if rest else ''))


def summary_table(results):
    groups = []
    for result in results:
        lines = [[mode, *(two_lines(result.spread(f, mode), factor, digits)
                          for _, f, factor, digits in SUMMARY)]
                 for mode in result.modes]
        lines += [[ratio_text(key), *(two_lines(result.spread(f, key), 1, 2)
                                      for _, f, *_ in SUMMARY)]
                  for key in result.ratios()]
        groups.append((result.text, lines))
    return group_table('Median of the rounds; below it smallest..largest',
                       ['', *(head for head, *_ in SUMMARY)], groups)


def full_names():
    """Of report.ROWS, where rows leave out what is in a row above them"""
    names, head = [], ''
    for text, *_ in report.ROWS:
        if not text.startswith(' '):
            head = text.replace(', us', ', µs').replace('CPU us', 'CPU µs')
            names.append(head)
        elif 'p50' in head:
            names.append(head.replace('p50', text.strip()))
        else:
            names.append(f'{head.removesuffix(", MiB")}, {text.strip()}')
    return names


def full_table(result):
    """As in bench.txt"""
    lines = [[name,
              *(report.cell(result.spread(figure_, mode), factor, digits)
                for mode in result.modes),
              *(report.cell(result.spread(figure_, key), 1, 2) if ratio else ''
                for key in result.ratios())]
             for name, (_, figure_, factor, digits, ratio)
             in zip(full_names(), report.ROWS)
             if any(result.spread(figure_, mode) for mode in result.modes)]
    return make_table(result.text, [
        '', *result.modes, *map(ratio_text, result.ratios())], lines)


def trend_table(caption, points):
    """The figures of charts.trend()"""
    columns = [(panel, key) for panel in charts.known_panels(points)
               for key in dict.fromkeys(k for _, k, _ in panel.marks(points))]
    head = [('pages /s' if panel.figure == 'requests_per_s'
             else 'latency p50' + ('' if panel.is_ratio else ', µs'))
            + f', {ratio_text(key)}' for panel, key in columns]
    lines = [[label, *(two_lines(result.spread(panel.figure, key), 1,
                                 panel.digits) for panel, key in columns)]
             for _, label, result in points]
    return make_table(caption, ['', *head], lines)


def progress_table(results):
    """The figures of charts.progress() at each second"""
    modes = modes_of(results)
    return group_table(
        'Pages asked for: mean (smallest..largest) of the rounds',
        ['seconds', *modes], [(result.name, progress_lines(result, modes))
                              for result in results])


def progress_lines(result, modes):
    runs = {mode: found for mode in modes
            if (found := saved_results.runs_of(result, mode))}
    ends = {mode: saved_results.end_of(found) for mode, found in runs.items()}
    times = sorted({*range(1, int(max(ends.values(), default=0)) + 1),
                    *(round(end, 1) for end in ends.values())})
    lines = []
    for time in times:
        cells = ['-' if mode not in runs or time > round(ends[mode], 1)
                 else progress_cell(saved_results.progress(
                     runs[mode], [min(time, ends[mode])])[0])
                 for mode in modes]
        lines.append([f'{time:g}', *cells])
    return lines


def progress_cell(point):
    _, middle, low, high = point
    return f'{middle:,.0f} ({low:,.0f}..{high:,.0f})'


# --- parts of the page -------------------------------------------------------

def qemu_text(versions):
    """Of what query-version said on source and destination"""
    def one(said):
        number = said.get('qemu', {})
        return ('.'.join(str(number.get(part, '?'))
                         for part in ('major', 'minor', 'micro'))
                + (f' ({said["package"]})' if said.get('package') else ''))
    texts = list(dict.fromkeys(map(one, versions)))
    return ' to '.join(texts)


def compared_section(saved, results):
    """What was run on what"""
    counts = sorted({result.rounds for result in results})
    modes = modes_of(results)
    known = [
        ('machine', f'{saved["cpus"]} CPUs'
         + (f', {saved["model"]}' if saved.get('model') else '')
         + ('; the test host: emulated, so absolute figures mean nothing; '
            'compare the modes' if saved['emulated'] else '')),
        ('kernel', saved['kernel']),
        *((f'QEMU, {mode}', qemu_text(saved['qemu'][mode])) for mode in modes
          if saved.get('qemu', {}).get(mode)),
        ('began', saved['began'].replace('T', ' ').replace('Z', ' UTC')),
        ('window', f'{saved["window_s"]:g} s after the switchover, or until '
         'nearly all pages have come; the background stream is a trickle '
         'meanwhile'),
        ('fault', f'a touch that takes {saved["slow_us"]} µs or more'),
        ('rounds', '..'.join(dict.fromkeys(map(str, (counts[0], counts[-1]))))
         + ' of each case; each has all modes, every other one in reverse '
         'order; a ratio is taken within its round'),
        *((f'{order} cases', ORDERS[order]) for order in dict.fromkeys(
            result.order for result in results) if order in ORDERS)]
    return section('What was compared', legend(results) + facts(known))


def cards(results):
    """The first case, and the ratio of all"""
    first, found = results[0], []
    for title, name, digits in (
            ('pages fetched on demand per second', 'requests_per_s', 0),
            ('fault latency in the guest p50, µs', 'latency_p50_us', 0),
            ('fault latency in the guest p99, µs', 'latency_p99_us', 0)):
        values = [(mode, f'{spread.median:,.{digits}f}') for mode in first.modes
                  if (spread := first.spread(name, mode))]
        found.append(figure_card(title, webpage.compared(values),
                                 f'{first.name}: ' + ' | '.join(
                                     mode for mode, _ in values)))
    for key in ratios_of(results)[:1]:
        medians = [spread.median for result in results
                   if (spread := result.spread('requests_per_s', key))]
        if medians:
            found.append(figure_card(
                f'pages per second, {ratio_text(key)}',
                tag('b', escape('..'.join(dict.fromkeys(
                    f'{value:.2f}' for value in (min(medians),
                                                 max(medians)))))),
                f'medians of {len(medians)} cases'))
    return tag('div', '\n'.join(found), class_='figures')


def summary_section(results):
    return section('Summary', summary_table(results) + tag(
        'p', 'Latency is what the guest measured. Host CPU time is that of '
        'QEMU and the kernel without the guest itself. Smaller is better for '
        'both, and for the last page.', class_='soft'))


def goal_section(saved):
    told = targets.lines(saved['cases'])
    return section('Goals', tag('ul', '\n'.join(
        tag('li', escape(line)) for line in told))) if told else ''


def rate_section(results):
    return section('Pages fetched on demand', legend(results) + figure(
        charts.rates(results),
        'The bar ends at the median of the rounds, the mark on it goes from '
        'the smallest to the largest. The figures are those of the summary.'))


def latency_section(results):
    return section('How long a page fault took', legend(results) + figure(
        charts.latencies(results),
        'Seen by the guest. The dots are p50, p90 and p99, the stroke is the '
        'longest; medians of the rounds. The shade around a dot goes from the '
        'smallest to the largest. The figures are those of the summary.'))


# By name: (title, points of results, axis, are there values in between?)
TRENDS = {
    'cpus': ('By number of vCPUs', lambda results: charts.cpu_points(
        saved_results.by_cpus(results)), 'vCPUs', True),
    'network': ('By network', lambda results: charts.network_points(
        saved_results.by_network(results)),
        'delay of each packet, each way, or rate', False),
}


def trend(results, name):
    """The picture in both sizes"""
    title, points_of, axis, joined = TRENDS[name]
    return charts.trend(name, title, points_of(results), axis, joined)


def trend_section(results, name):
    """'' where there is nothing to compare"""
    title, points_of, *_ = TRENDS[name]
    points = points_of(results)
    if not points:
        return ''
    what = points[0][2]
    return section(title, legend([r for *_, r in points]) + figure(
        trend(results, name),
        f'{what.order} order, {what.access}s. Median of the rounds, with marks '
        'from the smallest to the largest.'
        + (' Above the line at 1 the first of a ratio is larger.'
           if ratios_of([r for *_, r in points]) else ''))
        + details('the same as a table', trend_table(title, points)))


def progress_section(results):
    pictures = [charts.progress(result) for result in results]
    if not any(pictures):
        return ''
    return section('Pages asked for over time', legend(results) + tag(
        'figure', tag('div', '\n'.join(filter(None, pictures)), class_='many')
        + tag('figcaption', 'Since just before the switchover. The line is the '
              'mean of the rounds, the band goes from the smallest to the '
              'largest; both end with the round that ended first.'))
        + details('the same as a table', progress_table(results)))


def page(saved):
    """The whole page; @saved as in bench.json."""
    results = saved_results.load(saved)
    parts = [tag('h1', TITLE), tag(
        'p', 'A guest whose vCPUs touch memory that is not there is migrated '
        'by postcopy, in rounds. With <code>userfault=on</code> a vCPU that '
        'touches an absent page leaves KVM and asks for that page itself; with '
        '<code>userfault=off</code> all go through userfaultfd.')]
    if not results:
        parts.append(tag('p', 'No round has come to its end.'))
        return document(TITLE, '\n'.join(parts))
    parts += [
        cards(results), compared_section(saved, results),
        summary_section(results), goal_section(saved), rate_section(results),
        trend_section(results, 'cpus'),
        latency_section(results),
        trend_section(results, 'network'),
        progress_section(results),
        section('All figures', details(
            'a table for each case',
            '\n'.join(full_table(result) for result in results)))]
    return document(TITLE, '\n'.join(filter(None, parts)), STYLE.read_text())


def read(path):
    """What a bench.json holds; ValueError if it is none."""
    saved = json.loads(path.read_text(encoding='utf-8'))
    if not isinstance(saved, dict) or saved.get('format') != 1:
        raise ValueError('not a bench.json of format 1')
    return saved


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith('-'):
        sys.exit('usage: page.py bench.json > bench.html')
    try:
        saved = read(Path(sys.argv[1]))
        sys.stdout.reconfigure(encoding='utf-8')
        print(page(saved), end='')
    except (OSError, ValueError) as error:
        sys.exit(f'page.py: {sys.argv[1]}: {error}')


if __name__ == '__main__':
    main()
