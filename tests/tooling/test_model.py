# SPDX-License-Identifier: GPL-2.0-or-later
"""Do the models name what is in the code, and is their runner hard to please?"""

import importlib.machinery
import importlib.util
import io
import re
import unittest
from contextlib import redirect_stdout
from pathlib import Path
from unittest import mock

import support

FOLDER = Path(support.REPO, 'tests', 'model')
_loader = importlib.machinery.SourceFileLoader('model_run', str(FOLDER / 'run'))
runner = importlib.util.module_from_spec(
    importlib.util.spec_from_loader('model_run', _loader))
_loader.exec_module(runner)

MODEL = '''/*
 * Question?
 *
 * Mirrors
 *   a/b.c: one two
 *       three
 *   c.h: four
 *
 * Mutations
 *   BREAK_A          deadlock  what
 *   BREAK_A+BREAK_B  holds     both
 *
 */
#ifdef BREAK_A
#endif
#if defined(BREAK_B)
#endif
'''
GOOD = '''Full statespace search for:
State-vector 36 byte, depth reached 14, errors: 0
       48 states, stored
'''


def defines(text, name):
    """Whether C source or semantic patch @text has function @name."""
    return re.search(r'^[\w \t*]*\b%s\(' % re.escape(name), text, re.M)


class Names(unittest.TestCase):

    def test_mirrored_functions_exist(self):
        models = sorted(FOLDER.glob('*.pml'))
        self.assertTrue(models)
        for model in models:
            text = model.read_text()
            for path, name in runner.mirrors(text):
                with self.subTest(model=model.name, function=name):
                    code = Path(support.REPO, path).read_text()
                    self.assertTrue(defines(code, name), f'no {name} in {path}')

    def test_mirrored_functions_are_in_the_model(self):
        for model in sorted(FOLDER.glob('*.pml')):
            text = model.read_text()
            body = text.split('*/', 1)[1]
            for _, name in runner.mirrors(text):
                with self.subTest(model=model.name, function=name):
                    self.assertTrue(re.search(r'\b%s\b' % name, body), name)

    def test_a_call_is_no_definition(self):
        self.assertTrue(defines('static int\nname(int a)\n{', 'name'))
        self.assertTrue(defines('static bool name(int a)\n{', 'name'))
        self.assertFalse(defines('    x = name(1);\n', 'name'))
        self.assertFalse(defines('static int other_name(void)\n', 'name'))

    def test_page_has_all_models(self):
        page = Path(support.REPO, 'docs/devel/migration/kvm-userfault.rst').read_text()
        section = page.split('\nThe model\n')[1].split('\nWaiting can be')[0]
        self.assertEqual(sorted(re.findall(r'``([\w-]+\.pml)``', section)),
                         sorted(model.name for model in FOLDER.glob('*.pml')))


class Header(unittest.TestCase):

    def test_lists(self):
        self.assertEqual(runner.mirrors(MODEL), [
            ('a/b.c', 'one'), ('a/b.c', 'two'), ('a/b.c', 'three'), ('c.h', 'four')])
        self.assertEqual([it[:2] for it in runner.mutations(MODEL)],
                         [('BREAK_A', 'deadlock'), ('BREAK_A+BREAK_B', 'holds')])

    def test_fault_that_is_not_planted_or_not_listed(self):
        for text, name in ((MODEL.replace('#ifdef BREAK_A', '#ifdef X'), 'BREAK_A'),
                           (MODEL + '#ifndef BREAK_C\n#endif\n', 'BREAK_C')):
            with self.assertRaisesRegex(runner.BadModel, name):
                runner.mutations(text)

    def test_unknown_outcome(self):
        with self.assertRaisesRegex(runner.BadModel, 'not a mutation'):
            runner.mutations(MODEL.replace('deadlock', 'trouble '))

    def test_each_model_has_rows(self):
        for model in FOLDER.glob('*.pml'):
            rows = runner.rows_of(model)
            self.assertEqual((rows[0].names, rows[0].expected), ((), 'holds'))
            self.assertGreater(len(rows), 5)


class Verdict(unittest.TestCase):

    def test_outcomes(self):
        self.assertEqual(runner.judge(GOOD), 'holds')
        self.assertEqual(runner.states(GOOD), 48)
        for words, outcome in (('assertion violated (x)', 'assert'),
                               ('invalid end state (at depth 3)', 'deadlock'),
                               ('non-progress cycle (at depth 3)', 'livelock')):
            self.assertEqual(runner.judge(f'pan:1: {words}\n{GOOD}'), outcome)

    def test_a_search_that_was_not_complete_says_nothing(self):
        for output in ('error: max search depth too small\n' + GOOD,
                       'pan: out of memory\n' + GOOD,
                       GOOD + 'Warning: Search not completed\n',
                       GOOD.replace('Full', 'Bit'), GOOD.replace('0\n', '1\n', 1), ''):
            with self.assertRaises(runner.Incomplete):
                runner.judge(output)

    def row(self, expected, output):
        row = runner.Row(Path('m.pml'), ['BREAK_A'], expected)
        with mock.patch.object(runner, 'search', return_value=output), \
                mock.patch.object(Path, 'write_text'):
            return row.run(Path('/'))

    def test_outcome_must_be_the_expected_one(self):
        self.assertEqual(self.row('holds', GOOD)[0], 'ok')
        found, _, reason = self.row('deadlock', GOOD)
        self.assertEqual((found, reason), ('not ok', 'holds instead of deadlock'))
        found, _, reason = self.row('assert', 'pan:1: invalid end state\n')
        self.assertEqual((found, reason), ('not ok', 'deadlock instead of assert'))
        self.assertEqual(self.row('holds', 'Segmentation fault')[::2],
                         ('not ok', 'Segmentation fault'))

    def test_without_spin_all_are_skipped(self):
        with mock.patch.object(runner.shutil, 'which', return_value=None), \
                redirect_stdout(io.StringIO()) as printed:
            self.assertEqual(runner.main(['uffd']), 0)
        lines = printed.getvalue().splitlines()
        self.assertTrue(lines)
        for line in lines:
            self.assertRegex(line, r'^skip uffd: \S+ \[0\.0 s\] -- no spin and no cc')


if __name__ == '__main__':
    unittest.main()
