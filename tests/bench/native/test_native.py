#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the native benchmark compute and judge what its program printed?

The program itself is tested by test-fault-bench.c.
"""

import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent), str(HERE),
                str(HERE.parents[2] / 'scripts' / 'userfault')]

import figures                                              # noqa: E402
import instructions                                         # noqa: E402
import memslots                                             # noqa: E402
import program                                              # noqa: E402
import tables                                               # noqa: E402
from common import StepError                                # noqa: E402


def raw(mode, threads, number, cpu_us, faults=100):
    """What the program prints of a run in which a fault costs @cpu_us"""
    return {'mode': mode, 'threads': threads, 'round': number, 'faults': faults,
            'wall_ns': 10 ** 6, 'process_cpu_ns': cpu_us * 1000 * faults,
            'process_switches': 2 * faults, 'vcpus_cpu_ns': 5000 * faults,
            'loader_cpu_ns': 4000 * faults, 'fault_thread_cpu_ns': 0,
            'source_cpu_ns': 0, 'p50_ns': 7000, 'p99_ns': 9000,
            'writes': faults // 2, 'longest': 3, 'handoffs': 0}


def both(threads, number, cpu_us):
    return [raw('service', threads, number, cpu_us),
            raw('userfaultfd', threads, number, 10 * cpu_us)]


def slots_run(spaces, present, enable_ms, touch_ms=30, disable_ms=5):
    """What slots-bench prints of a round"""
    return {'gib': 1024, 'address_spaces': spaces, 'present': present,
            'enable_ns': enable_ms * 10 ** 6, 'touch_ns': touch_ms * 10 ** 6,
            'disable_ns': disable_ms * 10 ** 6, 'bitmap_bytes': spaces << 25}


def all_slots(enable_ms, **more):
    return [slots_run(spaces, present, enable_ms + i, **more)
            for spaces in memslots.ADDRESS_SPACES for present in memslots.PRESENT
            for i in range(3)]


class Memslots(unittest.TestCase):
    def verdicts(self, runs):
        return [line.split(':')[0] for line in
                memslots.verdict(memslots.summary(runs))]

    def test_page_faults_do_not_count(self):
        self.assertEqual(self.verdicts(all_slots(79)),
                         ['met', 'met', 'met', 'NOT MET'])

    def test_slow(self):
        self.assertEqual(self.verdicts(all_slots(80, disable_ms=51))[:2],
                         ['NOT MET'] * 2)

    def test_table_has_medians(self):
        found = memslots.summary(all_slots(40))
        self.assertEqual(found[0]['enable_ms'], 41)
        self.assertIn('41.0', memslots.table(found)[2])


class Figures(unittest.TestCase):

    def test_of_one_fault(self):
        found = figures.of_run(raw('service', 8, 0, 30))
        self.assertEqual((found['cpu_us'], found['vcpus_us'], found['switches'],
                          found['writes'], found['p50_us']), (30, 5, 2, .5, 7))
        self.assertEqual(found['faults_per_s'], 100 * 1000)

    def test_growth_is_taken_within_rounds(self):
        # Of the medians it would be 1.
        found = figures.in_rounds(
            both(8, 0, 10) + both(1024, 0, 40) + both(8, 1, 20)
            + both(1024, 1, 20) + both(8, 2, 40) + both(1024, 2, 10))
        spread = figures.growth(found, 'service')
        self.assertEqual((spread.median, spread.min, spread.max), (1, .25, 4))

    def judged(self, many):
        found = figures.in_rounds(both(8, 0, 20) + both(1024, 0, many))
        return figures.verdict(found)[1], figures.summary(found)['goal']['met']

    def test_goal_is_met_up_to_its_limit(self):
        self.assertEqual(self.judged(30), (
            'MET: 1.50 times (1.50..1.50 in 1 rounds)', True))

    def test_goal_is_not_met_above(self):
        self.assertEqual(self.judged(32), (
            'NOT MET: 1.60 times (1.60..1.60 in 1 rounds)', False))

    def test_without_its_numbers_of_vcpus_nothing_is_said_of_the_goal(self):
        found = figures.in_rounds(both(8, 0, 10))
        self.assertIn('not looked at', figures.verdict(found)[0])
        self.assertIsNone(figures.summary(found)['goal'])


class Tables(unittest.TestCase):

    def test_ratio_is_that_of_the_modes(self):
        text = '\n'.join(tables.all_tables(figures.in_rounds(both(8, 0, 10))))
        self.assertRegex(text, r'(?m)^ +8 .* 0\.10 \(0\.10\.\.0\.10\)')

    def test_heading_for_every_mode(self):
        lines = tables.all_tables(figures.in_rounds(both(8, 0, 10)))
        for mode in figures.MODES:
            self.assertTrue(any(it.startswith(f' {mode}: ') for it in lines))


class Program(unittest.TestCase):

    def test_a_run_that_hangs_is_named(self):
        with self.assertRaisesRegex(StepError, 'hung'):
            list(program.read_runs(['sh', '-c', 'kill -ALRM $$']))

    def test_its_last_words_are_the_error(self):
        with self.assertRaisesRegex(StepError, '^wrong$'):
            list(program.read_runs(['sh', '-c', 'echo wrong >&2; exit 1']))

    def test_lines_are_runs(self):
        self.assertEqual(list(program.read_runs(['echo', '{"a": 1}'])), [{'a': 1}])

    def test_total_of_callgrind(self):
        self.assertEqual(instructions.read_total('fn=x\n1 2\n\ntotals: 4711\n'), 4711)


if __name__ == '__main__':
    unittest.main()
