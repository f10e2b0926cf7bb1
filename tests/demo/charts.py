# SPDX-License-Identifier: GPL-2.0-or-later
"""The pictures of the demonstration's page, out of results as in demo.json.

Each function returns one SVG for each of harness.svg.SIZES, as one string, and gives
the figures of the picture as text in its description.
"""

import math

from harness.svg import CHARACTER, Decades, Linear, Picture, short
from harness.webpage import each_size
from report import count, duration

ROW, PANEL_TITLE, BAR = 22, 24, 26
ARRIVALS = (('vcpu', 'vCPU exit', 'pages-vcpu'),
            ('ahead', 'read-ahead', 'pages-readahead'),
            ('uffd', 'userfaultfd', 'pages-userfaultfd'),
            ('background', 'background', 'pages-background'))


def mode_class(result):
    return f'mode-{result["userfault"]}'


# --- over time ---------------------------------------------------------------

def time_range(results):
    """All of postcopy; of precopy three quarters as much at most."""
    high = max(r['times']['done'] for r in results) * 1.08
    low = min(r['times']['start'] for r in results)
    return max(low, -0.75 * high), high


def describe_time(results):
    return ' '.join(
        f'userfault={r["userfault"]}: '
        f'{count(r["guest_precopy_pages_per_s"])} pages verified per second '
        'in precopy, '
        f'{count(r["guest_postcopy_pages_per_s"])} in postcopy; '
        f'{count(r["faults_per_s"])} faults served per second; last page '
        f'{duration(r["times"]["done"] * 1e9)} after the switchover.'
        for r in results)


def over_time(results):
    """Phases, the guest's throughput and faults on one axis of time; the
    switchover is its zero."""
    return each_size(lambda size: draw_time(results, size))


def draw_time(results, size):
    top = ROW * len(results) + 8
    guest = (top + PANEL_TITLE, top + PANEL_TITLE + 190)
    faults = (guest[1] + PANEL_TITLE + 14, guest[1] + PANEL_TITLE + 134)
    picture = Picture('time', size, faults[1] + 40,
                      'The guest and its faults over time',
                      describe_time(results))
    x = Linear(*time_range(results), size.left, size.left + size.plot)
    draw_phases(picture, results, x, faults[1])
    draw_guest(picture, results, x, guest)
    draw_faults(picture, results, x, faults)
    picture.time_axis(x, faults[1])
    picture.write(x.end, faults[1] + 34, 'seconds since the switchover',
                  'tick', 'end')
    return picture.text()


def draw_phases(picture, results, x, bottom):
    for i, result in enumerate(results):
        y, times = ROW * i, result['times']
        picture.write(0, y + 14, result['userfault'], mode_class(result))
        for name, start, end in (('precopy', times['start'], 0.0),
                                 ('postcopy', times['resumed'],
                                  times['done'])):
            draw_phase(picture, x, y, name, start, end)
        end = times['done']
        if end < x.high:
            picture.line(x.at(end), y, x.at(end), bottom,
                         f'end {mode_class(result)}')
    picture.line(x.at(0), 0, x.at(0), bottom, 'zero')


def draw_phase(picture, x, y, name, start, end):
    left, width = x.at(start), x.at(end) - x.at(start)
    long = f'{name} {duration((end - start) * 1e9)}'
    picture.rect(left, y, width, ROW - 4, f'phase {name}', long)
    for text in (long, name):
        if len(text) * CHARACTER + 8 < width:
            picture.write(left + 5, y + 13, text, 'inside')
            return


def draw_guest(picture, results, x, panel):
    rates = [rate for r in results for *_, rate in r['guest_rates']]
    positive = [rate for rate in rates if rate > 0] or [1]
    low = 10 ** math.floor(math.log10(max(min(positive), 1)))
    high = max(10 ** math.ceil(math.log10(max(positive))), 10 * low)
    y = Decades(low, high, panel[1], panel[0])
    picture.write(picture.size.left, panel[0] - 9,
                  'pages the guest verified per second', 'panel')
    picture.values_axis(y, 5)
    draw_lines(picture, results, 'guest_rates', x, y)


