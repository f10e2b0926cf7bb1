#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the demonstration draw what it was given, and refuse what is wrong?

Needs neither KVM nor QEMU.
"""

import argparse
import io
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent / 'guest'), str(HERE)]

import driver                                               # noqa: E402
import options                                              # noqa: E402
import report                                               # noqa: E402
import view                                                 # noqa: E402
from harness import GuestError, HarnessError, moving         # noqa: E402

ESCAPES = re.compile(r'\033\[[?0-9;]*[A-Za-z]')


class Terminal:
    """As much of a terminal as LiveView uses."""

    def __init__(self):
        self.rows, self.row = [''], 0
        self.written = 0

    def write(self, text):
        self.written += len(text)
        for part in re.split(r'(\033\[\?\d+[hl]|\033\[\d+[AB]|\n)', text):
            if part == '\n':
                self.row += 1
                if self.row == len(self.rows):
                    self.rows.append('')
            elif re.match(r'\033\[\d+A', part):
                self.row -= int(part[2:-1])
                assert self.row >= 0
            elif re.match(r'\033\[\d+B', part):
                self.row += int(part[2:-1])
                assert self.row < len(self.rows)
            elif part.startswith('\r'):
                assert part.endswith('\033[K')
                self.rows[self.row] = part[1:-3]
            else:
                assert not part or part.startswith('\033[?'), repr(part)

    def flush(self):
        pass


class Drawing(unittest.TestCase):
    def test_spark_shows_every_nonzero_value(self):
        self.assertEqual(view.spark([0, 1, 4, 8], 6, '01234567'), '0147  ')
        self.assertEqual(view.spark([1, 10000], 2, '01234567'), '17')

    def test_spark_keeps_the_latest(self):
        self.assertEqual(view.spark([7, 0, 7], 2, '01234567'), '07')

    def test_spark_of_nothing(self):
        self.assertEqual(view.spark([], 4), '    ')

    def test_bar_has_its_width_at_every_fraction(self):
        for i in range(-1, 403):
            self.assertEqual(len(view.bar(i / 400, 20)), 20)
            self.assertEqual(len(view.bar(i / 400, 20, True)), 20)
        self.assertEqual(view.bar(1, 4), '████')
        self.assertEqual(view.bar(0, 4), '░░░░')

    def picture(self):
        return view.Picture(
            title='title', subtitle='subtitle' * 20, step='postcopy', left=12345,
            total=32768, transferred=500 << 20, faults=1789.0,
            faults_peak=2100.0, fault_history=[100, 2000, 1789],
            guest=901.0, guest_history=[200000, 901], beat=777, errors=0,
            arrived={'vCPU exit': 12345, 'userfaultfd': 9,
                     'background': 777},
            notes=[report.one_line(result('on'))])

    def test_no_line_is_wider_than_the_terminal(self):
        for columns in (80, 100, 120):
            painter = view.Painter(columns, color=True)
            for line in painter.compose(self.picture()):
                self.assertLessEqual(len(ESCAPES.sub('', line)), columns)

    def test_color_can_be_left_out(self):
        text = '\n'.join(view.Painter(100, False, False)
                         .compose(self.picture()))
        self.assertNotIn('\033', text)
        self.assertTrue(text.isascii())

    def test_errors_stand_out(self):
        picture = self.picture()
        picture.errors = 3
        text = '\n'.join(view.Painter(100).compose(picture))
        self.assertIn(view.RED + '3 errors', text)

    def test_redrawing_in_place_shows_the_latest_lines(self):
        terminal = Terminal()
        live = view.LiveView(terminal, view.Painter())
        for lines in (['a', 'b', 'c'], ['a', 'B', 'c'], ['a', 'B', 'c'],
                      ['x', 'B', 'y'], ['n', 'x', 'B', 'y'],
                      ['n', 'x', 'B', 'z']):
            live.show(lines)
            self.assertEqual(terminal.rows, lines + [''])
            self.assertEqual(terminal.row, len(lines))

    def test_unchanged_lines_are_not_written(self):
        terminal = Terminal()
        live = view.LiveView(terminal, view.Painter())
        live.show(['a' * 100] * 8)
        before = terminal.written
        live.show(['a' * 100] * 8)
        self.assertEqual(terminal.written, before)
        live.show(['a' * 100] * 7 + ['b'])
        self.assertLess(terminal.written - before, 40)


def counters(**changes):
    good = {'status': 'finished', 'exits': 10, 'requests': 9, 'pages-vcpu': 9,
            'pages-readahead': 0, 'pages-userfaultfd': 1, 'pages-background': 5,
            'latency': {'count': 9, 'total-ns': 900, 'max-ns': 130,
                        'distribution': [0] * 6 + [8, 1]},
            'userfaultfd-latency': {'count': 0, 'total-ns': 0, 'max-ns': 0,
                                    'distribution': []}}
    good.update(changes)
    return good


class Verdict(unittest.TestCase):
    def test_good_counters_pass(self):
        driver.check_counters('on', counters())
        driver.check_counters('off', counters(
            **{'status': 'off', 'exits': 0, 'pages-vcpu': 0}))

    def test_missing_counter_fails(self):
        for name in driver.COUNTERS:
            some = counters()
            del some[name]
            with self.assertRaisesRegex(HarnessError, name):
                driver.check_counters('on', some)

    def test_on_without_any_exit_fails(self):
        for name in ('exits', 'pages-vcpu'):
            with self.assertRaisesRegex(HarnessError, 'no fault went'):
                driver.check_counters('on', counters(**{name: 0}))

    def test_fallback_fails_with_its_reason(self):
        with self.assertRaisesRegex(HarnessError, 'fallback: too old'):
            driver.check_counters('on', counters(status='fallback',
                                                 reason='too old'))

    def test_off_with_exits_fails(self):
        with self.assertRaisesRegex(HarnessError, 'in spite of'):
            driver.check_counters('off', counters(status='off'))

    def test_standing_still_fails_and_moving_does_not(self):
        still = moving.Still('nothing moved', 10, GuestError)
        for now in range(100):
            still.see(now, now // 9)
        with self.assertRaisesRegex(GuestError, 'nothing moved'):
            for now in range(100, 120):
                still.see(now, 0)

    def test_standing_still_counts_from_the_first_look(self):
        moving.Still('', 10, GuestError).see(1000.0, None)


class Figures(unittest.TestCase):
    def test_rate_covers_its_window(self):
        rate = driver.Rate()
        for i in range(21):
            rate.add(i * 0.25, i * 100)
        self.assertAlmostEqual(rate.value, 400)
        rate.add(5.25, 2000)
        self.assertLess(rate.value, 400)

    def test_count_rate_ends_with_its_window(self):
        samples = [(11, 100), (12, 300), (13, 900)]
        self.assertEqual(driver.count_rate(samples, 10, 12.5), 150)
        self.assertIsNone(driver.count_rate(samples, 20, 25))

    def test_throughput_uses_the_guests_clock(self):
        beats = [{'ms': t * 500, 'verified': t * 1000, 'time': t}
                 for t in range(30)]
        self.assertEqual(driver.throughput(beats[2], beats[6]), 2000)
        self.assertIsNone(driver.throughput(beats[2], beats[2]))
        mark = {'ms': 1200, 'verified': 2400}
        self.assertEqual(driver.last_beat(beats, mark, within=5)['ms'], 6000)
        self.assertEqual(driver.last_beat(beats, mark, until=7.5)['ms'], 3500)
        self.assertIs(driver.last_beat(beats[:2], mark), mark)

    def test_largest_gap(self):
        beats = [{'time': t} for t in (0, 1, 4, 5)]
        self.assertEqual(driver.largest_gap(beats), 3)
        self.assertEqual(driver.largest_gap([]), 0)

    def test_latency_takes_the_exact_maximum(self):
        latency = driver.latency(counters()['latency'])
        self.assertEqual(latency['max'], 130)
        self.assertTrue(64 <= latency['p50'] < 128)
        self.assertEqual(latency['p99'], 130)
        self.assertIsNone(driver.latency(counters()['userfaultfd-latency']))
        self.assertIsNone(driver.latency(None))

    def test_durations(self):
        for ns, text in ((None, '-'), (5, '5 ns'), (1234, '1.23 us'),
                         (98765, '98.8 us'), (999e6, '999 ms'),
                         (1.5e9, '1.50 s')):
            self.assertEqual(report.duration(ns), text)


def result(userfault, **changes):
    values = {'userfault': userfault, 'stopped_ms': 30.0, 'postcopy_s': 10.0,
              'faults': 1000, 'faults_per_s': 100.0, 'guest_gap_ms': 400.0,
              'early_faults_per_s': 300.0, 'guest_early_pages_per_s': 40.0,
              'guest_precopy_pages_per_s': 9000.0,
              'guest_postcopy_pages_per_s': 500.0, 'guest_errors': 0,
              'guest_verified': 12345, 'vcpu_latency': None,
              'uffd_latency': None, 'counters': counters(),
              'guest_latency': {'count': 1, 'p50': 1e6, 'p99': 2e6,
                                'max': 3e6}}
    values.update(changes)
    return values


class Table(unittest.TestCase):
    def test_on_stands_left_whatever_the_order(self):
        lines = report.table([result('off'),
                              result('on', faults_per_s=200.0)])
        self.assertRegex(lines[0], 'userfault=on +userfault=off +on / off')
        row = next(line for line in lines if 'per second' in line)
        self.assertRegex(row, r'200 +100 +2\.00$')

    def test_several_runs_are_shown_by_their_medians(self):
        runs = [result(mode, faults_per_s=rate, uffd_latency=None)
                for mode, rate in (('on', 300.0), ('off', 100.0), ('on', 900.0),
                                   ('off', 140.0), ('on', 400.0))]
        lines = report.table(runs)
        self.assertRegex(lines[0], 'userfault=on +userfault=off +on / off')
        row = next(line for line in lines if 'per second' in line)
        self.assertRegex(row, r'400 +120 +3\.33$')

    def test_rows_without_any_value_are_left_out(self):
        lines = report.table([result('on'), result('off')])
        self.assertFalse([line for line in lines if 'QEMU' in line])

    def test_one_line_names_the_essentials(self):
        line = report.one_line(result('on'))
        for text in ('userfault=on ', '100 faults/s', '0 errors', '1.00 ms'):
            self.assertIn(text, line)


class Modes(unittest.TestCase):
    def test_unknown_mode_is_refused(self):
        self.assertEqual(options.modes('off,on'), 'off,on')
        with self.assertRaisesRegex(argparse.ArgumentTypeError, "'auto'"):
            options.modes('on,auto')


# tests/demo/run with @argv[1] for what it starts
RUN = """
import importlib.machinery, importlib.util, sys
loader = importlib.machinery.SourceFileLoader('demo_run', sys.argv.pop(1))
module = importlib.util.module_from_spec(
    importlib.util.spec_from_loader('demo_run', loader))
