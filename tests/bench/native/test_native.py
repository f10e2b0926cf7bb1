#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the native benchmark compute and judge what its program printed?

The program itself is tested by test-fault-bench.c.
"""

import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent), str(HERE),
                str(HERE.parents[2] / 'scripts' / 'userfault')]

import figures                                              # noqa: E402
import hugepages                                            # noqa: E402
import instructions                                         # noqa: E402
import memslots                                             # noqa: E402
import program                                              # noqa: E402
import tables                                               # noqa: E402
from common import StepError, build_dir                     # noqa: E402


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

    def test_heading_for_every_table(self):
        lines = tables.all_tables(figures.in_rounds(both(8, 0, 10)))
        for start in ('service: medians', 'userfaultfd: medians',
                      'service / userfaultfd: ', 'service / giving: '):
            self.assertTrue(any(it.startswith(f' {start}') for it in lines))


def huge_run(mode, number, p50_us, threads=4, link=0):
    """What huge-bench prints of a run with two huge pages"""
    return {'mode': mode, 'threads': threads, 'link': link, 'round': number,
            'host_pages': 2, 'touches': 50, 'touched_ns': 10 ** 8,
            'complete_ns': 2 * 10 ** 8, 'cpu_ns': 6000, 'reads': 100,
            'ioctls': 2, 'requests': 40, 'sleeps': 30, 'source_calls': 130,
            'vcpu_waited': 40, 'vcpu_p50_ns': p50_us * 1000,
            'vcpu_p99_ns': 9 * 10 ** 6, 'device_waited': 3,
            'device_p50_ns': 7000, 'device_p99_ns': 8000}


class Huge(unittest.TestCase):

    def test_of_one_host_page(self):
        found = hugepages.of_run(huge_run('whole', 0, 1500))
        self.assertEqual(
            (found['waited'], found['p50_us'], found['touches_per_s'],
             found['complete_ms'], found['calls'], found['source_calls'],
             found['cpu_us']), (80, 1500, 500, 200, 101, 65, 3))

    def test_gain_is_taken_within_rounds(self):
        found = hugepages.in_rounds(
            [huge_run('whole', 0, 100), huge_run('kept', 0, 10),
             huge_run('whole', 1, 400), huge_run('kept', 1, 20),
             huge_run('whole', 2, 300), huge_run('kept', 2, 10)])
        rounds = found[0, 4]
        self.assertIn('20.0 (10.0..30.0)', hugepages.row(rounds, 'kept'))
        self.assertNotIn('(', hugepages.row(rounds, 'whole'))

    def test_part_for_each_link_has_its_runs_only(self):
        lines = hugepages.table(hugepages.in_rounds(
            [huge_run('whole', 0, 1000), huge_run('whole', 0, 2000, 16, 1250)]),
            2048)
        self.assertEqual(
            [line.split()[:2] for line in lines if line.split()[1:2] == ['whole']],
            [['4', 'whole'], ['16', 'whole']])
        self.assertIn(' link of 1,250 MB/s', lines)

    def test_memory_is_a_number_of_huge_pages(self):
        for size, (_, mib, _) in hugepages.SIZES.items():
            self.assertEqual(mib * 1024 % size, 0)

    def test_reserves_and_gives_back(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / '2048'
            path.write_text('7\n')
            with self.assertRaisesRegex(StepError, 'a run hung'):
                with hugepages.reserved(2048, folder + '/{}'):
                    self.assertEqual(path.read_text(), '256\n')
                    raise StepError('a run hung')
            self.assertEqual(path.read_text(), '7\n')

    def test_way_of_kvm_s_own_accesses(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'huge-kvm'
            path.write_text('#!/bin/sh\n'
                            'echo \'{"alias": "written", "guarded": "waits"}\'\n')
            path.chmod(0o755)
            self.assertIn('alias: written; on the guarded mapping: waits',
                          hugepages.own_access(str(path)))
            path.write_text('#!/bin/sh\necho no KVM >&2\nexit 1\n')
            self.assertIn('were not looked at: no KVM',
                          hugepages.own_access(str(path)))

    def test_may_not_reserve(self):
        with tempfile.TemporaryDirectory() as folder, \
                self.assertRaisesRegex(StepError, 'cannot be reserved'):
            with hugepages.reserved(2048, f'{folder}/no-pool/{{}}'):
                pass


class HugeProgram(unittest.TestCase):
    """huge-bench itself, if it has been built"""

    SMALL = ['--mib', '16', '--threads', '4', '--touches', '32', '--rounds', '1',
             '--link', '0']

    def setUp(self):
        self.path = Path(build_dir()) / 'native' / program.VARIANT / program.HUGE
        if not self.path.is_file():
            self.skipTest('huge-bench has not been built')

    def small(self, *more):
        free = Path(hugepages.NR.format(2048)).with_name('free_hugepages')
        if not free.is_file() or int(free.read_text()) < 8:
            self.skipTest('needs 8 free huge pages of 2 MiB')
        return list(program.read_runs([str(self.path), *self.SMALL, *more]))

    def test_all_modes_bring_each_byte(self):
        self.assertEqual([it['mode'] for it in self.small()],
                         list(hugepages.MODES))

    def test_mapping_that_is_not_guarded_is_noticed(self):
        with self.assertRaisesRegex(StepError, 'shows a host page'):
            self.small('--break', 'missing')

    def test_mapping_that_is_opened_early_is_noticed(self):
        with self.assertRaisesRegex(StepError, 'the device read from a host page'):
            self.small('--break', 'open', '--mode', 'piece-first', '--link', '50')

    def test_breakage_that_is_none_is_refused(self):
        with self.assertRaisesRegex(StepError, 'nothing to break is called "x"'):
            list(program.read_runs([str(self.path), *self.SMALL, '--break', 'x']))

    def test_too_few_huge_pages_names_the_cure(self):
        with self.assertRaisesRegex(StepError, r'as root: echo \d+ > /sys/'):
            list(program.read_runs([str(self.path), '--mib', str(1 << 30)]))


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
