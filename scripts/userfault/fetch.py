#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Get the pristine sources: fetch.py qemu|linux|meson

Prints the key of the tree in the cache (qemu, linux) or the folder (meson).
By itself it takes Debian's, --version=SERIES another one of tried-versions;
--source=PATH takes a folder or a tarball.
"""

import argparse
import collections
import glob
import json
import os
import re
import shutil

import pristine
from aptsource import PrivateApt
from common import (HERE, StepError, cache_dir, fresh_dir, lock, main, need_space,
                    need_tool, read, run, sha256, sha256_file, sweep, timed, write)

RELEASE = 'trixie'
LINUX_SERIES = '6.12'
MESON_MINIMUM = (1, 5, 0)
GIGABYTES = {'qemu': 1.5, 'linux': 3.0}


# A line of tried-versions: a series such as 10.0, Debian's suite that has it,
# and what was done with it.
NOT_RUN = 'patches fit'         # begins the lines of those that were not run
Tried = collections.namedtuple('Tried', 'component series suite what')


def tried(component=None):
    """What this project was tried with, of one component or in all."""
    found = []
    for line in read(os.path.join(HERE, 'tried-versions')).decode().splitlines():
        words = line.split('#')[0].split(None, 3)
        if words and component in (None, words[0]):
            found.append(Tried(*words))
    return found


def suite_of(component, series):
    """Debian's suite that has the source of a series."""
    for one in tried(component):
        if one.series == series:
            return one.suite
    raise StepError('%s %s: not in scripts/userfault/tried-versions; give its source '
                    'with --%s-source=' % (component, series,
                                           {'linux': 'kernel'}.get(component, component)))


def version_of(component, text_of):
    """Version of a tree; text_of(path) returns a file's bytes or None."""
    if component == 'qemu':
        text = (text_of('VERSION') or b'').decode(errors='replace').strip()
        return text if re.match(r'\d+\.\d+', text) and text_of('qapi/qapi-schema.json') \
            else None
    makefile = (text_of('Makefile') or b'').decode(errors='replace')
    numbers = [re.search(r'^%s\s*=\s*(\d+)' % name, makefile, re.M)
               for name in ('VERSION', 'PATCHLEVEL', 'SUBLEVEL')]
    return '.'.join(found.group(1) for found in numbers) if all(numbers) else None


def check_version(component, version, untried):
    """Stop at a version nobody ran, unless told to go on."""
    known = [one.series for one in tried(component)
             if not one.what.startswith(NOT_RUN)]
    if untried or any(version.startswith(series + '.') for series in known):
        return
    name = {'qemu': 'QEMU', 'linux': 'Linux'}[component]
    raise StepError('%s %s was never tried with this project (tried: %s); use one of '
                    'those, or continue with --untried-version'
                    % (name, version, ', '.join(known)))


def _tree_hash(top):
    """Hash of a folder's names, sizes and times: cheap, new after any edit."""
    parts = []
    for folder, folders, names in os.walk(top):
        if folder == top:
            folders[:] = [name for name in folders
                          if name not in ('.git', '.pc', 'build')]
        folders.sort()
        for name in sorted(names):
            status = os.lstat(os.path.join(folder, name))
            parts.append('%s/%s %d %d' % (folder, name, status.st_size,
                                          status.st_mtime_ns))
    return sha256(*parts)


def _store(component, label, source, message):
    need_space(cache_dir(), GIGABYTES[component], 'storing the source of ' + label)
    with timed('storing the source of %s' % label):
        pristine.store(label, source, message)


def _read_or_none(top, name):
    try:
        return read(os.path.join(top, name))
    except OSError:
        return None


def from_path(component, path):
    """A folder or tarball the user names; returns (key, version)."""
    path = os.path.abspath(path)
    wrong = StepError('%s does not hold the source of %s'
                      % (path, {'qemu': 'QEMU', 'linux': 'Linux'}[component]))
    if os.path.isdir(path):
        # Before anything of it is copied.
        if not version_of(component, lambda name: _read_or_none(path, name)):
            raise wrong
        digest = _tree_hash(path)
    elif os.path.isfile(path):
        digest = sha256_file(path)
    else:
        raise StepError('%s: no such folder or tarball' % path)
    key = '%s-%s' % (component, digest[:16])
    with lock(pristine.repository(key)):
        if not pristine.exists(key):
            _store(component, key, path, 'pristine source of %s' % component)
    version = version_of(component, lambda name: pristine.file_at(key, name))
    if not version:
        shutil.rmtree(pristine.repository(key))
        raise wrong
    return key, version