loader.exec_module(module)
command = ['sh', '-c', sys.argv.pop(1)]
module.command_line = lambda *_: command
sys.exit(module.main())
"""


class Ending(unittest.TestCase):
    def test_a_signal_ends_what_it_started(self):
        child = ('trap "echo ended; exit" TERM; echo started; '
                 'for i in $(seq 50); do sleep 0.1; done')
        with subprocess.Popen([sys.executable, '-B', '-c', RUN, HERE / 'run', child],
                              stdout=subprocess.PIPE, text=True) as process:
            self.assertEqual(process.stdout.readline(), 'started\n')
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.stdout.readline(), 'ended\n')
            self.assertEqual(process.wait(20), 128 + signal.SIGTERM)

    def test_the_exit_code_is_passed_on(self):
        done = subprocess.run([sys.executable, '-B', '-c', RUN, HERE / 'run', 'exit 7'],
                              check=False)
        self.assertEqual(done.returncode, 7)


class Plain(unittest.TestCase):
    def test_quiet_view_prints_notes_only(self):
        out = io.StringIO()
        quiet = view.QuietView(out)
        quiet.draw(None)
        quiet.note('1/2 fine')
        self.assertEqual(out.getvalue(), '1/2 fine\n')


if __name__ == '__main__':
    unittest.main()
