# SPDX-License-Identifier: GPL-2.0-or-later
"""The pictures of the benchmark's page, out of results.Result objects.

Each has its figures as text in its description.  A mark is the median of the
rounds; what is drawn around it goes from the smallest to the largest.
"""

import math
import re
from dataclasses import dataclass

from harness.svg import WIDE, CHARACTER, Decades, Linear, Picture, Size, short
from harness.webpage import each_size
from report import cell
from saved import line_of, micro

NAME, LINE, GAP = 18, 16, 10    # heights of a case's name, a mode, what follows
# Names of cases stand on the left where there is room, above otherwise.
ROW_SIZES = (Size('wide', 900, 236, 12), Size('narrow', 360, 80, 12))
TREND_SIZES = (WIDE, Size('narrow', 360, 54))
SMALL = Size('each', 290, 44, 12)
PANEL, PANEL_TITLE = 150, 36
LOGARITHMIC = 30                # from that factor between values on
PERCENTILES = ('p50', 'p90', 'p99')


def microseconds(value):
    """On an axis"""
    for unit, size in (('s', 1e6), ('ms', 1e3)):
        if value >= size:
            return f'{value / size:g} {unit}'
    return f'{value:g} µs'


def spoken(result, figure, keys, digits=0):
    """'on 3,083 (2,900..3,200), off 1,679 (...)'"""
    return ', '.join(f'{key} {cell(result.spread(figure, key), 1, digits)}'
                     for key in keys if result.spread(figure, key))


def decades(values):
    """The whole ones around @values"""
    known = [value for value in values if value > 0] or [1]
    low = 10 ** math.floor(math.log10(min(known)))
    return low, max(10 ** math.ceil(math.log10(max(known))), 10 * low)


# --- a row for each case and mode --------------------------------------------

def rows_height(results, size):
    above = 0 if size is ROW_SIZES[0] else NAME
    return sum(above + LINE * len(r.modes) + GAP for r in results)


def rows(picture, results):
    """Writes the names; (result, mode, middle of its row) of each row."""
    above = 0 if picture.size is ROW_SIZES[0] else NAME
    top = 0
    for result in results:
        picture.write(0, top + 12, result.name, 'case')
        top += above
        for mode in result.modes:
            picture.write(picture.size.left - 8, top + 12, mode,
                          f'mode-{mode}', 'end')
            yield result, mode, top + LINE / 2
            top += LINE
        top += GAP


def bottom_axis(picture, x, bottom, values, form, title):
    for value in values:
        picture.line(x.at(value), 0, x.at(value), bottom, 'grid')
        picture.write(x.at(value), bottom + 15, form(value), 'tick', 'middle')
    picture.line(x.start, bottom, x.end, bottom, 'axis')
    picture.write(x.end, bottom + 33, title, 'tick', 'end')


def rates(results):
    """Pages fetched on demand: a bar for each mode of each case"""
    about = ' '.join(f'{r.name}: {spoken(r, "requests_per_s", r.modes)}.'
                     for r in results)
    return each_size(lambda size: draw_rates(results, size, about), ROW_SIZES)


def draw_rates(results, size, about):
    bottom = rows_height(results, size)
    picture = Picture('rates', size, bottom + 38,
                      'Pages fetched on demand per second', about)
    high = max((s.max for r in results for m in r.modes
                if (s := r.spread('requests_per_s', m))), default=1)
    x = Linear(0, high or 1, size.left, size.left + size.plot - 7 * CHARACTER)
    bottom_axis(picture, x, bottom, x.ticks(size.plot / 90), short,
                'pages per second')
    for result, mode, y in rows(picture, results):
        spread = result.spread('requests_per_s', mode)
        if spread:
            draw_rate(picture, x, y, spread, mode, result.name)
    return picture.text()


def draw_rate(picture, x, y, spread, mode, name):
    kind = f'mode-{mode}'
    picture.rect(x.start, y - 5, x.at(spread.median) - x.start, 10,
                 f'middle {kind}', f'{name}, {mode}: {cell(spread)}')
    picture.line(x.at(spread.min), y, x.at(spread.max), y, f'whisker {kind}')
    for end in (spread.min, spread.max):
        picture.line(x.at(end), y - 4, x.at(end), y + 4, f'whisker {kind}')
    picture.write(x.at(spread.max) + 5, y + 4, f'{spread.median:,.0f}', 'value')


