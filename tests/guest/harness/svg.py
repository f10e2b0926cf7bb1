# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures as SVG text: scales, axes, marks.  Nothing here knows migrations.

A picture is made for a Size; there is one for wide and one for narrow screens,
with letters of the same size, as letters that shrink with the picture cannot
be read on a phone.  Colours are classes, which the page's style gives a value
for light and for dark.
"""

import html
import math
from dataclasses import dataclass

CHARACTER = 7.0                 # width of one at FONT, about
FONT = 12


@dataclass(frozen=True)
class Size:
    """Of a picture, in units of a CSS pixel."""
    name: str
    width: int
    left: int                   # where the axis of values stands
    right: int = 12             # space after the last

    @property
    def plot(self):
        return self.width - self.left - self.right


WIDE = Size('wide', 900, 64)
NARROW = Size('narrow', 360, 46)
SIZES = (WIDE, NARROW)


def escape(text):
    return html.escape(str(text), quote=True)


def number(value):
    """A coordinate: no more digits than one can see."""
    return f'{value:.1f}'.rstrip('0').rstrip('.')


class Linear:
    """Values from @low to @high onto coordinates from @start to @end."""

    def __init__(self, low, high, start, end):
        self.low, self.high, self.start, self.end = low, high, start, end

    def at(self, value):
        part = (value - self.low) / (self.high - self.low)
        return self.start + min(max(part, 0.0), 1.0) * (self.end - self.start)

    def ticks(self, about):
        """Round values, at most @about and a few."""
        step = nice_step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


class Decades(Linear):
    """The same of the logarithm; what is below @low counts as @low."""

    def at(self, value):
        return Linear(math.log10(self.low), math.log10(self.high), self.start,
                      self.end).at(math.log10(max(value, self.low)))

    def ticks(self, about=0):
        first = round(math.log10(self.low))
        last = math.floor(math.log10(self.high) + 1e-9)
        return [10 ** i for i in range(first, last + 1)]


def nice_step(least):
    """1, 2 or 5 times a power of ten, no smaller than @least."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step for step in (power, 2 * power, 5 * power, 10 * power)
                if step >= least * (1 - 1e-9))


def short(value):
    """A number on an axis: 20k, 1.5M"""
    for unit, size in (('M', 1e6), ('k', 1e3)):
        if abs(value) >= size:
            return f'{value / size:g}{unit}'
    return f'{value:g}'


class Picture:
    """Collects marks; text() is the whole element."""

    def __init__(self, name, size, height, title, description):
        self.name = f'{name}-{size.name}'
        self.size = size
        self.height = height
        self.title, self.description = title, description
        self.marks = []

    def line(self, x1, y1, x2, y2, kind):
        self.marks.append(f'<line class="{kind}" x1="{number(x1)}" '
                          f'y1="{number(y1)}" x2="{number(x2)}" '
                          f'y2="{number(y2)}"/>')

    def rect(self, x, y, width, height, kind, title=''):
        """A box; @title is shown by the pointer."""
        self.marks.append(
            f'<rect class="{kind}" x="{number(x)}" y="{number(y)}" '
            f'width="{number(width)}" height="{number(height)}"'
            + (f'><title>{escape(title)}</title></rect>' if title else '/>'))

    def write(self, x, y, text, kind='', anchor='start'):
        """@text, moved so that it stays within the picture"""
        width = len(text) * CHARACTER
        before = {'start': 0, 'middle': width / 2, 'end': width}[anchor]
        x = max(x, before)
        x = min(x, self.size.width - width + before)
        self.marks.append(f'<text class="{kind}" x="{number(x)}" '
                          f'y="{number(y)}" text-anchor="{anchor}">'
                          f'{escape(text)}</text>')

    def dot(self, x, y, kind, title):
        self.marks.append(f'<circle class="{kind}" cx="{number(x)}" '
                          f'cy="{number(y)}" r="3.5">'
                          f'<title>{escape(title)}</title></circle>')

    def steps(self, ranges, x, y, kind):
        """A line that is level over each [start, end, value] of @ranges."""
        path, last = [], None
        for start, end, value in ranges:
            if end <= x.low or start >= x.high:
                continue
            level = number(y.at(value))
            join = last is not None and start - last < 1e-3
            path.append(f'{"L" if join else "M"}{number(x.at(start))} {level}'
                        f'H{number(x.at(end))}')
            last = end
        self.marks.append(f'<path class="line {kind}" d="{"".join(path)}"/>')

    def curve(self, points, x, y, kind):
        """A line through (at, value) @points"""
        self.marks.append(f'<path class="line {kind}" '
                          f'd="M{self._path(points, x, y)}"/>')

    def band(self, points, x, y, kind):
        """The area between the values of (at, lowest, highest) @points"""
        there = [(at, high) for at, _, high in points]
        back = [(at, low) for at, low, _ in reversed(points)]
        self.marks.append(f'<path class="band {kind}" '
                          f'd="M{self._path(there + back, x, y)}Z"/>')

    @staticmethod
    def _path(points, x, y):
        return 'L'.join(f'{number(x.at(at))} {number(y.at(value))}'
                        for at, value in points)

    def values_axis(self, y, about, form=short):
        for value in y.ticks(about):
            at = y.at(value)
            self.line(self.size.left, at, self.size.width - self.size.right,
                      at, 'grid')
            self.write(self.size.left - 6, at + 4, form(value), 'tick', 'end')

    def time_axis(self, x, bottom):
        for value in x.ticks(self.size.width / 80):
            self.line(x.at(value), bottom, x.at(value), bottom + 4, 'axis')
            self.write(x.at(value), bottom + 17, f'{value:g}', 'tick',
                       'middle')
        self.line(x.start, bottom, x.end, bottom, 'axis')

    def text(self):
        title, about = f'{self.name}-title', f'{self.name}-description'
        return (f'<svg class="{self.size.name}" role="img" '
                f'viewBox="0 0 {self.size.width} {number(self.height)}" '
                f'aria-labelledby="{title} {about}">\n'
                f'<title id="{title}">{escape(self.title)}</title>\n'
                f'<desc id="{about}">{escape(self.description)}</desc>\n'
                + '\n'.join(self.marks) + '\n</svg>')
