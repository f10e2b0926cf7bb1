# SPDX-License-Identifier: GPL-2.0-or-later
"""Is it noticed when a document names what does not exist?"""

import os
import unittest

import support
import docs
import doccheck
from common import StepError

PATHS = ('Makefile', 'migration/a.c', 'migration/b.cocci', 'tests/demo/run', 'docs/x.rst',
         'docs/y.json.insert')
NAMES = doccheck.Names(PATHS, {'check', 'check-unit'})


def missing(text):
    return [what for _, what in doccheck.missing_names(text, NAMES)]


class Sources(unittest.TestCase):

    def test_what_exists_is_fine(self):
        for text in ('``migration/a.c``', '``a.c``', '``b.cocci``', '``tests/demo``',
                     '``tests/demo/``', '``migration/*.c``', '``*.cocci``',
                     '`tests/demo/run --help`', '``make check-unit``', '``migration/b.c``',
                     '``docs/y.json``',
                     '``make CPUS=4 check``', '    tests/demo/run\n'):
            self.assertEqual(missing(text), [], text)

    def test_what_does_not_exist_is_named(self):
        for text, name in (('``migration/gone.c``', 'migration/gone.c'),
                           ('``gone.c``', 'gone.c'), ('``*.svg``', '*.svg'),
                           ('`tests/gone/run --help`', 'tests/gone/run'),
                           ('   tests/demo/gone x\n', 'tests/demo/gone'),
                           ('see ``tests/demo/gone``.', 'tests/demo/gone'),
                           ('``make gone``', 'gone'), ('    make N=1 gone\n', 'gone')):
            found = missing(text)
            self.assertEqual(len(found), 1, text)
            self.assertIn(name, found[0])

    def test_what_is_not_ours_is_left_alone(self):
        for text in ('``/etc/libvirt/qemu.conf``', '``/dev/userfaultfd``', '``on``',
                     '``build/demo/demo.html``', '``application/json``',
                     'migration/gone.c in prose', '``exits``'):
            self.assertEqual(missing(text), [], text)

    def test_line_is_that_of_the_name(self):
        found = doccheck.missing_names('one\ntwo ``gone.c``\n', NAMES)
        self.assertEqual(found[0][0], 2)

    def test_targets_are_the_makefiles(self):
        makefile = '## a: b\nall: qemu\n\t@x\ncheck-unit:\nBUILD ?= build\n'
        self.assertEqual(doccheck.targets(makefile), {'all', 'check-unit'})

    def test_documents_of_the_project(self):
        paths = docs.OTHERS + tuple('docs/' + page for page in docs.PAGES)
        self.assertEqual(doccheck.check_sources(paths), [])

    def test_complaint_says_where_and_what(self):
        docs.complain([])
        with self.assertRaisesRegex(StepError, 'correct them:\nREADME.md:3: no'):
            docs.complain(['README.md:3: no file x here'])

    def test_images_of_the_pages_are_collected(self):
        for page in docs.PAGES:
            with open(os.path.join(support.REPO, 'docs', page)) as stream:
                for line in stream:
                    if line.startswith('.. image:: '):
                        image = os.path.join(os.path.dirname(page), line.split()[-1])
                        self.assertIn(image, docs.IMAGES)


class Links(unittest.TestCase):

    PAGES = {'index.html': '<a href="sub/p.html#here">x</a><a href="#top">y</a>'
                           '<p id="top"></p><img src="i.svg">'
                           '<a href="https://example.invalid/#z">out</a>',
             'sub/p.html': '<span id="here"></span><a href="../index.html">up</a>',
             'i.svg': ''}

    def broken(self, **changes):
        return doccheck.broken_links({**self.PAGES, **changes})

    def test_good_links(self):
        self.assertEqual(self.broken(), [])

    def test_no_such_page_image_or_place(self):
        for text, what in (('<a href="gone.html">', 'gone.html leads nowhere'),
                           ('<img src="gone.svg">', 'gone.svg leads nowhere'),
                           ('<a href="#gone">', 'no such place: #gone'),
                           ('<a href="sub/p.html#gone">', 'no such place: sub/p.html#gone'),
                           ('<a href="../index.html">', 'leads nowhere')):
            found = self.broken(**{'index.html': text})
            self.assertEqual(len(found), 1, text)
            self.assertIn(what, found[0])

    def test_of_a_tree_on_disk(self):
        with support.tempfile.TemporaryDirectory() as top:
            support.write(os.path.join(top, 'a/b.html'), '<a href="../gone.html">')
            self.assertEqual(doccheck.check_html(top),
                             ['a/b.html: ../gone.html leads nowhere'])


if __name__ == '__main__':
    unittest.main()
