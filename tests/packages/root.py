# SPDX-License-Identifier: GPL-2.0-or-later
"""A clean Debian of this machine's own release, in a folder.

Owns the folder, which clear() removes.  Commands run in it with mounts and
processes of their own, which end with the command, whatever happens: nothing
of the machine is mounted in the folder as seen from outside.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
sys.path.append(str(REPO / 'scripts' / 'userfault'))

import aptsource                                            # noqa: E402
from common import cache_dir                                # noqa: E402
from harness import HarnessError                            # noqa: E402

# What apt and dpkg note down about themselves, and the linker's cache
BOOKS = ('/var/cache/', '/var/lib/apt/', '/var/lib/dpkg/', '/var/log/', '/tmp/',
         '/proc/', '/dev/', '/run/', '/etc/ld.so.cache')
# Runs with the root as $0, the cache of packages as $1, then the command.
ENTER = '''
mount -t proc proc "$0/proc" &&
mount -t sysfs -o ro sysfs "$0/sys" &&
mount --bind "$1" "$0/var/cache/apt/archives" || exit 99
shift
exec chroot "$0" "$@"
'''


def release():
    """This machine's, such as bookworm"""
    text = Path('/etc/os-release').read_text()
    words = dict(word.split('=', 1) for word in shlex.split(text, comments=True))
    if words.get('ID') != 'debian' or 'VERSION_CODENAME' not in words:
        raise HarnessError('packages are tried on Debian 12 or newer; this is '
                           + words.get('PRETTY_NAME', 'something else'))
    return words['VERSION_CODENAME']


def mirrors(name):
    """Lines of sources.list: where this machine has the release from"""
    lines = []
    for uri, suite, components in aptsource.machine_entries():
        line = f'deb {uri} {suite} main'
        if (suite == name or suite.startswith(name + '-')) \
           and 'main' in components and line not in lines:
            lines.append(line)
    return lines or [f'deb {aptsource.machine_mirror()} {name} main']


def last_line(text):
    """The error among what apt or another said"""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(('E:', 'dpkg: error'))]
    return (errors or lines or ['it said nothing'])[-1]


class Root:
    def __init__(self, folder, log):
        self.folder = Path(folder)
        self.log = Path(log)

    def path(self, inside):
        return self.folder / str(inside).lstrip('/')

    def _logged(self, argv, limit, env=None):
        with open(self.log, 'a') as log:
            log.write('$ ' + shlex.join(argv) + '\n')
            log.flush()
            try:
                done = subprocess.run(argv, stdin=subprocess.DEVNULL, timeout=limit,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True, errors='replace', check=False, env=env)
            except subprocess.TimeoutExpired as error:
                raise HarnessError(f'{argv[0]} did not end in {limit} s '
                                   f'(log: {self.log})') from error
            log.write(done.stdout)
        return done

    def create(self):
        """Only apt and what every Debian has"""
        name = release()
        self.clear()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        proxies = [line for line in subprocess.run(
            ['apt-config', 'dump'], stdout=subprocess.PIPE, text=True,
            check=True).stdout.splitlines() if '::Proxy' in line]
        done = self._logged(
            ['mmdebstrap', '--mode=root', '--variant=apt',
             *(f'--aptopt={line}' for line in proxies),
             name, str(self.folder), *mirrors(name)], 900)
        if done.returncode:
            raise HarnessError('mmdebstrap could not make a clean Debian: '
                               + last_line(done.stdout))
        # A package's daemon would run on the machine.
        policy = self.path('/usr/sbin/policy-rc.d')
        policy.write_text('#!/bin/sh\nexit 101\n')
        policy.chmod(0o755)

    def exists(self):
        return self.path('/usr/bin/apt-get').exists()

    def clear(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *argv, limit=60, check=True):
        """Run a command in it; what it said."""
        kept = cache_dir('packages', release())
        os.makedirs(os.path.join(kept, 'partial'), exist_ok=True)
        done = self._logged(
            ['unshare', '--mount', '--propagation', 'private', '--pid', '--fork',
             '--kill-child', 'sh', '-c', ENTER, str(self.folder), kept,
             *map(str, argv)], limit,
            {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL': 'C.UTF-8',
             'HOME': '/root', 'DEBIAN_FRONTEND': 'noninteractive'})
        if check and done.returncode:
            raise HarnessError(f'{shlex.join(map(str, argv))} ended with '
                               f'{done.returncode}: {last_line(done.stdout)}')
        return done.stdout

    def apt(self, *words):
        return self.run('apt-get', '-q', '-y', '-o', 'APT::Keep-Downloaded-Packages=1',
                        *words, limit=900)

    def put(self, *packages):
        """Copies of @packages, as paths inside"""
        for package in packages:
            shutil.copy(package, self.path('/tmp'))
        return [f'/tmp/{Path(package).name}' for package in packages]

    def owned(self, package):
        """Paths that @package brought"""
        return [line for line in self.run('dpkg', '-L', package).splitlines()
                if line.startswith('/') and line != '/.']

    def stray_files(self):
        """Files that belong to no package, but for the books of dpkg and apt"""
        known = set()
        for path in self.path('/var/lib/dpkg/info').glob('*.list'):
            known.update(self.real(line) for line in path.read_text().splitlines())
        found = set()
        for folder, _, names in os.walk(self.folder):
            here = '/' + os.path.relpath(folder, self.folder)
            for name in names:
                path = os.path.normpath(os.path.join(here, name))
                if not path.startswith(BOOKS) and path not in known:
                    found.add(path)
        return found

    def real(self, path):
        """@path without the links /bin, /lib and so on"""
        first = path.split('/')[1] if path.startswith('/') else ''
        link = self.path('/' + first)
        if first and link.is_symlink():
            return '/' + os.readlink(link).lstrip('/') + path[len(first) + 1:]
        return path
