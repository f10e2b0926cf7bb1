# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages of a Debian release through a private apt configuration.

The machine's own apt lists, caches and sources are read, never changed: the
mirror comes from them, the lists and downloads go to our cache.  apt checks
the release's signature against Debian's keyring and every file against the
hashes signed by it.
"""

import glob
import os
import re
import shutil
import subprocess
import time

from common import StepError, cache_dir, lock, need_tool, read, run, say, write

RELEASES = ('bullseye', 'bookworm', 'trixie', 'forky', 'sid', 'oldstable', 'stable',
            'testing', 'unstable')
KEYRINGS = ('debian-archive-%s-*.gpg', 'debian-archive-%s-*.pgp',
            'debian-archive-keyring.gpg', 'debian-archive-keyring.pgp')


def deb822_entries(text):
    """(uri, suite, components) of every enabled entry of a .sources file."""
    for stanza in re.split(r'\n\s*\n', text):
        fields, name = {}, None
        for line in stanza.splitlines():
            if line.startswith('#'):
                continue
            if line[:1] in ' \t' and name:
                fields[name] += ' ' + line.strip()
            elif ':' in line:
                name, value = line.split(':', 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields.get('enabled', 'yes').lower() in ('no', 'false', '0'):
            continue
        for uri in fields.get('uris', '').split():
            for suite in fields.get('suites', '').split():
                yield uri, suite, fields.get('components', '').split()


def one_line_entries(text):
    """(uri, suite, components) of every entry of a .list file."""
    for line in text.splitlines():
        line = re.sub(r'\[[^]]*\]', ' ', line.split('#', 1)[0])
        words = line.split()
        if len(words) >= 4 and words[0] in ('deb', 'deb-src'):
            yield words[1], words[2], words[3:]


def machine_entries(root='/etc/apt'):
    """Entries of the machine's own sources, in apt's order."""
    paths = [os.path.join(root, 'sources.list')]
    paths += sorted(glob.glob(os.path.join(root, 'sources.list.d', '*')))
    for path in paths:
        if not os.path.isfile(path):
            continue
        text = read(path).decode(errors='replace')
        if path.endswith('.sources'):
            yield from deb822_entries(text)
        elif path.endswith('.list'):
            yield from one_line_entries(text)


def machine_mirror(root='/etc/apt'):
    """The URI this machine takes Debian's main archive from."""
    for uri, suite, components in machine_entries(root):
        if suite in RELEASES and 'main' in components:
            return uri.rstrip('/')
    raise StepError("this machine's apt sources name no Debian mirror; give one with "
                    '--debian-mirror=URI, or the source with --qemu-source=')


def keyring(release):
    """apt's signed-by option; Debian's own keyring only."""
    for pattern in KEYRINGS:
        name = pattern % release if '%s' in pattern else pattern
        found = sorted(glob.glob(os.path.join('/usr/share/keyrings', name)))
        # The -security- key signs another archive.
        found = [path for path in found if '-security-' not in path]
        if found:
            return ','.join(found)
    raise StepError('no keyring of Debian found; install debian-archive-keyring')