def debian_qemu(mirror=None, update=False, series=None):
    """QEMU as Debian patches it; returns (key, version)."""
    release = suite_of('qemu', series) if series else RELEASE
    note = cache_dir('src', 'qemu-%s.json' % (series or RELEASE))
    with lock(note):
        if os.path.exists(note) and not update:
            known = json.loads(read(note).decode())
            if pristine.exists(known['key']):
                return known['key'], known['version']
        need_space(cache_dir(), GIGABYTES['qemu'], 'unpacking QEMU')
        apt = PrivateApt(release, mirror)
        downloads = cache_dir('download', 'qemu-' + (series or RELEASE))
        for old in glob.glob(downloads + '/*.dsc'):
            os.unlink(old)
        dsc = apt.source('qemu', downloads, series)
        debian = re.search(r'^Version: *(?:\d+:)?(\S+)', read(dsc).decode(), re.M)
        key = 'qemu-%s' % debian.group(1)
        if not pristine.exists(key):
            folder = cache_dir('unpack', 'qemu')
            sweep(os.path.dirname(folder))
            with timed('unpacking QEMU %s' % debian.group(1)):
                with fresh_dir(folder) as temporary:
                    need_tool('dpkg-source', 'dpkg-dev')
                    tree = os.path.join(temporary, 'tree')
                    run(['dpkg-source', '-x', dsc, tree],
                        'unpacking the source of QEMU')
            _store('qemu', key, os.path.join(folder, 'tree'),
                   'qemu %s' % debian.group(1))
            shutil.rmtree(folder)
        version = version_of('qemu', lambda name: pristine.file_at(key, name))
        write(note, json.dumps({'key': key, 'version': version}) + '\n')
        return key, version


def debian_linux_tarball(mirror=None, series=None):
    """Debian's kernel source: the installed package's, else a download."""
    package = 'linux-source-' + (series or LINUX_SERIES)
    tarball = '/usr/src/%s.tar.xz' % package
    if os.path.exists(tarball):
        return tarball
    folder = cache_dir('download', package)
    with lock(folder):
        if not os.path.isdir(folder):
            need_space(cache_dir(), GIGABYTES['linux'], 'the kernel source')
            apt = PrivateApt(suite_of('linux', series or LINUX_SERIES), mirror)
            with fresh_dir(folder) as temporary:
                apt.binary(package, temporary)
    return folder + tarball


def debian_linux(mirror=None, series=None):
    """Linux as Debian patches it; returns (key, version)."""
    return from_path('linux', debian_linux_tarball(mirror, series))


def meson_path(mirror=None):
    """Folder to put first on PATH and PYTHONPATH, or '' if the machine's will do."""
    system = '/usr/bin/meson'
    if os.access(system, os.X_OK):
        text = run([system, '--version'], 'meson').strip()
        if tuple(int(n) for n in re.findall(r'\d+', text)[:3]) >= MESON_MINIMUM:
            return ''
    folder = cache_dir('meson', RELEASE)
    with lock(folder):
        if not os.path.isdir(folder):
            apt = PrivateApt(RELEASE, mirror)
            with fresh_dir(folder) as temporary:
                apt.binary('meson', temporary)
    return folder


def step(argv):
    parser = argparse.ArgumentParser(prog='fetch', description=__doc__)
    parser.add_argument('what', choices=('qemu', 'linux', 'meson'))
    parser.add_argument('--source')
    parser.add_argument('--version', metavar='SERIES')
    parser.add_argument('--debian-mirror')
    parser.add_argument('--update', action='store_true')
    options = parser.parse_args(argv)
    if options.what == 'meson':
        print(meson_path(options.debian_mirror))
    elif options.source:
        print(*from_path(options.what, options.source))
    elif options.what == 'qemu':
        print(*debian_qemu(options.debian_mirror, options.update, options.version))
    else:
        print(*debian_linux(options.debian_mirror, options.version))


if __name__ == '__main__':
    main(step)
