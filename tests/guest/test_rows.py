# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of rows (harness.rows): outcomes, limits, logs."""

import contextlib
import io
import os
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import HarnessError, Missed, rows                      # noqa: E402


class Subject:
    def __init__(self, folder, *_):
        self.folder = folder
        self.folder.mkdir()
        (self.folder / 'log').write_text('words')
        self.stopped = False

    def stop(self):
        self.stopped = True


def good(subject):
    rows.check(subject.folder.is_dir(), 'no folder')


def bad(_):
    raise HarnessError('it broke\nin two lines')


def buggy(_):
    raise KeyError('missing')


def skipped(_):
    raise rows.Skip('no such device')


def missed(_):
    raise Missed('it was over before')


def missed_once(subject):
    marker = subject.folder.parent / 'tried'
    if not marker.exists():
        marker.touch()
        raise Missed('it was over before')


def slow(_):
    time.sleep(30)


class Outcomes(unittest.TestCase):
    def setUp(self):
        kept = tempfile.TemporaryDirectory()
        self.addCleanup(kept.cleanup)
        self.keep = Path(kept.name)
        self.subjects = []

    def run_rows(self, *functions, words=(), limit=180):
        """(exit code, lines) of rows made of @functions"""
        listed = rows.Rows()
        for function in functions:
            listed.row('group', function.__name__, limit=limit,
                       full=function is slow)(function)
        args = rows.parser('').parse_args(['--keep', str(self.keep), *words])

        def make(*arguments):
            self.subjects.append(Subject(*arguments))
            return self.subjects[-1]
        said = io.StringIO()
        with mock.patch.dict(os.environ, PATIENCE='1'), \
                contextlib.redirect_stdout(said), \
                contextlib.redirect_stderr(io.StringIO()):
            code = rows.main(listed, make, args)
        return code, said.getvalue().splitlines()

    def test_good_row(self):
        code, lines = self.run_rows(good)
        self.assertEqual(code, 0)
        self.assertEqual(lines[0], 'row group: good')
        self.assertRegex(lines[1], r'^ok group: good \[[\d.]+ s\]$')
        self.assertTrue(self.subjects[0].stopped)

    def test_bad_row_keeps_its_logs_and_tells_on_one_line(self):
        code, lines = self.run_rows(bad, good)
        self.assertEqual(code, 1)
        self.assertRegex(lines[1], r'^not ok group: bad \[.*\] -- it broke in two')
        self.assertEqual((self.keep / 'group-bad' / 'log').read_text(), 'words')
        self.assertFalse((self.keep / 'group-good').exists())
        self.assertTrue(lines[3].startswith('ok '))
        self.assertTrue(self.subjects[0].stopped)

    def test_bug_of_a_row_fails_it(self):
        code, lines = self.run_rows(buggy)
        self.assertEqual(code, 1)
        self.assertIn('KeyError', lines[1])

    def test_skip_has_its_reason(self):
        code, lines = self.run_rows(skipped)
        self.assertEqual(code, 0)
        self.assertRegex(lines[1], r'^skip group: skipped .* -- no such device$')

    def test_missed_row_is_tried_again_from_the_beginning(self):
        code, lines = self.run_rows(missed_once)
        self.assertEqual(code, 0)
        self.assertRegex(lines[1], r'^missed group: missed_once, try 1 of 3: '
                                   r'it was over before \(logs: ')
        self.assertRegex(lines[2], r'^ok group: missed_once ')
        self.assertEqual([s.stopped for s in self.subjects], [True, True])

    def test_row_that_is_always_missed_fails(self):
        code, lines = self.run_rows(missed)
        self.assertEqual(code, 1)
        self.assertEqual(len(self.subjects), rows.TRIES)
        self.assertRegex(lines[-1], r'^not ok group: missed \[.*\] -- it was over')

    def test_row_that_takes_too_long(self):
        start = time.monotonic()
        code, lines = self.run_rows(slow, words=['slow'], limit=1)
        self.assertEqual(code, 1)
        self.assertIn('did not end in 1 s', lines[1])
        self.assertLess(time.monotonic() - start, 20)

    def test_full_rows_only_when_asked_for(self):
        self.assertEqual(len(self.run_rows(good, slow)[1]), 2)

    def test_no_row_is_a_failure(self):
        self.assertEqual(self.run_rows(good, words=['other'])[0], 1)


if __name__ == '__main__':
    unittest.main()
