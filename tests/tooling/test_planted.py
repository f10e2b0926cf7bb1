# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of faults to plant (scripts/userfault/planted.py)."""

import tempfile
import unittest
from pathlib import Path

import support                       # noqa: F401  (sets the path)
from common import StepError
from planted import planted, read_faults

LIST = '''\
# name file row expression
first   dir/a.c   group:_name   s/one two/three/
second  dir/b.c   other         /four/d
'''


class Planted(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.list = Path(self.folder.name, 'mutants')
        self.list.write_text(LIST)

    def faults(self, *names):
        return read_faults(str(self.list), ('row',), names)

    def plant(self, text, name='first'):
        source = Path(self.folder.name, 'a.c')
        source.write_text(text)
        return planted(self.faults(name)[0], str(source))

    def test_expression_keeps_its_blanks(self):
        self.assertEqual(self.faults()[0].expression, 's/one two/three/')
        self.assertEqual(self.faults()[1].row, 'other')

    def test_named_ones_only(self):
        self.assertEqual([fault.name for fault in self.faults('second')], ['second'])

    def test_unknown_name_is_an_error(self):
        with self.assertRaisesRegex(StepError, 'no fault third'):
            self.faults('third')

    def test_missing_column_is_an_error(self):
        self.list.write_text('name file row\n')
        with self.assertRaisesRegex(StepError, 'mutants:1: expected name'):
            self.faults()

    def test_fault_is_planted(self):
        self.assertEqual(self.plant('say one two\n'), 'say three\n')

    def test_expression_without_effect_is_an_error(self):
        with self.assertRaisesRegex(StepError, 'changes nothing'):
            self.plant('say four\n')


if __name__ == '__main__':
    unittest.main()
