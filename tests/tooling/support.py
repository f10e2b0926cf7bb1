# SPDX-License-Identifier: GPL-2.0-or-later
"""A cache and a build folder of their own for each test."""

import os
import shutil
import sys
import tempfile
import unittest

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(REPO, 'scripts', 'userfault'),
                os.path.join(REPO, 'tests', 'testhost')]


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as stream:
        stream.write(text)
    os.chmod(path, mode)


class Case(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='tooling-')
        self.addCleanup(shutil.rmtree, self.folder)
        self.saved = {name: os.environ.get(name) for name in ('XDG_CACHE_HOME', 'BUILD')}
        self.addCleanup(self.restore)
        os.environ['XDG_CACHE_HOME'] = os.path.join(self.folder, 'cache')
        os.environ['BUILD'] = os.path.join(self.folder, 'build')

    def restore(self):
        for name, value in self.saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
