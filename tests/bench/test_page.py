#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the page show the figures of the summary, at the right place?

Needs neither KVM nor QEMU, nor a browser.
"""

import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import types
import unittest
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent / 'guest'), str(HERE)]

import cases                                                # noqa: E402
import charts                                               # noqa: E402
import page                                                 # noqa: E402
import picture                                              # noqa: E402
import report                                               # noqa: E402
import saved as results                                     # noqa: E402
import stats                                                # noqa: E402
from harness import webpage                                 # noqa: E402
from picturetest import (check_no_text_leaves, marks,       # noqa: E402
                         pictures)

CSS = webpage.STYLE.read_text() + (HERE / 'style.css').read_text()
NAMES = ('random-write-1', 'random-write-2', 'random-write-8',
         'random-write-2-tcp', 'random-write-2-200us', 'shared-read-2')
RATE = {'on': 3000.0, 'channels': 3100.0, 'single': 2800.0, 'off': 1000.0, 'stock-on': 2500.0,
        'stock-single': 2400.0, 'stock-off': 950.0, 'stock': 900.0,
        'pushed': 5000.0}


def figures_of(mode, factor):
    """Every figure of a report, all different"""
    found = {name: 17.0 * (i + 1) * factor
             for i, (_, name, *_) in enumerate(report.ROWS)}
    found.update({'requests_per_s': RATE[mode] * factor,
                  'latency_p50_us': 1e6 / RATE[mode] * factor,
                  'latency_p90_us': 2e6 / RATE[mode] * factor,
                  'latency_p99_us': 1e7 / RATE[mode] * factor,
                  'latency_max_us': 1e8 / RATE[mode] * factor,
                  'destination_host_cpu_us_per_request': 5e5 / RATE[mode],
                  'last_page_s': 9000 / RATE[mode] * factor})
    if mode == 'stock':
        found['pages_vcpu'] = None
    return found


def timeline(mode, factor):
    """From 7 requests on, at a constant rate"""
    return [[t, 7 + RATE[mode] * factor * t, 4096 * t, None]
            for t in (0.0, 1.0, 2.5, 4.0)]


def case(name, modes, factors=(1.0, 0.9, 1.4), spoil=1.0):
    rounds = [{m: figures_of(m, f * (spoil if m == 'on' else 1)) for m in modes}
              for f in factors]
    return {'case': name, 'modes': list(modes), 'rounds': rounds,
            'timelines': [{m: timeline(m, f) for m in modes} for f in factors],
            'summary': stats.summary(rounds, cases.BASELINE)}


def version(micro):
    return {'qemu': {'major': 10, 'minor': 0, 'micro': micro}, 'package': ''}


def saved(modes=('on', 'off'), names=NAMES, **changes):
    return {'format': 1, 'cpus': 3, 'model': 'Some CPU', 'kernel': '6.12.9',
            'emulated': True, 'began': '2026-01-02T03:04:05Z', 'window_s': 6.0,
            'slow_us': 200, 'qemu': {m: [version(5), version(13)] for m in modes},
            'cases': [case(n, modes) for n in names], **changes}


BOTH = saved()
ALL = saved(tuple(cases.MODES))


def tree(text):
    """The page as XML, of which it breaks only two rules"""
    text = re.sub(r'<meta [^>]*>', '', text)
    return ElementTree.fromstring(text.removeprefix('<!DOCTYPE html>\n'))


def words(element):
    """'2,791 (2,626..3,101)' of a cell in two lines"""
    small = element.find('small')
    return (element.text or '') + (f' ({small.text})' if small is not None
                                   else '')


def tables(text):
    """{caption: {title of the group: {name of the line: cells}}}"""
    found = {}
    for table in tree(text).iter('table'):
        groups = found[table.find('caption').text] = {}
        group = groups.setdefault('', {})
        for line in table.find('tbody'):
            head, *cells = line
            if head.get('scope') == 'rowgroup':
                group = groups[head.text] = {}
            else:
                group[head.text] = [words(cell) for cell in cells]
    return found


def summary_of(text):
    (found,) = [t for c, t in tables(text).items() if c.startswith('Median')]
    return {title.partition(':')[0]: lines for title, lines in found.items()
            if title}


class Whole(unittest.TestCase):
    def test_needs_nothing_else(self):
        for text in (page.page(BOTH), page.page(ALL)):
            for word in ('http', 'src=', 'href=', 'url(', '@import', '<script'):
                self.assertNotIn(word, text)

    def test_is_well_formed_and_no_id_stands_twice(self):
        for it in (BOTH, ALL, saved(['on']), saved(names=['shared-read-2'])):
            ids = [e.get('id') for e in tree(page.page(it)).iter()
                   if e.get('id')]
            self.assertEqual(len(set(ids)), len(ids))

    def test_pictures_say_what_they_show(self):
        found = pictures(page.page(BOTH))
        # Four in two sizes, and one for each case
        self.assertEqual(len(found), 4 * 2 + len(NAMES))
        for name, picture in found.items():
            about = picture.find('desc')
            for mode in ('on', 'off'):
                self.assertRegex(about.text, rf'\b{mode}\b')
            self.assertTrue(picture.find('title').text)
            self.assertEqual(picture.get('aria-labelledby'),
                             f'{name} {about.get("id")}')

    def test_every_mode_and_case_is_named(self):
        text = page.page(ALL)
        for mode, about in cases.MODES.items():
            self.assertIn(f'{mode}: {about.text}', text)
        found = summary_of(text)
        self.assertEqual(list(found), list(NAMES))
        for lines in found.values():
            self.assertEqual(list(lines), [
                *cases.MODES, 'on / off', 'channels / off', 'single / off',
                'stock-on / off',
                'stock-single / off', 'stock-off / off', 'stock / off',
                'pushed / off'])
        for name in ('rates-wide-title', 'rates-narrow-title',
                     'latency-wide-title', 'latency-narrow-title'):
            written = [e.text for e in pictures(text)[name].iter('text')]
            self.assertLessEqual({*NAMES, *cases.MODES}, set(written))

    def test_what_was_compared(self):
        text = page.page(BOTH)
        for it in ('3 CPUs, Some CPU', 'emulated', '6.12.9',
                   '10.0.5 to 10.0.13', '6 s after', '200 µs or more',
                   '3 of each case', '2026-01-02 03:04:05 UTC'):
            self.assertIn(it, text)
        other = page.page(saved(emulated=False, model=None))
        self.assertNotIn('emulated', other)
        self.assertNotIn('None', other)

    def test_cards_are_of_the_first_case(self):
        card = re.search('class="figures">.*?<h2>What', page.page(saved(
            cases=[case('random-write-2', ['on', 'off']),
                   case('shared-read-2', ['on', 'off'], spoil=0.5)])),
            re.S).group()
        self.assertRegex(card, r'demand per second.*3,000.*1,000')
        self.assertIn('<b>1.50..3.00</b>', card)

    def test_as_a_program(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'bench.json'
            path.write_text(json.dumps(BOTH))
            done = subprocess.run([HERE / 'page.py', path], check=True,
                                  env={**os.environ, 'PYTHONIOENCODING': 'ascii'},
                                  stdout=subprocess.PIPE)
            self.assertEqual(done.stdout.decode(), page.page(BOTH))
            for content in ('{', '{}', '[]'):
                path.write_text(content)
                done = subprocess.run([HERE / 'page.py', path], check=False,
                                      stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                self.assertNotEqual(done.returncode, 0)


def load_drive():
    loader = importlib.machinery.SourceFileLoader('bench_drive',
                                                  str(HERE / 'drive'))
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


class Driver(unittest.TestCase):
    def test_the_page_lies_beside_the_results(self):
        drive = load_drive()
        with tempfile.TemporaryDirectory() as folder:
            args = types.SimpleNamespace(results=Path(folder), window=6.0,
                                         slow_us=200, accel='kvm', rounds=2,
                                         modes=['on', 'off'])
            bench = drive.Bench(args, Path(folder))
            bench.one = lambda case, mode: (figures_of(mode, 1.0),
                                            timeline(mode, 1.0))
            bench.case(cases.Case('random', cpus=2))
            written = json.loads((args.results / 'bench.json').read_text())
            shown = args.results / 'bench.html'
            self.assertEqual(shown.read_text(encoding='utf-8'),
                             page.page(written))
            self.assertIn('random-write-2: 2 vCPUs, UNIX socket, 2 rounds',
                          shown.read_text(encoding='utf-8'))
            drive.forget_earlier(args)
            self.assertEqual(list(args.results.iterdir()), [])


class Goals(unittest.TestCase):
    def test_verdicts_of_what_was_measured(self):
        self.assertIn('met: pages/s, never less than userfaultfd, '
                      f'{NAMES[0]}: 3.00', page.page(BOTH))
        self.assertNotIn('Goals', page.page(saved(('on',))))

    def test_a_mode_with_a_figure_of_its_own_alone(self):
        rounds = [{'single': figures_of('single', 1), 'pushed': {'pushed_per_s': 5.}}]
        one = {**case('random-write-64', ('single',)), 'modes': ['single', 'pushed'],
               'rounds': rounds, 'summary': stats.summary(rounds, cases.BASELINE)}
        text = page.page(saved(('single', 'pushed'), (), cases=[one]))
        self.assertIn('560.00 (560.00..560.00), at least 0.6', text)
        tree(text)


class Missing(unittest.TestCase):
    def test_a_single_mode_has_no_ratio(self):
        text = page.page(saved(['on']))
        self.assertNotIn(' / off', text)
        self.assertNotIn('ratio on', text)
        self.assertEqual(list(summary_of(text)['random-write-1']), ['on'])

    def test_a_quick_run_has_nothing_to_put_side_by_side(self):
        text = page.page(saved(names=['shared-read-2', 'random-write-2']))
        self.assertNotIn('By number of vCPUs', text)
        self.assertNotIn('By network', text)
        self.assertEqual(len(pictures(text)), 2 * 2 + 2)

    def test_a_mode_that_has_not_run_yet_is_left_out(self):
        cut = case('random-write-1', ['on'])
        cut['modes'] = ['on', 'off']
        text = page.page(saved(cases=[cut, {
            'case': 'random-write-2', 'modes': ['on', 'off'], 'rounds': [],
            'timelines': []}]))
        self.assertEqual(list(summary_of(text)), ['random-write-1'])
        self.assertEqual(list(summary_of(text)['random-write-1']), ['on'])

    def test_no_round_at_all(self):
        text = page.page(saved(cases=[]))
        self.assertIn('No round has come to its end', text)
        tree(text)

    def test_no_latency_and_no_timelines(self):
        bare = case('random-write-1', ['on', 'off'])
        bare['rounds'] = [{m: {k: None if k.startswith('latency') else v
                               for k, v in f.items()}
                           for m, f in r.items()} for r in bare['rounds']]
        bare['summary'] = stats.summary(bare['rounds'], cases.BASELINE)
        del bare['timelines']
        text = page.page(saved(cases=[bare]))
        self.assertEqual(summary_of(text)['random-write-1']['on'][2], '-')
        self.assertNotIn('over time', text)

    def test_a_single_round_has_no_spread(self):
        text = page.page(saved(cases=[case('random-write-1', ['on'], [1.0])]))
        self.assertEqual(summary_of(text)['random-write-1']['on'][0], '3,000')
        self.assertIn('UNIX socket, 1 round', text)

    def test_names_and_modes_of_another_version(self):
        other = case('random-write-1', ['on', 'off'])
        other['case'] = 'new <case>'
        other = json.loads(json.dumps(other).replace('"off"', '"newer"'))
        text = page.page(saved(cases=[other]))
        self.assertEqual(list(summary_of(text)), ['new <case>'])
        self.assertIn('newer', summary_of(text)['new <case>'])


class Figures(unittest.TestCase):
    """They are those of the summary of bench.json, as bench.txt prints them."""

    def expected(self, it, figure, key, factor=1, digits=0):
        found = it['summary'].get(figure, {}).get(key)
        return report.cell(found and stats.Spread(**found), factor, digits)

    def test_summary(self):
        found = summary_of(page.page(ALL))
        for it in ALL['cases']:
            for mode in cases.MODES:
                self.assertEqual(found[it['case']][mode], [
                    self.expected(it, f, mode, factor, digits)
                    for _, f, factor, digits in page.SUMMARY])
            self.assertEqual(found[it['case']]['on / off'], [
                self.expected(it, f, 'on/off', 1, 2)
                for _, f, *_ in page.SUMMARY])
        self.assertEqual(found['random-write-1']['on'][0],
                         '3,000 (2,700..4,200)')
        self.assertEqual(found['random-write-1']['on / off'][0],
                         '3.00 (3.00..3.00)')

    def test_every_row_of_the_report_is_there(self):
        found = tables(page.page(BOTH))
        names = page.full_names()
        self.assertLessEqual({'guest: fault latency p99, µs',
                              'QEMU: vCPU exit p99, µs',
                              'bytes from the source, per request'}, set(names))
        self.assertEqual(len(set(names)), len(names))
        for it in BOTH['cases']:
            (lines,) = [t[''] for c, t in found.items()
                        if c.startswith(it['case'] + ':')]
            self.assertEqual(list(lines), names)
            for name, (_, figure, factor, digits, ratio) in zip(names,
                                                               report.ROWS):
                self.assertEqual(lines[name], [
                    *(self.expected(it, figure, mode, factor, digits)
                      for mode in ('on', 'off')),
                    self.expected(it, figure, 'on/off', 1, 2) if ratio else ''])

    def test_side_by_side(self):
        found = tables(page.page(BOTH))
        for caption, names in (
                ('By number of vCPUs', {'1': 'random-write-1',
                                        '2': 'random-write-2',
                                        '8': 'random-write-8'}),
                ('By network', {'UNIX': 'random-write-2',
                                'tcp': 'random-write-2-tcp',
                                '200µs': 'random-write-2-200us'})):
            lines = found[caption]['']
            self.assertEqual(list(lines), list(names))
            for label, name in names.items():
                it = next(c for c in BOTH['cases'] if c['case'] == name)
                self.assertEqual(lines[label], [
                    self.expected(it, figure, key, 1, digits)
                    for figure in ('requests_per_s', 'latency_p50_us')
                    for key, digits in (('on', 0), ('off', 0), ('on/off', 2))])

    def test_over_time(self):
        (found,) = [t for c, t in tables(page.page(BOTH)).items()
                    if c.startswith('Pages asked for')]
        self.assertEqual(list(found['random-write-1']), ['1', '2', '3', '4'])
        self.assertEqual(found['random-write-1']['2'],
                         ['6,600 (5,400..8,400)', '2,200 (1,800..2,800)'])

    def test_descriptions(self):
        found = pictures(page.page(BOTH))
        for name, said in (
                ('rates', 'random-write-1: on 3,000 (2,700..4,200), off 1,000'),
                ('latency', 'random-write-1, on: p50 333 (300..467), p90 667'),
                ('cpus', '8, the same, ratio: on/off 3.00 (3.00..3.00).'),
                ('network', '200µs, pages fetched on demand per second: on 3,')):
            for size in ('wide', 'narrow'):
                about = found[f'{name}-{size}-title'].find('desc').text
                self.assertIn(said, about)
        about = found['progress-shared-read-2-each-title'].find('desc').text
        self.assertIn('on: after 4.0 s 13,200 pages on average '
                      '(10,800..16,800).', about)


class Places(unittest.TestCase):
    """Marks stand where the labels of the axes say."""

    def setUp(self):
        self.found = pictures(page.page(BOTH))

    def both_sizes(self, name):
        return [self.found[f'{name}-{size}-title']
                for size in ('wide', 'narrow')]

    def tick(self, picture, text, axis='x'):
        anchor = {'x': 'middle', 'y': 'end'}[axis]
        return [float(e.get(axis)) for e in marks(picture, 'tick')
                if e.text == text and e.get('text-anchor') == anchor][0]

    def test_bars_end_at_the_median(self):
        for picture in self.both_sizes('rates'):
            zero, two = (self.tick(picture, t) for t in ('0', '2k'))
            for mode in ('on', 'off'):
                bars = marks(picture, f'middle mode-{mode}')
                self.assertEqual(len(bars), len(NAMES))
                self.assertAlmostEqual(float(bars[0].get('x')), zero, delta=0.2)
                self.assertAlmostEqual(float(bars[0].get('width')),
                                       (two - zero) * RATE[mode] / 2000,
                                       delta=0.5)
            whisker = marks(picture, 'whisker mode-on')[0]
            for end, value in (('x1', 2700), ('x2', 4200)):
                self.assertAlmostEqual(float(whisker.get(end)),
                                       zero + (two - zero) * value / 2000,
                                       delta=0.5)

    def test_percentiles(self):
        for picture in self.both_sizes('latency'):
            one, ten = (self.tick(picture, t) for t in ('1 ms', '10 ms'))
            dots = [float(e.get('cx')) for e in marks(picture, 'dot mode-off')]
            self.assertEqual(len(dots), 3 * len(NAMES))
            for at, value in zip(dots, (1, 2, 10)):
                share = {1: 0, 2: 0.301, 10: 1}[value]
                self.assertAlmostEqual(at, one + (ten - one) * share, delta=0.3)
            most = marks(picture, 'most mode-off')[0]
            self.assertAlmostEqual(float(most.get('x1')),
                                   self.tick(picture, '100 ms'), delta=0.3)

    def test_ratios_by_number_of_cpus(self):
        for picture in self.both_sizes('cpus'):
            # Twice the vCPUs are one step.
            one, two, eight = (self.tick(picture, t) for t in '128')
            self.assertAlmostEqual(eight - two, 2 * (two - one), delta=0.3)
            line = float(marks(picture, 'zero')[0].get('y1'))
            dots = [e for e in marks(picture, 'dot mode-on')
                    if e.find('title').text.startswith('on/off: 3.00')]
            self.assertEqual([float(e.get('cx')) for e in dots],
                             [one, two, eight])
            grid = sorted(float(e.get('y1')) for e in marks(picture, 'grid'))
            floor = min(y for y in grid if y > line)
            self.assertAlmostEqual(floor - float(dots[0].get('cy')),
                                   3 * (floor - line), delta=0.5)

    def test_over_time(self):
        picture = self.found['progress-random-write-1-each-title']
        end = self.tick(picture, '4')
        path = marks(picture, 'line mode-on')[0].get('d')
        points = [tuple(map(float, p.split())) for p in path[1:].split('L')]
        self.assertAlmostEqual(points[-1][0], end, delta=0.2)
        zero, ten = (self.tick(picture, t, 'y') - 4 for t in ('0', '10k'))
        self.assertAlmostEqual(points[-1][1], zero + (ten - zero) * 1.32,
                               delta=0.5)
        self.assertEqual(len(marks(picture, 'band')), 2)

    def test_no_text_leaves_the_picture(self):
        for picture in [*self.found.values(),
                        *pictures(page.page(ALL)).values()]:
            check_no_text_leaves(self, picture)


class Style(unittest.TestCase):
    def test_every_mode_has_a_colour_for_light_and_for_dark(self):
        light, dark = re.findall(r':root \{(.*?)\}', CSS, re.S)
        for mode in cases.MODES:
            for colours in (light, dark):
                self.assertIn(f'--{mode}: ', colours)

    def test_every_class_has_a_style(self):
        used = {c for it in re.findall('class="(.*?)"', page.page(ALL))
                for c in it.split()}
        styled = set(re.findall(r'\.([a-z][a-z-]*)', CSS))
        # Letters as they are; a picture of one size
        self.assertEqual(used - styled - {'case', 'value', 'each'}, set())


class Alone(unittest.TestCase):
    """A picture as a file of its own"""

    def test_it_has_what_it_needs_and_names_the_modes(self):
        found = results.load(ALL)
        for name in page.TRENDS:
            text = picture.standalone(page.trend(found, name), CSS,
                                      picture.legend(found))
            root = ElementTree.fromstring(text)
            self.assertEqual(root.tag, '{http://www.w3.org/2000/svg}svg', name)
            names = [e.text for e in root.iter('{http://www.w3.org/2000/svg}text')]
            self.assertLessEqual(set(cases.MODES), set(names))
            style = root.find('{http://www.w3.org/2000/svg}style').text
            for mode in cases.MODES:
                self.assertIn(f'--{mode}: ', style)
                self.assertIn(f'.mode-{mode} {{', style)
            for rule in ('.bar, .dot {', '.whisker, .most {', 'svg text {'):
                self.assertIn(rule, style)
            self.assertEqual('.line {' in style, name == 'cpus')
            self.assertNotIn('table', style)


class Lines(unittest.TestCase):
    def test_straight_between_samples(self):
        run = [[0.0, 0], [1.0, 10], [3.0, 50]]
        self.assertEqual([results.value_at(run, t) for t in (0, 0.5, 2, 3)],
                         [0, 5.0, 30.0, 50.0])

    def test_ends_with_the_round_that_ended_first(self):
        it = case('random-write-1', ['on'])
        it['timelines'][1]['on'] = it['timelines'][1]['on'][:3]
        line = results.line_of(results.Result(it), 'on')
        self.assertEqual(line[-1][0], 2.5)
        self.assertAlmostEqual(line[-1][1], 2.5 * 3000 * 1.1)

    def test_one_sample_is_no_line(self):
        it = case('random-write-1', ['on'], [1.0])
        it['timelines'][0]['on'] = [[1.5, 0, 0, None]]
        self.assertEqual(results.line_of(results.Result(it), 'on'), [])
        self.assertEqual(charts.progress(results.Result(it)), '')


if __name__ == '__main__':
    unittest.main()
