#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""When is a migration a postcopy migration (harness.migration), and how long may it
take?

Needs neither KVM nor QEMU.
"""

import os
import sys
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import Missed                                  # noqa: E402
from harness.migration import (DONE, POSTCOPY, PRECOPY, Migration,  # noqa: E402
                               MigrationSpec)
from harness.moving import NOMINAL_SPEED, measure_speed     # noqa: E402
from harness.qemu import Qemu                               # noqa: E402


class FakeQemu:
    """Says that the migration is over"""
    find_event = Qemu.find_event

    def __init__(self):
        self.name, self.events, self.status = 'fake', [], 'completed'
        self.requests = 0
        self.capabilities = {}

    def read_events(self):
        self.requests += 1          # as if the last came with the event
        return self.events

    def command(self, _name, capabilities=(), **_arguments):
        self.capabilities.update((it['capability'], it['state'])
                                 for it in capabilities)
        return {'status': self.status,
                'ram': {'postcopy-requests': self.requests}}

    def say(self, event, **data):
        self.events.append({'event': event, 'data': data})


class Phases(unittest.TestCase):
    def setUp(self):
        self.source, self.destination = FakeQemu(), FakeQemu()
        self.migration = Migration(self.source, self.destination, 'unix:nowhere')

    def complete(self, *statuses):
        """After the switchover the source goes through @statuses."""
        for status in statuses:
            self.source.say('MIGRATION', status=status)
        self.destination.say('RESUME')
        self.destination.say('MIGRATION', status='completed')
        self.migration.switch_over()

    def test_postcopy_ends(self):
        self.complete('postcopy-active', 'completed')
        self.assertEqual(self.migration.poll().phase, DONE)

    def test_counters_are_from_after_the_last_page(self):
        self.complete('postcopy-active', 'completed')
        self.assertEqual(self.migration.poll().requests, self.source.requests)

    def test_not_before_both_have_completed(self):
        self.complete('postcopy-active')
        self.assertEqual(self.migration.poll().phase, POSTCOPY)

    def test_switchover_that_came_too_late_is_missed(self):
        self.complete('completed')
        with self.assertRaisesRegex(Missed, 'just before the switchover'):
            self.migration.poll()

    def test_precopy_that_converged_is_missed(self):
        self.migration.phase = PRECOPY
        with self.assertRaisesRegex(Missed, 'precopy converged'):
            self.migration.poll()

    def test_both_sides_agree_on_preempt(self):
        # The source was the destination of a migration that had it.
        self.source.capabilities['postcopy-preempt'] = True
        for wanted in (False, True):
            Migration(self.source, self.destination, 'unix:nowhere',
                      MigrationSpec(preempt=wanted)).start()
            for qemu in (self.source, self.destination):
                self.assertIs(qemu.capabilities['postcopy-preempt'], wanted)


class Speed(unittest.TestCase):
    def test_debug_kernel_has_more_time(self):
        with mock.patch('harness.moving.time.monotonic',
                        side_effect=[0, NOMINAL_SPEED] * 2):
            self.assertEqual(measure_speed(), 1)
            with mock.patch.dict(os.environ, SLOWNESS='4'):
                self.assertEqual(measure_speed(), 4)


if __name__ == '__main__':
    unittest.main()
