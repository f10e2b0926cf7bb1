# SPDX-License-Identifier: GPL-2.0-or-later
"""Is the mirror found in every form of apt source, and are bad sources refused?"""

import os
import re
import tarfile
import unittest
from unittest import mock

import support
import aptsource
import configure
import fetch
import peers
from common import StepError
from support import write

DEB822 = '''# comment
Types: deb
URIs: http://one.invalid/mirror/debian-security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://two.invalid/mirror/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://three.invalid/mirror/debian/
# comment within
Suites: bookworm
  bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/x.gpg
'''
ONE_LINE = '''# deb http://zero.invalid/mirror/debian trixie main
deb [arch=amd64 signed-by=/x y=z] https://four.invalid/mirror/debian trixie contrib main # c
'''
MAKEFILE = 'VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 3\n'


class Mirror(support.Case):

    def mirror(self, files):
        for name, text in files.items():
            write(os.path.join(self.folder, 'apt', name), text)
        return aptsource.machine_mirror(os.path.join(self.folder, 'apt'))

    def test_deb822_skips_disabled_and_security(self):
        self.assertEqual(self.mirror({'sources.list.d/debian.sources': DEB822}),
                         'http://three.invalid/mirror/debian')

    def test_one_line(self):
        self.assertEqual(self.mirror({'sources.list': ONE_LINE}),
                         'https://four.invalid/mirror/debian')

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
        # Its patches fit, but nobody ran it.
        with mock.patch.object(fetch, 'tried', return_value=[
                fetch.Tried('qemu', '11.7', 'sid', 'patches fit, and more')]), \
                self.assertRaisesRegex(StepError, 'never tried'):
            fetch.check_version('qemu', '11.7.1', False)
        fetch.check_version('qemu', '9.2.0', True)
        fetch.check_version('qemu', '10.0.13', False)


class SourcePackage(support.Case):
    """Which version of a source package is asked for?"""

    def name(self, series):
        apt = aptsource.PrivateApt('sid', 'http://six.invalid/mirror/debian')
        apt._run = lambda *_, **__: ('Version: 1:10.2.2+ds-1\nPackage-List: \n'
                                     'Version: 1:11.1.2+ds-3\nVersion: 1:10.20+ds-1\n')
        return apt._source_named('qemu', series)

    def test_the_newest_unless_a_series_is_named(self):
        self.assertEqual(self.name(None), 'qemu/sid')
        self.assertEqual(self.name('10.2'), 'qemu=1:10.2.2+ds-1')

    def test_a_series_that_is_gone_says_what_to_do(self):
        with self.assertRaisesRegex(StepError, 'sid has no qemu 11.0 now.*--qemu-source='):
            self.name('11.0')


class Peer(support.Case):

    def test_loader_and_libraries_are_those_of_the_release(self):
        folder = os.path.join(self.folder, 'bookworm')
        loader = os.path.join(folder, 'lib/x86_64-linux-gnu/ld-linux-x86-64.so.2')
        with self.assertRaisesRegex(StepError, 'holds no ld-linux'):
            peers.start_script('7.2', 'bookworm', folder)
        write(loader, '')
        text = peers.start_script('7.2', 'bookworm', folder)
        self.assertIn('exec %s --library-path %s/usr/lib/' % (loader, folder), text)
        self.assertTrue(text.rstrip().endswith('qemu-system-x86_64 "$@"'))


class TriedVersions(support.Case):

    def test_documentation_has_the_same_table(self):
        page = os.path.join(support.REPO, 'docs/devel/migration/kvm-userfault.rst')
        with open(page) as stream:
            text = stream.read()
        table = text.split('scripts/userfault/tried-versions``:', 1)[1].split('\n\n')[1]
        rows = [re.split(r'  +', line.strip()) for line in table.splitlines()
                if not line.startswith('=')][1:]
        self.assertTrue(rows)
        self.assertEqual(rows, [list(one) for one in fetch.tried()])

    def test_version_by_name_comes_from_its_suite(self):
        self.assertEqual(fetch.suite_of('qemu', '10.0'), 'trixie')
        with self.assertRaisesRegex(StepError, '--kernel-source='):
            fetch.suite_of('linux', '5.4')

    def test_source_or_version(self):
        with self.assertRaisesRegex(StepError, 'either --kernel-source or'):
            configure.parse(['--kernel-source=/', '--kernel-version=6.12'])


if __name__ == '__main__':
    unittest.main()
