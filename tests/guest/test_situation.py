#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Where vCPUs are (tests/situations/situation.py)."""

import sys
import types
import unittest
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / 'situations')]

import situation                                            # noqa: E402

PARKED = (['202', '0x1000', '0x80', '0x0', '0x0', '0x0', '0x0'],
          'futex_wait_queue')
IN_KVM = (['16', '0x1c', '0xae80', '0x0'], 'handle_userfault')
IDLE = (['16', '0x1c', '0xae80', '0x0'], 'kvm_vcpu_block')
RUNS = (['running'], '0')
# QEMU's own lock
OTHER_FUTEX = (['202', '0x1000', '0x80', '0x2', '0x0', '0x0', '0x0'],
               'futex_wait_queue')


class Waiting(unittest.TestCase):
    def look(self, *places):
        qemu = types.SimpleNamespace(
            threads=lambda: list(range(len(places))),
            process=types.SimpleNamespace(pid=1))
        waiting = situation.Waiting(qemu)
        with mock.patch.object(situation, 'place_of',
                               lambda _, thread: places[thread]):
            return waiting, bool(waiting.settled())

    def test_vcpus_in_the_service_or_in_userfaultfd_lack_pages(self):
        waiting, settled = self.look(PARKED, IN_KVM)
        self.assertTrue(settled)
        self.assertEqual((waiting.lacking, waiting.others), (2, 0))

    def test_an_idle_vcpu_beside_one_that_waits(self):
        waiting, settled = self.look(IDLE, PARKED)
        self.assertTrue(settled)
        self.assertEqual((waiting.lacking, waiting.others), (1, 1))
        self.assertIn('kvm_vcpu_block in system call 16', str(waiting))

    def test_all_idle_wait_for_nothing(self):
        waiting, settled = self.look(IDLE, IDLE)
        self.assertFalse(settled)
        self.assertEqual(waiting.lacking, 0)

    def test_one_that_runs_or_wants_a_lock_may_yet_ask(self):
        for place in (RUNS, OTHER_FUTEX):
            waiting, settled = self.look(PARKED, place)
            self.assertFalse(settled)
            self.assertEqual((waiting.lacking, waiting.others), (1, 1))


if __name__ == '__main__':
    unittest.main()