class PrivateApt:
    """apt for one release of Debian, in its own folder of the cache."""

    def __init__(self, release, mirror=None):
        self.release = release
        self.mirror = mirror or machine_mirror()
        self.root = cache_dir('apt', release)
        self.config = os.path.join(self.root, 'apt.conf')

    def _write_config(self):
        for name in ('lists/partial', 'cache/archives/partial', 'empty'):
            os.makedirs(os.path.join(self.root, name), exist_ok=True)
        write(os.path.join(self.root, 'status'), '')
        options = 'signed-by=%s' % keyring(self.release)
        lines = ['%s [%s] %s %s main' % (kind, options, self.mirror, self.release)
                 for kind in ('deb', 'deb-src')]
        write(os.path.join(self.root, 'sources.list'), '\n'.join(lines) + '\n')
        # Proxies and the like are the machine's business and are kept; hooks
        # and lists of other indexes are not.
        dump = run(['apt-config', 'dump'], 'apt-config')
        kept = [line for line in dump.splitlines()
                if line.startswith('Acquire::')
                and not line.startswith(('Acquire::IndexTargets',
                                         'Acquire::Languages'))]
        kept += [
            'Dir::Etc::Main "/dev/null";',
            'Dir::Etc::Parts "%s/empty";' % self.root,
            'Dir::Etc::SourceList "%s/sources.list";' % self.root,
            'Dir::Etc::SourceParts "%s/empty";' % self.root,
            'Dir::Etc::Preferences "/dev/null";',
            'Dir::Etc::PreferencesParts "%s/empty";' % self.root,
            'Dir::State "%s";' % self.root,
            'Dir::State::Lists "%s/lists";' % self.root,
            'Dir::State::Status "%s/status";' % self.root,
            'Dir::Cache "%s/cache";' % self.root,
            'APT::Sandbox::User "";',
            'Acquire::Languages "none";',
            'Acquire::Retries "2";',
        ]
        write(self.config, '\n'.join(kept) + '\n')

    def _run(self, argv, what, cwd=None):
        environment = dict(os.environ, APT_CONFIG=self.config, LC_ALL='C.UTF-8')
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True, errors='replace', cwd=cwd,
                              env=environment, stdin=subprocess.DEVNULL, check=False)
        # apt-get update exits 0 although an index could not be had.
        failed = re.search(r'^(?:Err:\d+|W: Failed)[^\n]*(?:\n +[^\n]+)?', done.stdout, re.M)
        fatal = re.search(r'^E: .*', done.stdout, re.M)
        if done.returncode or failed:
            reason = (failed or fatal).group(0) if failed or fatal \
                else 'exit code %d' % done.returncode
            raise StepError('%s from %s failed (%s); check the network and the proxy '
                            'and run the same command again, or name local sources '
                            'with --qemu-source= and --kernel-source='
                            % (what, self.mirror, ' '.join(reason.split())))
        return done.stdout

    def update(self):
        """Fetch and check the release's signed index, once per day at most."""
        need_tool('apt-get', 'apt')
        self._write_config()
        lists = os.path.join(self.root, 'lists')
        stamp = os.path.join(self.root, 'updated')
        if (os.path.exists(stamp) and glob.glob(lists + '/*_Sources*')
                and read(stamp).decode().strip() == self.mirror
                and time.time() - os.stat(stamp).st_mtime < 24 * 3600):
            return
        say('fetching the package index of Debian %s' % self.release)
        self._run(['apt-get', '-q', 'update'], 'the index of Debian %s' % self.release)
        if not glob.glob(lists + '/*_Sources*'):
            raise StepError('%s has no source index of Debian %s; give another mirror '
                            'with --debian-mirror=URI' % (self.mirror, self.release))
        write(stamp, self.mirror + '\n')
        os.utime(stamp)

    def _source_named(self, package, series):
        """Name of a source package for apt-get: the newest, or that of a series."""
        if not series:
            return '%s/%s' % (package, self.release)
        text = self._run(['apt-cache', 'showsrc', '--only-source', package],
                         'the index of Debian %s' % self.release)
        found = re.findall(r'^Version: *((?:\d+:)?%s[.+~-].*)$' % re.escape(series),
                           text, re.M)
        if not found:
            raise StepError('Debian %s has no %s %s now; give its source with --%s-source='
                            % (self.release, package, series, package))
        return '%s=%s' % (package, found[-1])

    def source(self, package, destination, series=None):
        """Download a source package, the newest or of a series such as 10.2.

        Returns the path of its .dsc.
        """
        with lock(self.root):
            self.update()
            say('fetching the source of %s from Debian %s' % (package, self.release))
            os.makedirs(destination, exist_ok=True)
            self._run(['apt-get', '-q', '--download-only', '--only-source', 'source',
                       self._source_named(package, series)],
                      'the source of %s' % package, cwd=destination)
        found = glob.glob(os.path.join(destination, package + '_*.dsc'))
        if len(found) != 1:
            raise StepError('the source of %s: expected one .dsc in %s, found %d'
                            % (package, destination, len(found)))
        return found[0]

    def with_libraries(self, package, destination):
        """Unpack a package and all it depends on at `destination` (no install)."""
        with lock(self.root):
            self.update()
            say('fetching %s of Debian %s and its libraries' % (package, self.release))
            # The private apt believes that nothing is installed.
            self._run(['apt-get', '-q', '-y', '--no-install-recommends',
                       '--download-only', 'install', package],
                      'the package %s' % package)
            for path in glob.glob(os.path.join(self.root, 'cache/archives/*.deb')):
                run([need_tool('dpkg-deb', 'dpkg'), '-x', path, destination],
                    'unpacking %s' % os.path.basename(path))
            self._run(['apt-get', 'clean'], 'removing downloads')

    def binary(self, package, destination):
        """Download a .deb and unpack it at `destination` (no install)."""
        with lock(self.root):
            self.update()
            say('fetching %s from Debian %s' % (package, self.release))
            downloads = os.path.join(self.root, 'debs-%d' % os.getpid())
            shutil.rmtree(downloads, ignore_errors=True)
            os.makedirs(downloads)
            try:
                self._run(['apt-get', '-q', 'download', package],
                          'the package %s' % package, cwd=downloads)
                found = glob.glob(os.path.join(downloads, package + '_*.deb'))
                if len(found) != 1:
                    raise StepError('the package %s was not downloaded' % package)
                run([need_tool('dpkg-deb', 'dpkg'), '-x', found[0], destination],
                    'unpacking %s' % package)
            finally:
                shutil.rmtree(downloads, ignore_errors=True)
