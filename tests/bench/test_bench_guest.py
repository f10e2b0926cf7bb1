#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the benchmark's guest boot, count right, and notice a wrong byte?

The workers run natively; the rest needs a QEMU, whose own TCG will do.
"""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent / 'guest'), str(HERE)]

from cases import Case, Mode                                # noqa: E402
from harness import GuestError, HarnessError, paths         # noqa: E402
from harness.moving import measure_speed                    # noqa: E402
from machine import ORDERS, number_list                     # noqa: E402
from measure import Run                                     # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix='bench.')
HOT_MIB = 4
NOTHING_TO_CHOOSE = Mode('under TCG there is no KVM userfault')


def setUpModule():
    subprocess.run([HERE / 'build', FOLDER.name], check=True)


def tearDownModule():
    FOLDER.cleanup()


class Workers(unittest.TestCase):
    def test_they_touch_all_and_notice_all(self):
        program = Path(FOLDER.name) / 'selftest'
        subprocess.run(['gcc', '-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror',
                        '-o', program, HERE / 'selftest.c',
                        HERE / 'guest/worker.c'], check=True)
        done = subprocess.run([program], text=True, stdout=subprocess.PIPE,
                              check=False)
        lines = done.stdout.splitlines()
        self.assertEqual([it for it in lines if not it.startswith('ok ')], [])
        self.assertEqual(done.returncode, 0)
        for order in ORDERS:
            self.assertEqual(sum(it.endswith(order) for it in lines), 10, order)


class Guest(unittest.TestCase):
    def setUp(self):
        try:
            paths.qemu()
        except HarnessError as error:
            self.skipTest(str(error))
        image = Path(FOLDER.name) / 'bench.bin'
        patch = mock.patch.dict('os.environ',
                                {'USERFAULT_BENCH_GUEST': str(image)})
        patch.start()
        self.addCleanup(patch.stop)

    def guest(self, order='random', cpus=1, window=1.0, **settings):
        case = Case(order, cpus=cpus, hot_mib=HOT_MIB, memory_mib=16)
        run = Run(Path(FOLDER.name) / 'run', case, NOTHING_TO_CHOOSE,
                  4 * measure_speed(), window, accel='tcg', beat_ms=50,
                  **settings)
        self.addCleanup(run.stop)
        return run

    def test_one_cpu_counts_exactly(self):
        run = self.guest()
        run.boot()
        report = run.report()
        figures = report.figures
        self.assertEqual(run.guest.log.ready['pages'], HOT_MIB << 8)
        self.assertGreater(figures['verified'], 0)
        self.assertEqual(number_list(figures['touches']), [figures['verified']])
        self.assertEqual(sum(report.counts.values()), figures['verified'])
        self.assertEqual(figures['passes'],
                         figures['verified'] // (HOT_MIB << 8))
        self.assertEqual(figures['errors'], 0)

    def check_cpus(self, order, cpus):
        """All CPUs work, and their counts agree with each other."""
        run = self.guest(order, cpus, slow_us=0)
        run.boot()
        run.until(lambda: run.guest.log.last_beat
                  and run.guest.log.last_beat['passes'])
        report = run.report()
        touches = number_list(report.figures['touches'])
        slows = number_list(report.figures['slows'])
        self.assertEqual(run.guest.log.ready['threads'], cpus)
        self.assertEqual((len(touches), len(slows)), (cpus, cpus))
        part = (HOT_MIB << 8) // (1 if order == 'shared' else cpus)
        self.assertGreaterEqual(min(touches), part)
        # The others go on while the first CPU reads their counters.
        self.assertGreaterEqual(sum(report.counts.values()),
                                report.figures['verified'])
        for all_, slow in zip(touches, slows):
            self.assertGreaterEqual(slow + 1, all_)
        self.assertEqual(report.figures['errors'], 0)
        run.check_memory()

    def test_four_cpus_count_right_in_every_order(self):
        for order in ORDERS:
            with self.subTest(order):
                self.check_cpus(order, 4)

    def test_damaged_byte_is_reported(self):
        run = self.guest(cpus=2)
        with self.assertRaisesRegex(GuestError, 'the guest saw a wrong byte'):
            run.run(corrupt=True)

    def test_verification_finds_what_no_touch_comes_to(self):
        run = self.guest(cpus=2)
        run.boot()
        run.guest.send(b'h')
        run.wait_for_beats(len(run.guest.log.beats) + 4)
        with self.assertRaisesRegex(GuestError, 'the guest saw a wrong byte'):
            run.check_memory()
            run.wait_for_beats(1000)    # it was late to say so

    def test_memory_that_does_not_fit_is_refused(self):
        run = self.guest()
        run.spec.hot_mib = 64
        with self.assertRaisesRegex(GuestError, 'hot-memory-does-not-fit'):
            run.boot()

    def test_unknown_order_is_refused(self):
        run = self.guest()
        run.spec.order = 'randomly'
        with self.assertRaisesRegex(GuestError, 'no-such-order'):
            run.boot()

    def test_a_whole_run(self):
        """Migrates from TCG to TCG; the way of the faults is not looked at."""
        run = self.guest('sequential', cpus=2)
        try:
            figures = run.run()
        except HarnessError as error:
            if 'Userfaultfd not available' in str(error):
                self.skipTest(str(error))
            raise
        self.assertGreater(figures['requests'], 0)
        self.assertGreater(figures['touches_per_s_before'], 0)
        self.assertGreater(figures['touches_per_s_after'], 0)
        requests = [it[1] for it in run.timeline()]
        self.assertEqual(requests, sorted(requests))
        self.assertEqual(requests[-1], figures['requests'])


if __name__ == '__main__':
    unittest.main()