def latencies(results):
    """Percentiles of the guest's faults: a line for each mode of each case"""
    about = ' '.join(
        f'{r.name}, {mode}: ' + ', '.join(
            f'{p} {cell(r.spread(f"latency_{p}_us", mode))}'
            for p in (*PERCENTILES, 'max')) + ' µs.'
        for r in results for mode in r.modes)
    return each_size(lambda size: draw_latencies(results, size, about),
                     ROW_SIZES)


def draw_latencies(results, size, about):
    bottom = rows_height(results, size)
    picture = Picture('latency', size, bottom + 38,
                      'How long page faults took in the guest', about)
    known = [value for r in results for m in r.modes
             for p in (*PERCENTILES, 'max')
             if (s := r.spread(f'latency_{p}_us', m))
             for value in (s.min, s.max)]
    x = Decades(*decades(known), size.left, size.left + size.plot)
    bottom_axis(picture, x, bottom, x.ticks(), microseconds,
                'logarithmic scale')
    for result, mode, y in rows(picture, results):
        draw_percentiles(picture, x, y, result, mode)
    return picture.text()


def draw_percentiles(picture, x, y, result, mode):
    kind = f'mode-{mode}'
    first, last = (result.spread(f'latency_{p}_us', mode)
                   for p in ('p50', 'max'))
    if not first or not last:
        return
    picture.line(x.at(first.median), y, x.at(last.median), y, f'span {kind}')
    picture.line(x.at(last.median), y - 5, x.at(last.median), y + 5,
                 f'most {kind}')
    for name in PERCENTILES:
        spread = result.spread(f'latency_{name}_us', mode)
        if spread:
            picture.rect(x.at(spread.min), y - 5,
                         max(x.at(spread.max) - x.at(spread.min), 1), 10,
                         f'spread {kind}')
            picture.dot(x.at(spread.median), y, f'dot {kind}',
                        f'{result.name}, {mode}, {name}: {cell(spread)} µs')


# --- a case beside others that differ in one thing ---------------------------

@dataclass(frozen=True)
class Panel:
    """One figure of each case"""
    title: str
    figure: str
    is_ratio: bool = False
    form: object = short

    def keys(self, result):
        return result.ratios() if self.is_ratio else result.modes

    @property
    def digits(self):
        return 2 if self.is_ratio else 0

    def marks(self, points):
        """(position, key, spread) of each that is known"""
        return [(at, key, spread) for at, _, result in points
                for key in self.keys(result)
                if (spread := result.spread(self.figure, key))]


RATE = Panel('pages fetched on demand per second', 'requests_per_s')
RATE_RATIO = Panel('the same, ratio', 'requests_per_s', True)
LATENCY = Panel('median fault latency in the guest', 'latency_p50_us',
                form=microseconds)
LATENCY_RATIO = Panel('the same, ratio', 'latency_p50_us', True)
PANELS = (RATE, RATE_RATIO, LATENCY, LATENCY_RATIO)


def describe(points, panels):
    return ' '.join(
        f'{label}, {panel.title}: '
        f'{spoken(result, panel.figure, panel.keys(result), panel.digits)}.'
        for panel in panels for _, label, result in points
        if panel.marks([(0, label, result)]))


def cpu_points(results):
    """(position, label, result); twice the vCPUs are one step."""
    return [(math.log2(r.cpus), str(r.cpus), r) for r in results]


def network_points(results):
    return [(i, micro(r.network) or 'UNIX', r) for i, r in enumerate(results)]


def known_panels(points):
    """Those that anything is known about; a ratio after what it is of"""
    return [panel for panel in PANELS if panel.marks(points)]


def trend(name, title, points, axis, joined):
    """@axis: what its labels are; @joined: are there values in between?"""
    panels = known_panels(points)
    about = describe(points, panels)

    def draw(size):
        height = (PANEL + PANEL_TITLE) * len(panels)
        picture = Picture(name, size, height + 40, title, about)
        space = 0.5 if joined else 0.6
        x = Linear(points[0][0] - space, points[-1][0] + space, size.left,
                   size.left + size.plot)
        for i, panel in enumerate(panels):
            top = (PANEL + PANEL_TITLE) * i + PANEL_TITLE
            draw_panel(picture, panel, points, x, (top, top + PANEL - 10),
                       joined)
        for at, label, _ in points:
            picture.write(x.at(at), height + 8, label, 'tick', 'middle')
        picture.write(x.end, height + 28, axis, 'tick', 'end')
        return picture.text()
    return each_size(draw, TREND_SIZES)


