#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the page show the figures of the run, at the right place?

Needs neither KVM nor QEMU, nor a browser.
"""

import json
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent / 'guest'), str(HERE)]

import charts                                               # noqa: E402
import page                                                 # noqa: E402
import report                                               # noqa: E402
import timeline                                             # noqa: E402
from harness import svg, webpage                            # noqa: E402
from picturetest import (check_no_text_leaves, marks,       # noqa: E402
                         pictures)

CSS = webpage.STYLE.read_text()
NAMESPACE = re.compile(r'\{.*\}')


def result(userfault, **changes):
    on = userfault == 'on'
    values = {
        'userfault': userfault, 'stopped_ms': 30.0,
        'postcopy_s': 8.0 if on else 16.0, 'faults': 1001,
        'faults_per_s': 3083.0 if on else 1679.0, 'early_faults_per_s': 300.0,
        'guest_gap_ms': 400.0, 'guest_precopy_pages_per_s': 100000.0,
        'guest_postcopy_pages_per_s': 500.0, 'guest_early_pages_per_s': 40.0,
        'guest_errors': 0, 'guest_verified': 12345,
        'guest_latency': {'count': 4, 'p50': 1 << 20, 'p99': 1 << 22,
                          'max': 5e6},
        'guest_touches': [(20000, 22000, 777), (1 << 20, 9 << 17, 3),
                          (1 << 21, 9 << 18, 1)],
        'vcpu_latency': ({'count': 6, 'p50': 7e5, 'p99': 7e6, 'max': 8e6}
                         if on else None),
        'uffd_latency': {'count': 2, 'p50': 8e5, 'p99': 8e5, 'max': 9e5},
        'counters': {'pages-vcpu': 3000 if on else 0,
                     'pages-readahead': 0,
                     'pages-userfaultfd': 4 if on else 2000,
                     'pages-background': 1000 if on else 2000,
                     'latency': {'distribution': ([0] * 19 + [2, 4]
                                                  if on else [])},
                     'userfaultfd-latency': {'distribution':
                                             [0] * 19 + [2]}},
        'times': {'start': -10.0, 'switchover': 0, 'resumed': 0.03,
                  'done': 8.0 if on else 16.0},
        'guest_rates': [[-2.0, -1.0, 100000.0], [1.0, 2.0, 1000.0]],
        'fault_rates': [[1.0, 2.0, 2000.0], [2.0, 3.0, 1000.0]],
        'settings': {'cpus': 3, 'memory_mib': 384, 'hot_mib': 128,
                     'slow_us': 200, 'delay_us': 70, 'huge': True, 'seed': 1, 'passes': 2, 'preempt': True,
                     'bandwidth_mib': 64, 'postcopy_bandwidth_mib': 2},
        'versions': {'qemu': '10.0.13', 'kernel': '6.12.9', 'emulated': True},
    }
    values.update(changes)
    return values


BOTH = [result('off'), result('on')]


def figures(element, *names):
    return [float(element.get(name)) for name in names]


def tick_at(picture, text, axis):
    """Where a label stands"""
    anchor = {'x': 'middle', 'y': 'end'}[axis]
    found = [e for e in marks(picture, 'tick')
             if e.text == text and e.get('text-anchor') == anchor]
    return float(found[0].get(axis))


def cells(text, name):
    """The cells of the line @name of any table"""
    line = re.search(r'<tr><th scope="row">%s</th>(.*?)</tr>'
                     % re.escape(name), text)
    return re.findall('<td>(.*?)</td>', line.group(1)) if line else None


class Whole(unittest.TestCase):
    def setUp(self):
        self.text = page.page(BOTH)

    def test_needs_nothing_else(self):
        for word in ('http', 'src=', 'href=', 'url(', '@import', '<script'):
            self.assertNotIn(word, self.text)

    def test_pictures_say_what_they_show(self):
        found = pictures(self.text)
        self.assertEqual(len(found), 2 * 4)
        for name, picture in found.items():
            about = picture.find('desc')
            self.assertIn('userfault=on', about.text)
            self.assertTrue(picture.find('title').text)
            self.assertEqual(picture.get('aria-labelledby'),
                             f'{name} {about.get("id")}')

    def test_each_picture_has_its_figures_as_a_table(self):
        self.assertEqual(self.text.count('<details>'), 3)
        self.assertEqual(cells(self.text, '1')[:4],
                         ['1,000', '1,000', '2,000', '2,000'])
        self.assertEqual(cells(self.text, '1.05 ms to 2.10 ms'),
                         ['3', '3', '4', '0', '0'])
        self.assertEqual(cells(self.text, 'userfault=off'),
                         ['0', '0', '2,000', '2,000'])

    def test_every_row_of_the_report_is_there(self):
        rows = report.rows(report.in_order(BOTH))
        names = webpage.whole_names(t for t, *_ in rows)
        self.assertEqual(len(set(names)), len(rows))
        for name, (_, values, ratio) in zip(names, rows):
            self.assertEqual(cells(self.text, svg.escape(name)),
                             [page.micro(v) for v in values] + [ratio])
        self.assertIn('guest: fault latency p99', names)
        self.assertIn('pages arrived by background', names)

    def test_cards_follow_the_results(self):
        self.assertRegex(self.text, 'switchover to last page.*8.00 s.*16.0 s')
        self.assertRegex(self.text, 'served per second.*3,083.*1,679')
        self.assertIn('class="verdict">0<', self.text)
        wrong = page.page([result('on', guest_errors=2), result('off')])
        self.assertIn('<b class="">2<', wrong)

    def test_one_mode_alone_and_a_stock_qemu(self):
        alone = page.page([result('on')])
        self.assertNotIn('on / off', alone)
        self.assertEqual(cells(alone, 'demand faults served'), ['1,001'])
        stock = page.page([result('on'), result(
            'stock', counters={}, vcpu_latency=None, uffd_latency=None)])
        self.assertIn('on / stock', stock)
        self.assertEqual(len(marks(pictures(stock)['arrivals-wide-title'],
                                   'way background')), 1)

    def test_how_it_was_run(self):
        for words in ('3 vCPUs, 384 MiB in pages of 2 MiB', '64 MiB/s, 70 µs',
                      'in postcopy 2 MiB/s',
                      '10.0.13', '6.12.9', 'emulated'):
            self.assertIn(words, self.text)
        versions = dict(result('on')['versions'], emulated=False)
        self.assertNotIn('emulated', page.page([result('on',
                                                       versions=versions)]))

    def test_as_a_program(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'demo.json'
            path.write_text(json.dumps(BOTH))
            done = subprocess.run([HERE / 'page.py', path], check=True,
                                  stdout=subprocess.PIPE)
            self.assertEqual(done.stdout.decode(), self.text)
            path.write_text('{')
            done = subprocess.run([HERE / 'page.py', path], check=False,
                                  stderr=subprocess.PIPE)
            self.assertEqual(len(done.stderr.splitlines()), 1)
            self.assertNotEqual(done.returncode, 0)


class Style(unittest.TestCase):
    def test_dark_has_every_colour_of_light(self):
        light, dark = re.findall(r':root \{(.*?)\}', CSS, re.S)
        names = set(re.findall(r'(--[a-z-]+):', light))
        self.assertEqual(names, set(re.findall(r'(--[a-z-]+):', dark)))
        used = set(re.findall(r'var\((--[a-z-]+)\)', CSS + page.page(BOTH)))
        self.assertEqual(used - names, {'--mode'})

    def test_every_class_has_a_style(self):
        text = page.page(BOTH)
        used = {c for words in re.findall('class="(.*?)"', text)
                for c in words.split()}
        styled = set(re.findall(r'\.([a-z][a-z-]*)', CSS))
        self.assertEqual(used - styled - {'guest', 'phase'}, set())


class Places(unittest.TestCase):
    """Marks stand where the labels of the axes say."""

    def setUp(self):
        self.found = pictures(page.page(BOTH))

    def both_sizes(self, name):
        return [self.found[f'{name}-{size}-title']
                for size in ('wide', 'narrow')]

    def test_lines_over_time(self):
        for picture in self.both_sizes('time'):
            guest, faults = [e.get('d') for e in marks(picture,
                                                       'line mode-on')]
            zero, ten = (tick_at(picture, t, 'x') for t in ('0', '10'))
            second = (ten - zero) / 10
            pieces = re.findall(r'M([\d.]+) ([\d.]+)H([\d.]+)', guest)
            before, after = [list(map(float, p)) for p in pieces]
            self.assertAlmostEqual(before[0], zero - 2 * second, delta=0.3)
            self.assertAlmostEqual(after[2], zero + 2 * second, delta=0.3)
            for value, label in ((before[1], '100k'), (after[1], '1k')):
                self.assertAlmostEqual(value + 4, tick_at(picture, label, 'y'),
                                       delta=0.2)
            # One piece, of two steps; what is level is half as high.
            first, then = map(float, re.fullmatch(
                r'M[\d.]+ ([\d.]+)H[\d.]+L[\d.]+ ([\d.]+)H[\d.]+',
                faults).groups())
            floor = max(float(e.get('y1')) for e in marks(picture, 'grid'))
            self.assertAlmostEqual((floor - first) / (floor - then), 2,
                                   delta=0.05)

    def test_phases(self):
        for picture in self.both_sizes('time'):
            on, off = [figures(e, 'x', 'width')
                       for e in marks(picture, 'phase postcopy')]
            self.assertAlmostEqual(off[1] / on[1], 2, delta=0.05)
            ends = [float(e.get('x1')) for e in marks(picture, 'end')]
            self.assertAlmostEqual(ends[0], sum(on), delta=0.3)
            self.assertAlmostEqual(ends[1], sum(off), delta=0.3)
            before = figures(marks(picture, 'phase precopy')[0], 'x', 'width')
            zero = float(marks(picture, 'zero')[0].get('x1'))
            self.assertAlmostEqual(sum(before), zero, delta=0.2)

    def test_bars_are_shares_of_the_faults(self):
        for picture in self.both_sizes('latency-guest'):
            bars = marks(picture, 'bar mode-on')
            three, one = [figures(e, 'x', 'height') for e in bars]
            self.assertAlmostEqual(three[1] / one[1], 3, delta=0.05)
            self.assertIn('1.05 ms to 2.10 ms: 3 (75.0 %)',
                          bars[0].find('title').text)
            # What was faster than a fault is none.
            self.assertEqual(len(bars), 2)

    def test_marks_of_the_percentiles(self):
        for picture in self.both_sizes('latency-guest'):
            half, most = [float(e.get('cx'))
                          for e in marks(picture, 'dot mode-on')]
            bars = [float(e.get('x')) for e in marks(picture, 'bar mode-on')]
            self.assertAlmostEqual(most - half, 2 * (bars[1] - bars[0]),
                                   delta=0.5)
            self.assertAlmostEqual(half, tick_at(picture, '1.05 ms', 'x'),
                                   delta=0.2)

    def test_parts_of_a_bar_stand_on_each_other(self):
        picture = self.found['latency-qemu-wide-title']
        lower = [e for e in marks(picture, 'bar mode-on vcpu')
                 if '524' in e.find('title').text][0]
        upper = marks(picture, 'bar mode-on uffd')[0]
        self.assertEqual(lower.get('x'), upper.get('x'))
        y, height = figures(upper, 'y', 'height')
        self.assertAlmostEqual(y + height, float(lower.get('y')), delta=0.2)
        self.assertIn('(25.0 %)', upper.find('title').text)

    def test_arrivals(self):
        for picture in self.both_sizes('arrivals'):
            widths = {e.get('class'): float(e.get('width'))
                      for e in marks(picture, 'way')
                      if e.find('title').text != 'userfaultfd: 2,000 pages'}
            few = [e for e in marks(picture, 'way uffd')
                   if '4 pages' in e.find('title').text]
            self.assertEqual(len(few), 1)
            self.assertGreater(float(few[0].get('width')), 1)
            on = [e for e in marks(picture, 'way vcpu')][0]
            # The three lie side by side.
            background = [e for e in marks(picture, 'way background')][0]
            end = sum(figures(on, 'x', 'width'))
            self.assertAlmostEqual(float(background.get('x')), end, delta=1)
            self.assertAlmostEqual(float(on.get('width'))
                                   / widths['way background'], 1.5, delta=0.05)

    def test_no_text_leaves_the_picture(self):
        for picture in self.found.values():
            check_no_text_leaves(self, picture)


class Time(unittest.TestCase):
    TIMES = {'start': 90.0, 'switchover': 100.0, 'resumed': 100.5,
             'done': 110.0}

    def test_late_heartbeats_do_not_move_the_line(self):
        beats = [{'ms': t * 1000, 'verified': t * 50, 'time': 90.0 + t}
                 for t in range(6)]
        straight = timeline.throughput(beats, self.TIMES)
        self.assertEqual(straight[1], [-9.0, -8.0, 50.0])
        for beat in beats[2:4]:
            beat['time'] += 0.9
        self.assertEqual(timeline.throughput(beats, self.TIMES), straight)

    def test_the_guests_clock_stands_still_in_between(self):
        beats = [{'ms': ms, 'verified': n, 'time': t} for ms, n, t in (
            (0, 0, 98.0), (1000, 900, 99.0), (2000, 1800, 100.5),
            (3000, 1810, 101.5))]
        self.assertEqual(timeline.throughput(beats, self.TIMES),
                         [[-2.0, -1.0, 900.0], [0.5, 1.5, 10.0]])

    def test_faults(self):
        samples = [(100.2, 5), (101.5, 100), (103.5, 500), (103.5, 500)]
        self.assertEqual(timeline.fault_rates(samples, self.TIMES),
                         [[0.5, 1.5, 100.0], [1.5, 3.5, 200.0]])

    def test_nothing_to_show(self):
        self.assertEqual(timeline.throughput([], self.TIMES), [])
        self.assertEqual(timeline.fault_rates([], self.TIMES), [])

    def test_phases_count_from_the_switchover(self):
        self.assertEqual(timeline.relative(self.TIMES)['done'], 10.0)
        self.assertEqual(timeline.relative(self.TIMES)['start'], -10.0)

    def test_mean_is_weighted_by_time(self):
        rates = [[0.0, 1.0, 100.0], [1.0, 4.0, 400.0]]
        self.assertEqual(timeline.mean_within(rates, 0.5, 2.5), 325.0)
        self.assertIsNone(timeline.mean_within(rates, 5, 6))


class Scales(unittest.TestCase):
    def test_ticks_are_round(self):
        self.assertEqual(svg.Linear(-13, 9, 0, 1).ticks(5), [-10, -5, 0, 5])
        self.assertEqual(svg.Decades(10, 20000, 0, 1).ticks(),
                         [10, 100, 1000, 10000])
        self.assertEqual([svg.short(v) for v in (5, 20000, 1500000)],
                         ['5', '20k', '1.5M'])

    def test_what_lies_outside_stays_at_the_edge(self):
        self.assertEqual(svg.Decades(10, 1000, 100, 0).at(0), 100)
        self.assertEqual(svg.Decades(10, 1000, 100, 0).at(100), 50)
        self.assertEqual(svg.Linear(0, 10, 0, 50).at(11), 50)

    def test_text_is_moved_into_the_picture(self):
        for anchor, at, x in (('end', 0, 4 * svg.CHARACTER),
                              ('start', 359, 360 - 4 * svg.CHARACTER)):
            picture = svg.Picture('', svg.NARROW, 9, '', '')
            picture.write(at, 5, 'word', '', anchor)
            self.assertIn(f'x="{svg.number(x)}"', picture.marks[0])

    def test_octaves_leave_out_what_is_no_fault(self):
        self.assertEqual(charts.octaves([(20000, 22000, 777),
                                         (1 << 18, 9 << 15, 2),
                                         (3 << 17, 7 << 16, 1)], 200000),
                         {18: 3})


if __name__ == '__main__':
    unittest.main()
