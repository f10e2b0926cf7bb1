# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person watching the demonstration sees.

LiveView redraws a block of lines in place and writes only the lines that
changed; PlainView prints one line per second for logs and pipes.  Both read a
Demonstration and change nothing in it.  compose() makes the block of lines
out of a Picture, without any terminal, which is what the unit test looks at.
"""

import math
import time
from collections import deque
from dataclasses import dataclass, field

SPARKS = '▁▂▃▄▅▆▇█'
SPARKS_ASCII = '_.-=+*#@'
STEPS = ('boot', 'precopy', 'switchover', 'postcopy', 'check')
LABEL = 12                      # columns of the labels at the left
PAGE = 4096

BOLD, DIM, RED, GREEN, YELLOW, CYAN, PLAIN = (
    '\033[1m', '\033[2m', '\033[31m', '\033[32m', '\033[33m', '\033[36m',
    '\033[0m')


def spark(values, width, sparks=SPARKS, scale=float):
    """The last @width values as a line of little bars, scaled to the highest.
    Something that is not nothing shows as more than nothing.  @scale turns a
    value into the height of its bar."""
    values = [scale(v) for v in list(values)[-width:]]
    top = max(values, default=0)
    if top <= 0:
        return (sparks[0] * len(values)).ljust(width)
    last = len(sparks) - 1
    bars = [sparks[max(round(v / top * last), 1 if v > 0 else 0)]
            for v in values]
    return ''.join(bars).ljust(width)


def bar(fraction, width, ascii_only=False):
    """A progress bar with a resolution of an eighth of a column."""
    fraction = min(max(fraction, 0.0), 1.0)
    if ascii_only:
        full = int(fraction * width)
        return '#' * full + '.' * (width - full)
    eighths = int(fraction * width * 8)
    full, rest = divmod(eighths, 8)
    part = ' ▏▎▍▌▋▊▉'[rest] if full < width else ''
    return ('█' * full + part.strip()).ljust(width, '░')


def magnitude(value):
    """Height on a logarithmic scale: postcopy slows the guest by orders of
    magnitude, and both rates are to be seen in one line."""
    return math.log10(1 + value)


def mib(count):
    return f'{count / (1 << 20):,.1f} MiB'


@dataclass
class Picture:
    """Everything on the screen, as plain figures."""
    title: str = ''
    subtitle: str = ''
    step: str = 'boot'
    detail: str = ''
    elapsed: float = 0.0
    left: int = 0               # pages
    total: int = 0              # pages
    transferred: int = 0        # bytes
    faults: float = 0.0         # per second
    faults_peak: float = 0.0
    fault_history: deque = field(default_factory=deque)
    guest: float = 0.0          # pages verified per second
    guest_history: deque = field(default_factory=deque)
    beat: int = 0
    errors: int = 0
    arrived: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)   # results of earlier runs


class Painter:
    """Turns a Picture into lines; @color and @unicode as the terminal can."""

    def __init__(self, columns=100, color=True, unicode=True):
        self.columns = max(columns, 80)
        self.spark_width = self.columns - LABEL - 51
        self.color = color
        self.unicode = unicode
        self.sparks = SPARKS if unicode else SPARKS_ASCII

    def paint(self, text, *codes):
        return ''.join(codes) + text + PLAIN if self.color else text

    def label(self, text):
        return self.paint(f' {text:<{LABEL}}', DIM)

    def rule(self, text):
        dash = '─' if self.unicode else '-'
        tail = max(self.columns - len(text) - 5, 0)
        return (self.paint(dash * 2 + ' ', DIM) + self.paint(text, BOLD)
                + self.paint(' ' + dash * tail, DIM))

    def steps(self, picture):
        done, now, later = ('✔', '▶', '·') if self.unicode else ('+', '>', '.')
        current = STEPS.index(picture.step)
        parts = []
        for i, step in enumerate(STEPS):
            text = step
            if i == current and picture.detail:
                text += ' ' + picture.detail
            if i < current:
                parts.append(self.paint(f'{done} {text}', GREEN))
            elif i == current:
                parts.append(self.paint(f'{now} {text}', BOLD, YELLOW))
            else:
                parts.append(self.paint(f'{later} {text}', DIM))
        return self.label('phase') + '   '.join(parts)

    def pages(self, picture):
        width = self.columns - LABEL - 42
        part = 1 - picture.left / picture.total if picture.total else 0.0
        gauge = bar(part, width, not self.unicode)
        return (self.label('memory') + self.paint(gauge, CYAN)
                + f' {picture.left:>7,} pages left'
                + f'  {mib(picture.transferred):>13} sent')

    def line(self, label, history, value, unit, extra, color, scale=float):
        graph = spark(history, self.spark_width, self.sparks, scale)
        return (self.label(label) + self.paint(graph, color)
                + f' {value:>9,.0f} {unit:<17} {extra}')

    def compose(self, picture):
        """The lines of the block, none longer than the terminal is wide."""
        heart = '♥' if self.unicode else 'beat'
        errors = f'{picture.errors} errors'
        errors = self.paint(errors, *([BOLD, RED] if picture.errors
                                      else [GREEN]))
        arrived = '   '.join(f'{name} {count:,}'
                             for name, count in picture.arrived.items())
        return [
            *(note[:self.columns] for note in picture.notes),
            self.rule(picture.title),
            self.paint(' ' + picture.subtitle[:self.columns - 1], DIM),
            self.steps(picture),
            self.pages(picture),
            self.line('faults', picture.fault_history, picture.faults,
                      'served/s', f'peak {picture.faults_peak:,.0f}', YELLOW),
            self.line('guest', picture.guest_history, picture.guest,
                      'pages verified/s', f'{heart} {picture.beat}  {errors}',
                      GREEN, magnitude),
            self.label('arrived by') + (arrived or '-'),
            self.label('elapsed') + f'{picture.elapsed:.0f} s',
        ]


ARRIVALS = (('vCPU exit', 'pages-vcpu'), ('read-ahead', 'pages-readahead'),
            ('userfaultfd', 'pages-userfaultfd'),
            ('background', 'pages-background'))


class Model:
    """Follows a Demonstration and keeps the histories of its Picture."""

    def __init__(self):
        self.picture = Picture()
        self._run = None

    def follow(self, demo):
        if demo is not self._run:
            self._run = demo
            self.picture = Picture(notes=self.picture.notes)
            self._describe(demo)
        p, now = self.picture, demo.progress
        p.step = demo.step
        p.elapsed = time.monotonic() - demo.started
        beat = demo.guest.log.last_beat if demo.guest else None
        if beat:
            p.beat, p.errors = beat['n'], demo.guest.log.error_count()
            p.guest = demo.guest_rate.value
            p.guest_history.append(p.guest)
        if now:
            self._follow_migration(demo, now)
        return p

    def _follow_migration(self, demo, now):
        p = self.picture
        p.detail = f'pass {now.sync_count}' if p.step == 'precopy' else ''
        p.left = now.remaining // PAGE
        p.total = max(p.total, p.left)
        p.transferred = now.transferred
        p.arrived = {name: now.userfault[key] for name, key in ARRIVALS
                     if key in now.userfault}
        if p.step == 'postcopy':
            p.faults = demo.fault_rate.value
            p.fault_history.append(p.faults)
            p.faults_peak = max(p.faults_peak, p.faults)
        elif p.step == 'check':
            p.faults = 0.0

    def _describe(self, demo):
        s = demo.settings
        g, m = s.guest, s.migration
        self.picture.title = ('postcopy migration of a live guest   '
                              f'userfault={s.userfault}')
        self.picture.subtitle = (
            f'{g.cpus} vCPUs rewrite and verify {g.hot_mib} of '
            f'{g.memory_mib} MiB all the time; link {m.bandwidth >> 20} MiB/s')


class LiveView:
    """Redraws in place; costs what changed."""

    def __init__(self, stream, painter):
        self.stream = stream
        self.painter = painter
        self.model = Model()
        self.shown = []

    def draw(self, demo):
        self.show(self.painter.compose(self.model.follow(demo)))

    def show(self, lines):
        changed = [i for i, line in enumerate(lines)
                   if i >= len(self.shown) or line != self.shown[i]]
        if not changed:
            return
        out = ['\033[?2026h']                   # one picture at a time
        if not self.shown:
            out.append('\033[?25l')             # no cursor in the way
        at = len(self.shown)                    # the cursor is below them
        for i in changed:
            if i < at:
                out.append(f'\033[{at - i}A')
            elif i > at:
                out.append(f'\033[{i - at}B')
            out.append(f'\r{lines[i]}\033[K\n')
            at = i + 1
        if at < len(lines):
            out.append(f'\033[{len(lines) - at}B')
        out.append('\033[?2026l')
        self.stream.write(''.join(out))
        self.stream.flush()
        self.shown = lines

    def note(self, text):
        """Keep @text above the picture from now on."""
        self.model.picture.notes.append(text)

    def finish(self):
        """Leave the last picture standing and give the cursor back."""
        if self.shown:
            self.stream.write('\033[?25h')
            self.stream.flush()
        self.shown = []


class PlainView:
    """One line per second, and one for each new phase."""

    def __init__(self, stream, period=1.0):
        self.stream = stream
        self.period = period
        self.model = Model()
        self.next = 0.0
        self.step = None

    def draw(self, demo):
        p = self.model.follow(demo)
        now = time.monotonic()
        if now < self.next and p.step == self.step:
            return
        self.next, self.step = now + self.period, p.step
        self.say(f'{p.elapsed:5.1f}s {p.step:<10} {p.detail:<7}'
                 f' {p.left:>7} pages left {p.faults:>6.0f} faults/s'
                 f' {p.guest:>8.0f} pages verified/s'
                 f' beat {p.beat} errors {p.errors}')

    def say(self, text):
        print(text, file=self.stream, flush=True)

    def note(self, text):
        self.say(text)

    def finish(self):
        pass


class QuietView:
    """For repeated runs: only what note() is given."""

    def __init__(self, stream):
        self.stream = stream

    def draw(self, demo):
        pass

    def note(self, text):
        print(text, file=self.stream, flush=True)

    def finish(self):
        pass
