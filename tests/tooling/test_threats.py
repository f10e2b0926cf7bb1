#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Is every test there that the threat model names?"""

import re
import subprocess
import sys
import unittest
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PAGE = REPO / 'docs/devel/migration/kvm-userfault-threats.rst'


def statements(text):
    """Paragraphs of the lists"""
    return re.split(r'\n\* ', re.sub(r'\n[^*\s].*', '', text))[1:]


def names_in(statement):
    _, _, held = statement.partition('Held by:')
    return [' '.join(name.split())
            for name in re.findall(r'``(.+?)``', held, re.DOTALL)]


def rows(folder):
    done = subprocess.run([sys.executable, REPO / 'tests' / folder / 'run',
                           '--full', '--list'], stdout=subprocess.PIPE,
                          check=True, text=True)
    return {line.removesuffix(' (full)') for line in done.stdout.splitlines()}


def unit_cases():
    sources = (REPO / 'tests/unit').glob('test-*.c')
    return {name for path in sources
            for name in re.findall(r'"(/[a-z][^"]+)"', path.read_text())}


def programs():
    return {path.stem for path in
            (REPO / 'tests/kernel/conformance').glob('[0-9]*.c')}


class Threats(unittest.TestCase):
    def test_each_statement_has_a_test_or_says_so(self):
        found = statements(PAGE.read_text())
        self.assertGreater(len(found), 12)
        for statement in found:
            said = re.search(r'[Nn]o test\s+here', statement)
            self.assertTrue(bool(names_in(statement)) != bool(said), statement)

    def test_the_tests_exist(self):
        known = rows('situations') | rows('virsh') | unit_cases() | programs()
        named = {name for it in statements(PAGE.read_text())
                 for name in names_in(it)}
        self.assertEqual(named - known, set())


if __name__ == '__main__':
    unittest.main()