def draw_faults(picture, results, x, panel):
    high = max([rate for r in results for *_, rate in r['fault_rates']],
               default=0)
    y = Linear(0, high * 1.05 or 1, panel[1], panel[0])
    picture.write(picture.size.left, panel[0] - 9,
                  'page faults served per second', 'panel')
    picture.values_axis(y, 5)
    draw_lines(picture, results, 'fault_rates', x, y)


def draw_lines(picture, results, rates, x, y):
    for result in reversed(results):            # on lies on top
        picture.steps(result[rates], x, y, mode_class(result))


# --- how long faults took ----------------------------------------------------

def octaves(ranges, least=0):
    """{i: faults of 2^i to 2^(i+1) ns} of (low, high, count) @ranges from
    @least ns on"""
    found = {}
    for low, _, n in ranges:
        if n and low >= least:
            i = max(low, 1).bit_length() - 1
            found[i] = found.get(i, 0) + n
    return found


def guest_octaves(result):
    """As the guest measured it, by its first touch of a page"""
    return octaves(result['guest_touches'],
                   result['settings']['slow_us'] * 1000)


def qemu_octaves(result, name):
    """As QEMU measured it: latency or userfaultfd-latency"""
    counted = result['counters'].get(name, {}).get('distribution', [])
    return {i: n for i, n in enumerate(counted) if n}


def guest_series(result):
    latency = result['guest_latency']
    return {'mode': result['userfault'], 'p50': latency['p50'],
            'p99': latency['p99'],
            'parts': [('guest', 'first touches', guest_octaves(result))]}


def qemu_series(result):
    """The way that served the most has the word about p50 and p99."""
    ways = [('vcpu', 'vCPU exits', 'latency', result['vcpu_latency']),
            ('uffd', 'userfaultfd', 'userfaultfd-latency',
             result['uffd_latency'])]
    main = max((w[3] for w in ways if w[3]), key=lambda l: l['count'],
               default={'p50': None, 'p99': None})
    return {'mode': result['userfault'], 'p50': main['p50'],
            'p99': main['p99'],
            'parts': [(kind, name, qemu_octaves(result, key))
                      for kind, name, key, _ in ways]}


def total(series):
    return sum(sum(counts.values()) for _, _, counts in series['parts'])


def octave_range(results):
    """The octaves anything fell into, in both of the pictures."""
    used = {i for r in results for series in (guest_series(r), qemu_series(r))
            for _, _, counts in series['parts'] for i in counts}
    return (min(used, default=10), max(used, default=20) + 1)


def latencies(results, which):
    """@which: 'guest' or 'qemu'"""
    make = {'guest': guest_series, 'qemu': qemu_series}[which]
    all_series = [s for s in map(make, results) if total(s)]
    span = octave_range(results)
    return each_size(lambda size: draw_latency(which, all_series, span, size))


def describe_latency(all_series):
    return ' '.join(
        f'userfault={s["mode"]}: {count(total(s))} faults, half of them '
        f'within {duration(s["p50"])}, 99 of 100 within {duration(s["p99"])}.'
        for s in all_series)


def tallest(all_series, octave):
    return max((sum(c.get(octave, 0) for *_, c in s['parts']) / total(s)
                for s in all_series), default=0)


def draw_latency(which, all_series, span, size):
    top = ROW * len(all_series) + 14
    bottom = top + 170
    who = {'guest': 'the guest', 'qemu': 'QEMU'}[which]
    picture = Picture(f'latency-{which}', size, bottom + 38,
                      f'How long page faults took, as {who} measured it',
                      describe_latency(all_series))
    high = max((tallest(all_series, i) for i in range(*span)), default=0)
    x = Linear(span[0], span[1], size.left, size.left + size.plot)
    y = Linear(0, high * 105 or 1, bottom, top)
    picture.values_axis(y, 4, lambda v: f'{v:g}%')
    for i, series in enumerate(all_series):
        draw_marks(picture, series, x, ROW * i + 12, bottom)
        draw_bars(picture, series, x, y, (i, len(all_series)))
    draw_octaves(picture, span, x, bottom)
    return picture.text()


