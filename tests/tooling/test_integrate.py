# SPDX-License-Identifier: GPL-2.0-or-later
"""Is the integrated tree what the repository says, and touched no more than needed?"""

import os
import subprocess
import unittest

import support
import integrate
import pristine
import series
import seriesfile
from common import StepError, save_config
from support import write

PRISTINE = {'VERSION': '10.0.1\n', 'dir/x.c': 'int f(void)\n{\n    return 1;\n}\n',
            'dir/Makefile': 'obj-y += x.o\n', 'other.txt': 'same\n'}
COCCI = '//# rule one places 1 -- why\n@@\n@@\n- return 1;\n+ return 2;\n'
SERIES = '''# comment
dir: return two

Because.

file: dir/x.c
----
dir: add y

Because of y.

file: dir/y.c
file: dir/Makefile
'''


class Tree(support.Case):

    def setUp(self):
        super().setUp()
        self.root = os.path.join(self.folder, 'repo')
        source = os.path.join(self.folder, 'source')
        for name, text in PRISTINE.items():
            write(os.path.join(source, name), text)
        write(os.path.join(source, 'tool.sh'), '#!/bin/sh\n', 0o755)
        os.symlink('other.txt', os.path.join(source, 'link'))
        pristine.store('toy-1', source, 'toy 1')
        self.put('dir/x.cocci', COCCI)
        self.put('dir/y.c', 'int y;\n')
        self.put('dir/Makefile.insert', 'after: x.o\n+obj-y += y.o\n')
        self.series(SERIES)
        integrate.COMPONENTS['toy'] = integrate.Component(
            'toy', self.root, os.path.join(self.folder, 'toy.series'), gigabytes=0.01)
        self.addCleanup(integrate.COMPONENTS.pop, 'toy')
        save_config({'sources': {'toy': {'key': 'toy-1', 'version': '10.0.1'}}})
        self.tree = os.path.join(os.environ['BUILD'], 'toy')

    def put(self, name, text):
        write(os.path.join(self.root, name), text)

    def series(self, text):
        write(os.path.join(self.folder, 'toy.series'), text)

    def read(self, name):
        with open(os.path.join(self.tree, name)) as stream:
            return stream.read()

    def git(self, *words):
        return subprocess.run(['git', '-C', self.tree] + list(words), check=True,
                              stdout=subprocess.PIPE,
                              universal_newlines=True).stdout.strip()

    def times(self):
        return {name: os.lstat(os.path.join(self.tree, name)).st_mtime_ns
                for name in ('dir/x.c', 'dir/y.c', 'dir/Makefile', 'other.txt')}

    def test_files_links_and_commits(self):
        integrate.integrate('toy')
        self.assertIn('return 2', self.read('dir/x.c'))
        self.assertIn('y.o', self.read('dir/Makefile'))
        self.assertEqual(os.readlink(os.path.join(self.tree, 'dir/y.c')),
                         os.path.join(self.root, 'dir/y.c'))
        self.assertTrue(os.access(os.path.join(self.tree, 'tool.sh'), os.X_OK))
        self.assertEqual(os.readlink(os.path.join(self.tree, 'link')), 'other.txt')
        self.assertEqual(self.git('log', '--format=%s').splitlines(),
                         ['dir: add y', 'dir: return two', 'toy 1'])
        self.assertIn('100644 blob', self.git('ls-tree', 'HEAD', 'dir/y.c'))
        self.assertEqual(self.git('status', '--porcelain'), '')

    def test_second_run_touches_nothing_and_commits_the_same(self):
        first = integrate.integrate('toy')
        before = self.times()
        self.assertEqual(integrate.integrate('toy'), first)
        self.assertEqual(self.times(), before)

    def test_edit_touches_only_that_file(self):
        integrate.integrate('toy')
        before = self.times()
        self.put('dir/x.cocci', COCCI.replace('2', '3'))
        integrate.integrate('toy')
        after = self.times()
        self.assertIn('return 3', self.read('dir/x.c'))
        self.assertEqual([name for name in before if before[name] != after[name]],
                         ['dir/x.c'])

    def test_removed_block_restores_the_pristine_files(self):
        integrate.integrate('toy')
        os.unlink(os.path.join(self.root, 'dir/y.c'))
        os.unlink(os.path.join(self.root, 'dir/Makefile.insert'))
        self.series(SERIES.split('----\n')[0])
        integrate.integrate('toy')
        self.assertEqual(self.read('dir/Makefile'), PRISTINE['dir/Makefile'])
        self.assertFalse(os.path.lexists(os.path.join(self.tree, 'dir/y.c')))
        self.assertEqual(self.git('status', '--porcelain'), '')

    def test_rule_that_does_not_fit_leaves_the_tree_alone(self):
        integrate.integrate('toy')
        before = self.times()
        self.put('dir/y.c', 'int z;\n')
        self.put('dir/x.cocci', COCCI.replace('places 1', 'places 2'))
        with self.assertRaisesRegex(StepError, 'rule one .* wanted 2 places, got 1'):
            integrate.integrate('toy')
        self.assertEqual(self.times(), before)

    def test_interrupted_checkout_is_done_again(self):
        half = self.tree + '.part-4194305'
        os.makedirs(half)
        integrate.integrate('toy')
        self.assertFalse(os.path.exists(half))
        os.unlink(os.path.join(self.tree, '.git', integrate.STATE))
        integrate.integrate('toy')
        self.assertIn('return 2', self.read('dir/x.c'))

    def test_forgotten_file_stops(self):
        self.put('dir/z.c', 'int z;\n')
        with self.assertRaisesRegex(StepError, 'no block has "file: dir/z.c"'):
            integrate.integrate('toy')

    def test_file_in_two_blocks_stops(self):
        self.series(SERIES + 'file: dir/x.c\n')
        with self.assertRaisesRegex(StepError, 'dir/x.c is in "dir: return two" and'):
            integrate.integrate('toy')

    def test_path_without_source_stops(self):
        self.series(SERIES + 'file: dir/w.c\n')
        with self.assertRaisesRegex(StepError, 'nothing in the repository stands for'):
            integrate.integrate('toy')

    def test_block_without_reason_stops(self):
        self.series('dir: return two\n\nfile: dir/x.c\n')
        with self.assertRaisesRegex(StepError, 'gives no reason'):
            integrate.integrate('toy')

    def test_new_file_must_not_exist_already(self):
        self.put('other.txt', 'mine\n')
        self.series(SERIES + 'file: other.txt\n')
        with self.assertRaisesRegex(StepError, 'other.txt exists in toy'):
            integrate.integrate('toy')

    def test_series_applies_and_a_damaged_one_does_not(self):
        tree, _, _ = integrate.integrate('toy')
        folder = os.path.join(self.folder, 'patches')
        patches = series.make('toy', tree, folder)
        self.assertEqual(len(patches), 2)
        series.verify('toy', tree, 'toy-1', patches)
        with self.assertRaisesRegex(StepError, 'instead of'):
            series.verify('toy', tree, 'toy-1', patches[:1])


class Names(unittest.TestCase):

    def test_patch_names_and_back(self):
        for path in ('a/x.c', 'a/x.h', 'meson.build'):
            self.assertEqual(seriesfile.target_name(seriesfile.cocci_name(path))
                             if path.endswith(('.c', '.h'))
                             else seriesfile.target_name(path + '.insert'), path)


if __name__ == '__main__':
    unittest.main()
