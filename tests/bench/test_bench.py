#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the benchmark compute and print what was measured?

Needs neither KVM nor QEMU.
"""

import contextlib
import io
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent / 'guest'), str(HERE)]

import cases                                                # noqa: E402
import targets                                              # noqa: E402
import measure                                              # noqa: E402
import options                                              # noqa: E402
import process                                              # noqa: E402
import report                                               # noqa: E402
import stats                                                # noqa: E402
from harness import HarnessError                            # noqa: E402
from harness.console import GuestReport, parse_line         # noqa: E402
from harness.histogram import bucket_index                  # noqa: E402
from machine import number_list                             # noqa: E402
from process import CpuTime                                 # noqa: E402


class Statistics(unittest.TestCase):
    ROUNDS = [{'on': {'rate': 30.0}, 'off': {'rate': 10.0}},
              {'on': {'rate': 20.0}, 'off': {'rate': 20.0}},
              {'on': {'rate': 80.0}, 'off': {'rate': 40.0}}]

    def test_spread_is_median_and_extremes(self):
        self.assertEqual(stats.spread([5, 1, 9]), stats.Spread(5, 1, 9, 3))
        self.assertEqual(stats.spread([4, 1]), stats.Spread(2.5, 1, 4, 2))

    def test_spread_leaves_out_what_is_unknown(self):
        self.assertEqual(stats.spread([None, 7]), stats.Spread(7, 7, 7, 1))
        self.assertIsNone(stats.spread([None]))

    def test_ratio_is_taken_within_rounds(self):
        # Of the medians it would be 1.5.
        self.assertEqual(stats.ratio(self.ROUNDS, 'on', 'off', 'rate'),
                         stats.Spread(2.0, 1.0, 3.0, 3))

    def test_ratio_to_nothing_is_unknown(self):
        self.assertIsNone(stats.ratio([{'on': {'n': 1}, 'off': {'n': 0}}],
                                      'on', 'off', 'n'))
        self.assertIsNone(stats.ratio([{'on': {'n': 1}}], 'on', 'off', 'n'))

    def test_summary_has_modes_and_ratios(self):
        found = stats.summary(self.ROUNDS, ('off', 'stock'))['rate']
        self.assertEqual(set(found), {'on', 'off', 'on/off'})
        self.assertEqual(found['on'], {'median': 30.0, 'min': 20.0,
                                       'max': 80.0, 'count': 3})
        self.assertEqual(found['on/off']['median'], 2.0)

    def test_a_round_that_was_cut_short_counts_for_what_it_has(self):
        found = stats.summary([*self.ROUNDS, {'on': {'rate': 1.0}}], ('off',))
        self.assertEqual(found['rate']['on']['count'], 4)
        self.assertEqual(found['rate']['on/off']['count'], 3)


class Plan(unittest.TestCase):
    def test_every_other_round_is_backwards(self):
        self.assertEqual(cases.rounds(['a', 'b', 'c'], 3),
                         [['a', 'b', 'c'], ['c', 'b', 'a'], ['a', 'b', 'c']])

    def test_names_are_unique_and_quick_ones_exist(self):
        names = [case.name for case in cases.CASES]
        self.assertEqual(len(set(names)), len(names))
        self.assertLessEqual(set(cases.QUICK), set(names))

    def test_every_order_of_the_guest_has_a_case(self):
        self.assertEqual({case.order for case in cases.CASES},
                         set(cases.ORDERS))

    def test_number_of_cpus_is_limited(self):
        self.assertEqual(cases.Case('random', cpus=64).cpus, 64)
        for cpus in (0, 65):
            with self.assertRaisesRegex(HarnessError, '1 to 64 vCPUs'):
                cases.Case('random', cpus=cpus)

    def parse(self, *words):
        return options.parse(cases, words)

    def refused(self, reason, *words):
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit):
            self.parse(*words)
        self.assertIn(reason, said.getvalue())

    def test_options(self):
        args = self.parse()
        self.assertEqual(args.chosen, list(cases.CASES))
        self.assertEqual((args.rounds, args.modes), (5, ['on', 'off']))
        args = self.parse('--quick')
        self.assertEqual([it.name for it in args.chosen], list(cases.QUICK))
        self.assertEqual(args.rounds, 2)
        args = self.parse('--quick', '--rounds', '3', '^moving')
        self.assertEqual([it.name for it in args.chosen], ['moving-write-4'])
        self.assertEqual(args.rounds, 3)

    def test_bad_options_are_refused(self):
        self.refused('no case matches "nonsense"', 'nonsense')
        self.refused('no mode "of"', '--modes', 'on,of')
        self.refused('twice', '--modes', 'on,on')
        self.refused('more than nothing', '--rounds', '0')

    def test_missing_stock_qemu_tells_what_to_run(self):
        with tempfile.TemporaryDirectory() as folder, \
             mock.patch.dict('os.environ', {'BUILD': folder}), \
             self.assertRaisesRegex(HarnessError, 'scripts/userfault/peers.py'):
            cases.MODES['stock'].binaries()


class Figures(unittest.TestCase):
    def beat(self, ms, verified, slows):
        line = f'beat ms={ms} verified={verified} slows={slows}'
        check = 0
        for byte in line.encode():
            check ^= byte
        return parse_line(f'{line} *{check:02x}'.encode())[1]

    def test_lists_of_the_guest(self):
        self.assertEqual(number_list(self.beat(1, 2, ':3:40:5')['slows']),
                         [3, 40, 5])
        for text in ('', '1:2', ':'):
            with self.assertRaises((HarnessError, ValueError)):
                number_list(text)

    def test_guest_figures_are_of_the_guests_clock(self):
        found = measure.guest_figures([self.beat(1000, 50, ':10:20'),
                                       self.beat(1500, 60, ':99:99'),
                                       self.beat(3000, 250, ':30:120')], 2)
        self.assertEqual(found, {
            'faults_per_s': 60.0, 'faults_per_s_per_vcpu': 30.0,
            'faults_per_s_slowest_vcpu': 10.0,
            'faults_per_s_fastest_vcpu': 50.0, 'touches_per_s': 100.0,
            'touches_per_fault': 100 / 60})

    def test_guest_figures_without_beats_are_unknown(self):
        found = measure.guest_figures([self.beat(1000, 50, ':10:20')], 2)
        self.assertEqual(set(found.values()), {None})

    def test_late_beat_of_the_source_is_left_out(self):
        beats = [{'time': t} for t in (9.0, 10.1, 10.5, 11.0, 12.5)]
        self.assertEqual(measure.beats_between(beats, 10.0, 12.0),
                         [{'time': 10.5}, {'time': 11.0}])

    def test_window(self):
        samples = [measure.Sample(9.0, 0, 1000, CpuTime(5.0, 4.0),
                                  CpuTime(1.0, 0.0), None),
                   measure.Sample(11.0, 50, 2500, CpuTime(5.5, 4.1),
                                  CpuTime(2.0, 0.25), None),
                   measure.Sample(14.0, 100, 5000, CpuTime(6.0, 4.2),
                                  CpuTime(3.0, 0.5), 32)]
        found = measure.window_figures(samples, 10.0)
        for name, value in {
                'window_s': 4.0, 'requests': 100, 'requests_per_s': 25.0,
                'background_pages': 32, 'wire_bytes': 4000, 'wire_bytes_per_request': 40.0,
                'destination_cpu_us_per_request': 20000.0,
                'destination_host_cpu_us_per_request': 15000.0,
                'source_host_cpu_us_per_request': 8000.0}.items():
            self.assertAlmostEqual(found[name], value, msg=name)

    def test_a_request_ahead_counts_for_all_of_its_pages(self):
        progress = mock.Mock(requests=10, userfault={
            'readahead-pages': 40, 'readahead-requests': 6})
        self.assertEqual(measure.pages_asked(progress), 44)
        progress = mock.Mock(requests=10, userfault={})
        self.assertEqual(measure.pages_asked(progress), 10)

    def test_window_without_faults_is_an_error(self):
        samples = [measure.Sample(t, 0, 0, CpuTime(0, 0), CpuTime(0, 0), None)
                   for t in (1.0, 2.0)]
        with self.assertRaisesRegex(HarnessError, 'no page was asked for'):
            measure.window_figures(samples, 1.5)

    def test_latency_is_of_slow_touches_between_the_reports(self):
        first, last = GuestReport({}), GuestReport({})
        slow, fast = bucket_index(1 << 20), bucket_index(300)
        first.counts = {fast: 5, slow: 100}
        last.counts = {fast: 9000, slow: 140}
        found = measure.latency_figures(first, last, 200)
        self.assertEqual(found['faults'], 40)
        for key in ('latency_p50_us', 'latency_p99_us', 'latency_max_us'):
            self.assertGreaterEqual(found[key], (1 << 20) / 1e3)
            self.assertLessEqual(found[key], (1 << 20) * 9 / 8 / 1e3)

    def test_counters_of_a_stock_destination_are_unknown(self):
        self.assertEqual(set(measure.counter_figures({}).values()), {None})

    def test_cpu_time_of_a_process_with_an_odd_name(self):
        rest = ['S', *map(str, range(4, 53))]
        text = f'12 (a) R (b) {" ".join(rest)}\n'
        found = process.parse_stat(text)
        # Fields 14, 15 and 43, counted from 1, of proc(5)
        self.assertAlmostEqual(found.total, 29 / process.TICKS_PER_S)
        self.assertAlmostEqual(found.guest, 43 / process.TICKS_PER_S)


class Ways(unittest.TestCase):
    """A run that measured something else than it says fails."""
    ON = {'status': 'finished', 'exits': 5, 'pages-vcpu': 4}

    def refused(self, mode, counters, reason):
        with self.assertRaisesRegex(HarnessError, reason):
            measure.check_counters(cases.MODES[mode], counters)

    def test_good_ones_pass(self):
        measure.check_counters(cases.MODES['on'], self.ON)
        measure.check_counters(cases.MODES['stock-on'], self.ON)
        measure.check_counters(cases.MODES['off'], {
            'status': 'off', 'exits': 0, 'pages-vcpu': 0})
        measure.check_counters(cases.MODES['stock'], {})

    def test_others_do_not(self):
        self.refused('on', {}, 'unknown')
        self.refused('on', {'status': 'fallback', 'reason': 'no luck'}, 'no luck')
        self.refused('on', {**self.ON, 'exits': 0}, '0 exits')
        self.refused('off', self.ON, 'finished')
        self.refused('off', {**self.ON, 'status': 'off'}, '5 exits')
        self.refused('stock', self.ON, 'no unmodified QEMU')


class Goals(unittest.TestCase):
    def lines(self, case, *rounds):
        return targets.lines([{'case': case, 'rounds': list(rounds)}])

    def test_ratio_decides(self):
        good = {'single': {'requests_per_s': 1800.0},
                'off': {'requests_per_s': 1000.0}}
        bad = {'single': {'requests_per_s': 1790.0},
               'off': {'requests_per_s': 1000.0}}
        line, = self.lines('random-write-1', good)
        self.assertRegex(line, r'^met: .*1 vCPUs: 1\.80 \(1\.80\.\.1\.80\)')
        line, = self.lines('random-write-1', good, bad, bad)
        self.assertRegex(line, r'^NOT MET: .*: 1\.79 \(1\.79\.\.1\.80\)')

    def test_latency_is_better_when_it_is_less(self):
        line, = self.lines('random-write-4', {'single': {'latency_p99_us': 30.0},
                                              'off': {'latency_p99_us': 60.0}})
        self.assertRegex(line, '^met: .*: 2.00')

    def test_what_is_pushed_is_a_figure_of_its_own(self):
        line, = self.lines('random-write-64', {'single': {'requests_per_s': 590.0},
                                               'pushed': {'pushed_per_s': 1000.0}})
        self.assertRegex(line, '^NOT MET: .*: 0.59')

    def test_never_slower_in_any_case(self):
        for case in cases.CASES:
            line = self.lines(case.name, {'on': {'requests_per_s': 96.0},
                                          'off': {'requests_per_s': 100.0}})[-1]
            self.assertRegex(line, f'^NOT MET: .*{case.name}: 0.96')

    def test_walks_have_goals_of_their_own(self):
        told = self.lines('strided-write-4', {
            'on': {'requests_per_s': 410.0, 'touches_per_fault': 4.9},
            'off': {'requests_per_s': 100.0, 'touches_per_fault': 1.0}})
        self.assertEqual(len(told), 3)
        self.assertRegex(told[0], '^met: .*4 vCPUs, strided: 4.10')
        self.assertRegex(told[1], '^NOT MET: .*4 vCPUs, strided: 4.90')

    def test_what_was_not_measured_has_no_line(self):
        self.assertEqual(targets.lines([{'case': 'random-write-4', 'rounds': []}]), [])
        self.assertEqual(self.lines('random-write-4', {'on': {}, 'off': {}}), [])

    def test_goals_are_about_modes_and_cases_that_there_are(self):
        names = {case.name for case in cases.CASES}
        for goal in targets.GOALS:
            self.assertLessEqual({goal.above, goal.below}, set(cases.MODES))
            self.assertLessEqual({goal.case.format(n) for n in goal.least}, names)


class Table(unittest.TestCase):
    def lines(self, rounds, modes):
        return report.table('case', rounds, modes, cases.BASELINE)

    def test_median_extremes_and_ratio(self):
        rounds = [{'on': {'requests_per_s': 3000.0},
                   'off': {'requests_per_s': 1000.0}},
                  {'on': {'requests_per_s': 1500.0},
                   'off': {'requests_per_s': 1500.0}}]
        _, head, _, row = self.lines(rounds, ['on', 'off'])
        self.assertEqual(head.split(), ['on', 'off', 'on', '/', 'off'])
        self.assertEqual(row.split()[-6:],
                         ['2,250', '(1,500..3,000)', '1,250', '(1,000..1,500)',
                          '2.00', '(1.00..3.00)'])

    def test_a_single_round_has_no_spread(self):
        row = self.lines([{'on': {'window_s': 2.0}}], ['on'])[-1]
        self.assertEqual(row.split(), ['window,', 's', '2.00'])

    def test_unknown_in_one_mode_is_a_dash(self):
        row = self.lines([{'on': {'pages_vcpu': 7}, 'off': {}}],
                         ['on', 'off'])[-1]
        self.assertEqual(row.split()[-2:], ['7', '-'])

    def test_every_row_is_a_figure_of_a_run(self):
        samples = [measure.Sample(t, 10 * t, t, CpuTime(t, 0), CpuTime(t, 0),
                                  None) for t in (1, 2)]
        first, last = GuestReport({}), GuestReport({})
        known = {**measure.window_figures(samples, 1),
                 **measure.guest_figures([], 1),
                 **measure.limit_figures([], []),
                 **measure.latency_figures(first, last, 1),
                 **measure.counter_figures({}), 'downtime_ms': 1,
                 'last_page_s': 1, 'pushed_per_s': 1}
        self.assertLessEqual({figure for _, figure, *_ in report.ROWS},
                             set(known))


if __name__ == '__main__':
    unittest.main()
