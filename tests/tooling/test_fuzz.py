# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the runner of the fuzz targets call red what is red?"""

import importlib.machinery
import importlib.util
import os
import sys
import unittest
from pathlib import Path

import support
from planted import read_faults

FOLDER = Path(support.REPO, 'tests', 'fuzz')
sys.path.insert(0, str(FOLDER))

import program                                              # noqa: E402

_loader = importlib.machinery.SourceFileLoader('fuzz_run', str(FOLDER / 'run'))
runner = importlib.util.module_from_spec(
    importlib.util.spec_from_loader('fuzz_run', _loader))
_loader.exec_module(runner)

DONE = 'echo stat::number_of_executed_units: 5000'


class Lists(unittest.TestCase):

    def test_each_target_has_seeds_and_faults(self):
        targets = {it.target for it in read_faults(str(FOLDER / 'mutants'),
                                                   ('target',), ())}
        self.assertEqual(targets, set(program.TARGETS))
        for name in program.TARGETS:
            self.assertTrue(runner.seeds(name))

    def test_files_of_the_targets_and_faults_exist(self):
        for own, _ in program.TARGETS.values():
            for name in (*own, *program.OWN):
                self.assertTrue((FOLDER / name).is_file(), name)
        for path in program.SERVICE:
            self.assertTrue(Path(support.REPO, path).is_file(), path)

    def test_all_of_the_service_is_in_the_targets(self):
        ours = {str(path.relative_to(support.REPO)) for path in
                Path(support.REPO, 'migration').glob('postcopy-*.c')}
        peeked = {f'migration/{name}.c' for name in program.PEEKED}
        self.assertEqual(ours - set(program.SERVICE) - peeked, set())


class Runs(support.Case):

    def run_fake(self, script):
        """(finding, what it says, path) of a program that is a shell script"""
        binary = os.path.join(self.folder, 'program')
        support.write(binary, '#!/bin/sh\n' + script, 0o755)
        top = Path(self.folder)
        return runner.fuzz(binary, 'source', 1, top / 'corpus', top / 'findings')

    def test_clean_run_is_green(self):
        self.assertEqual(self.run_fake(DONE), ('', '5000 inputs', ''))

    def test_finding_names_its_reason_and_its_input(self):
        finding, _, path = self.run_fake(
            'echo "FINDING: a page is lost"\n'
            'echo "x; Test unit written to /tmp/crash-1"\nexit 77')
        self.assertEqual((finding, path), ('a page is lost', '/tmp/crash-1'))

    def test_sanitizers_reason_is_found(self):
        for said in ('==5==ERROR: AddressSanitizer: it', 'a.c:5:6: runtime error: it',
                     "p: a.c:5: f: Assertion `it' failed."):
            finding, _, path = self.run_fake(f'cat << "E"\n{said}\nE\nexit 1')
            self.assertIn('it', finding)
            self.assertTrue(path.endswith('source.log'))

    def test_nothing_ran_is_red(self):
        for script in ('', 'echo stat::number_of_executed_units: 3'):
            self.assertEqual(self.run_fake(script)[0], 'it ran no inputs')

    def test_death_without_words_is_red(self):
        self.assertTrue(self.run_fake('kill -9 $$')[0])


if __name__ == '__main__':
    unittest.main()
