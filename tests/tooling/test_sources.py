# SPDX-License-Identifier: GPL-2.0-or-later
"""Is the mirror found in every form of apt source, and are bad sources refused?"""

import os
import tarfile
import unittest

import support
import aptsource
import fetch
from common import StepError
from support import write

DEB822 = '''# comment
Types: deb
URIs: http://one.invalid/debian-security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://two.invalid/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://three.invalid/debian/
# comment within
Suites: bookworm
  bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/x.gpg
'''
ONE_LINE = '''# deb http://zero.invalid/debian trixie main
deb [arch=amd64 signed-by=/x y=z] https://four.invalid/debian trixie contrib main # c
'''
MAKEFILE = 'VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 3\n'


class Mirror(support.Case):

    def mirror(self, files):
        for name, text in files.items():
            write(os.path.join(self.folder, 'apt', name), text)
        return aptsource.machine_mirror(os.path.join(self.folder, 'apt'))

    def test_deb822_skips_disabled_and_security(self):
        self.assertEqual(self.mirror({'sources.list.d/debian.sources': DEB822}),
                         'http://three.invalid/debian')

    def test_one_line(self):
        self.assertEqual(self.mirror({'sources.list': ONE_LINE}),
                         'https://four.invalid/debian')

    def test_mirror_list(self):
        uri = 'mirror+file:/etc/apt/mirrors/debian.list'
        text = 'Types: deb deb-src\nURIs: %s\nSuites: trixie\nComponents: main\n' % uri
        self.assertEqual(self.mirror({'sources.list.d/debian.sources': text}), uri)

    def test_none_says_what_to_do(self):
        with self.assertRaisesRegex(StepError, '--debian-mirror'):
            self.mirror({'sources.list': 'deb http://five.invalid/x stretch main\n'})


class OwnSource(support.Case):

    def tarball(self, files, top='linux-6.12'):
        path = os.path.join(self.folder, 'source.tar.gz')
        with tarfile.open(path, 'w:gz') as archive:
            for name, text in files.items():
                write(os.path.join(self.folder, top, name), text)
                archive.add(os.path.join(self.folder, top, name), '%s/%s' % (top, name))
        return path

    def test_folder_and_tarball_give_the_version(self):
        tarball = self.tarball({'Makefile': MAKEFILE})
        self.assertEqual(fetch.from_path('linux', tarball)[1], '6.12.3')
        folder = os.path.join(self.folder, 'linux-6.12')
        self.assertEqual(fetch.from_path('linux', folder)[1], '6.12.3')

    def test_changed_folder_is_stored_anew(self):
        self.tarball({'Makefile': MAKEFILE})
        folder = os.path.join(self.folder, 'linux-6.12')
        first = fetch.from_path('linux', folder)
        write(os.path.join(folder, 'Makefile'), MAKEFILE.replace('3', '44'))
        second = fetch.from_path('linux', folder)
        self.assertNotEqual(first[0], second[0])
        self.assertEqual(second[1], '6.12.44')

    def test_something_else_is_refused_each_time(self):
        tarball = self.tarball({'README': 'no kernel\n'})
        for _ in range(2):
            with self.assertRaisesRegex(StepError, 'does not hold the source of Linux'):
                fetch.from_path('linux', tarball)

    def test_cut_tarball_is_refused(self):
        tarball = self.tarball({'Makefile': MAKEFILE, 'x': 'y' * 100000})
        with open(tarball, 'r+b') as stream:
            stream.truncate(os.path.getsize(tarball) // 2)
        with self.assertRaisesRegex(StepError, 'cannot be read as a source tree'):
            fetch.from_path('linux', tarball)

    def test_untried_version_needs_the_option(self):
        with self.assertRaisesRegex(StepError, '--untried-version'):
            fetch.check_version('qemu', '9.2.0', False)
        fetch.check_version('qemu', '9.2.0', True)
        fetch.check_version('qemu', '10.0.13', False)


if __name__ == '__main__':
    unittest.main()
