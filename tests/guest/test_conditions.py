#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Circumstances to migrate in (harness.conditions)."""

import shutil
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import HarnessError, conditions                # noqa: E402
from harness.conditions import Network                      # noqa: E402


class HugePages(unittest.TestCase):
    def huge(self, free):
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        (folder / 'nr_hugepages').write_text('7\n')
        (folder / 'free_hugepages').write_text(f'{free}\n')
        return folder

    def test_huge_pages_for_both_ends_and_given_back(self):
        folder = self.huge(384)
        with conditions.huge_pages(384, folder):
            self.assertEqual((folder / 'nr_hugepages').read_text(), '391\n')
        self.assertEqual((folder / 'nr_hugepages').read_text(), '7\n')

    def test_too_few_huge_pages_say_how_many_and_are_given_back(self):
        folder = self.huge(383)
        with self.assertRaisesRegex(HarnessError, '384 .*383 are free'):
            with conditions.huge_pages(384, folder):
                pass
        self.assertEqual((folder / 'nr_hugepages').read_text(), '7\n')

    def test_no_huge_pages_at_all(self):
        with self.assertRaisesRegex(HarnessError, 'be root'):
            with conditions.huge_pages(384, self.huge(0) / 'no-pool'):
                pass


class Networks(unittest.TestCase):
    def test_plain_one_delays_nothing(self):
        self.assertEqual(Network.parse('tcp'), Network(0, 0))

    def test_delay_and_rate(self):
        self.assertEqual(Network.parse('2ms+100mbit'),
                         Network(2000, 100))
        words = Network.parse('250us').netem_words()
        self.assertEqual(words[words.index('delay') + 1], '250us')
        self.assertNotIn('rate', words)
        words = Network.parse('100mbit').netem_words()
        self.assertEqual(words[words.index('rate') + 1], '100mbit')

    def test_what_is_no_network_is_told(self):
        for text in ('', '200', '0us', '-1us', 'ms', '2ms,tcp',
                     '2ms+3us'):
            with self.assertRaisesRegex(HarnessError, 'no network'):
                Network.parse(text)


if __name__ == '__main__':
    unittest.main()