def draw_octaves(picture, span, x, bottom):
    picture.line(x.start, bottom, x.end, bottom, 'axis')
    shown = math.ceil(60 / (x.at(span[0] + 1) - x.at(span[0])))
    for i in range(span[0], span[1] + 1):
        picture.line(x.at(i), bottom, x.at(i), bottom + 4, 'axis')
        if (i - span[0]) % shown == 0:
            picture.write(x.at(i), bottom + 17, micro(duration(1 << i)),
                          'tick', 'middle')
    picture.write(x.end, bottom + 34, 'duration; each bar twice the one before',
                  'tick', 'end')


def draw_bars(picture, series, x, y, place):
    """Side by side with those of other modes; parts on top of each other."""
    index, of = place
    whole = total(series)
    for octave in sorted({i for *_, c in series['parts'] for i in c}):
        step = x.at(octave + 1) - x.at(octave)
        left = x.at(octave) + step * (0.08 + 0.84 * index / of)
        below = 0.0
        for kind, name, counts in series['parts']:
            n = counts.get(octave, 0)
            if n:
                part = n / whole * 100
                upper = y.at(below + part)
                picture.rect(left, upper, step * 0.84 / of - 1,
                             y.at(below) - upper,
                             f'bar mode-{series["mode"]} {kind}',
                             bar_title(series['mode'], name, octave, n, part))
                below += part


def bar_title(mode, name, octave, n, part):
    return (f'userfault={mode}, {name}, {micro(duration(1 << octave))} to '
            f'{micro(duration(2 << octave))}: {n:,} ({part:.1f} %)')


def draw_marks(picture, series, x, y, bottom):
    """A row with the median and the 99th percentile."""
    kind = f'mode-{series["mode"]}'
    picture.write(0, y + 4, series['mode'], kind)
    if series['p50'] is None:
        return
    half, most = (x.at(math.log2(series[key])) for key in ('p50', 'p99'))
    picture.line(half, y, most, y, f'span {kind}')
    picture.line(half, y, half, bottom, f'end {kind}')
    for at, name, anchor, step in ((half, 'p50', 'end', -7),
                                   (most, 'p99', 'start', 7)):
        text = f'{name} {micro(duration(series[name]))}'
        picture.dot(at, y, f'dot {kind}', text)
        picture.write(at + step, y + 4, text, 'mark', anchor)


def micro(text):
    return text.replace(' us', ' µs')


# --- how pages arrived -------------------------------------------------------

def arrivals(results):
    """A bar for each mode, by what made its pages come."""
    counted = [r for r in results if 'pages-vcpu' in r['counters']]
    return each_size(lambda size: draw_arrivals(counted, size))


def describe_arrivals(results):
    return ' '.join(
        f'userfault={r["userfault"]}: '
        + ', '.join(f'{count(r["counters"][key])} by {name}'
                    for _, name, key in ARRIVALS) + '.' for r in results)


def draw_arrivals(results, size):
    height = BAR + 12
    picture = Picture('arrivals', size, height * len(results) + 30,
                      'How pages arrived', describe_arrivals(results))
    most = max((sum(r['counters'][key] for *_, key in ARRIVALS)
                for r in results), default=0)
    x = Linear(0, most or 1, size.left, size.left + size.plot)
    for i, result in enumerate(results):
        draw_arrival(picture, result, x, height * i)
    bottom = height * len(results)
    picture.line(x.start, bottom, x.end, bottom, 'axis')
    for value in x.ticks(size.width / 120):
        picture.line(x.at(value), bottom, x.at(value), bottom + 4, 'axis')
        picture.write(x.at(value), bottom + 17, short(value), 'tick', 'middle')
    return picture.text()


def draw_arrival(picture, result, x, y):
    picture.write(0, y + 18, result['userfault'], mode_class(result))
    before = 0
    for kind, name, key in ARRIVALS:
        n = result['counters'][key]
        if not n:
            continue
        # Four pages among thousands are to be seen, too.
        width = max(x.at(before + n) - x.at(before), 1.5)
        picture.rect(x.at(before), y, width, BAR, f'way {kind}',
                     f'{name}: {n:,} pages')
        text = f'{n:,}'
        if len(text) * CHARACTER + 8 < width:
            picture.write(x.at(before) + 5, y + 17, text, 'inside')
        before += n