def value_scale(panel, marks, top, bottom):
    """(scale, is it logarithmic?)"""
    low = min(spread.min for *_, spread in marks)
    high = max(spread.max for *_, spread in marks)
    if not panel.is_ratio and low > 0 and high / low > LOGARITHMIC:
        return Decades(*decades([low, high]), bottom, top), True
    if panel.is_ratio:
        high = max(high, 1.0) * 1.15            # a figure stands above each
    return Linear(0, high * 1.05 or 1, bottom, top), False


def panel_title(panel, keys, is_logarithmic):
    if panel.is_ratio:
        return f'{panel.title} ' + (keys[0] if len(keys) == 1 else
                                    'to ' + keys[0].partition('/')[2])
    return panel.title + (', logarithmic' if is_logarithmic else '')


def draw_panel(picture, panel, points, x, place, joined):
    marks = panel.marks(points)
    y, is_logarithmic = value_scale(panel, marks, *place)
    keys = list(dict.fromkeys(key for _, key, _ in marks))
    picture.write(0, place[0] - 15, panel_title(panel, keys, is_logarithmic),
                  'panel')
    picture.values_axis(y, 4, panel.form)
    if panel.is_ratio:
        picture.line(x.start, y.at(1), x.end, y.at(1), 'zero')
    for i, key in enumerate(keys):
        # Side by side, so that none hides another
        aside = (i - (len(keys) - 1) / 2) * 9
        draw_series(picture, panel, [(at, s) for at, k, s in marks if k == key],
                    key, x, y, aside, joined)
    if panel.is_ratio and len(keys) == 1:
        for at, _, spread in marks:
            picture.write(x.at(at), y.at(spread.max) - 6,
                          f'{spread.median:.2f}', 'mark', 'middle')


def draw_series(picture, panel, marks, key, x, y, aside, joined):
    kind = f'mode-{key.partition("/")[0]}'
    shifted = Linear(x.low, x.high, x.start + aside, x.end + aside)
    if joined and len(marks) > 1:
        picture.curve([(at, s.median) for at, s in marks], shifted, y, kind)
    for at, spread in marks:
        left = shifted.at(at)
        picture.line(left, y.at(spread.min), left, y.at(spread.max),
                     f'whisker {kind}')
        for end in (spread.min, spread.max):
            picture.line(left - 3, y.at(end), left + 3, y.at(end),
                         f'whisker {kind}')
        picture.dot(left, y.at(spread.median), f'dot {kind}',
                    f'{key}: {cell(spread, 1, panel.digits)}')


# --- over time ---------------------------------------------------------------

def progress(result):
    """Pages asked for over time; '' if the case has no timelines."""
    lines = {mode: line for mode in result.modes
             if (line := line_of(result, mode))}
    if not lines:
        return ''
    name = re.sub(r'[^\w-]', '-', result.name)
    picture = Picture(f'progress-{name}', SMALL, 196,
                      f'Pages asked for over time, {result.name}',
                      ' '.join(describe_line(m, l) for m, l in lines.items()))
    x = Linear(0, max(line[-1][0] for line in lines.values()), SMALL.left,
               SMALL.left + SMALL.plot)
    y = Linear(0, max(p[3] for line in lines.values() for p in line) or 1,
               160, 26)
    picture.write(0, 13, result.name, 'panel')
    picture.values_axis(y, 4)
    picture.time_axis(x, 160)
    picture.write(x.end, 192, 'seconds', 'tick', 'end')
    for mode, line in reversed(lines.items()):      # the first lies on top
        kind = f'mode-{mode}'
        picture.band([(t, low, high) for t, _, low, high in line], x, y, kind)
        picture.curve([(t, middle) for t, middle, *_ in line], x, y, kind)
    return picture.text()


def describe_line(mode, line):
    time, middle, low, high = line[-1]
    return (f'{mode}: after {time:.1f} s {middle:,.0f} pages on average '
            f'({low:,.0f}..{high:,.0f}).')
