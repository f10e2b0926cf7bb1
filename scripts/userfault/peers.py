#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Unmodified QEMUs that migrations are tried with: peers.py

build/peers/VERSION/qemu-system-x86_64 starts Debian's binary of each `peer` in
tried-versions, with the libraries of its own release: it runs on any Debian.
Nothing is installed; what is downloaded stays in the cache.
"""

import os
import shutil

import fetch
from aptsource import PrivateApt
from common import (StepError, build_dir, cache_dir, fresh_dir, load_config, lock, main,
                    need_space, say, write)

PACKAGE = 'qemu-system-x86'
PROGRAM = 'usr/bin/qemu-system-x86_64'
LOADER = 'ld-linux-x86-64.so.2'
FOLDERS = ('usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu')
START = '''#!/bin/sh
# QEMU %s as Debian %s has it, with that release's libraries
exec %s --library-path %s %s "$@"
'''


def unpacked(release, mirror=None):
    """Folder with the emulator and its libraries; fetched once."""
    folder = cache_dir('peers', release)
    with lock(folder):
        if not os.path.isdir(folder):
            need_space(cache_dir(), 0.6, 'the QEMU of Debian %s' % release)
            with fresh_dir(folder) as temporary:
                PrivateApt(release, mirror).with_libraries(PACKAGE, temporary)
                # Firmware has to be the same on both sides: it is the machine's.
                shutil.rmtree(os.path.join(temporary, 'usr/share'))
    return folder


def start_script(version, release, folder):
    """What starts the emulator of a folder."""
    libraries = [os.path.join(folder, name) for name in FOLDERS]
    loaders = [os.path.join(path, LOADER) for path in libraries
               if os.path.exists(os.path.join(path, LOADER))]
    if not loaders:
        raise StepError('%s holds no %s' % (folder, LOADER))
    return START % (version, release, loaders[0], ':'.join(libraries),
                    os.path.join(folder, PROGRAM))


def step(argv):
    if argv:
        say(__doc__.strip())
        return
    mirror = load_config().get('debian_mirror')
    for one in fetch.tried('peer'):
        version = one.series
        folder = unpacked(one.suite, mirror)
        write(os.path.join(build_dir(), 'peers', version, 'qemu-system-x86_64'),
              start_script(version, one.suite, folder), mode=0o755)
        say('build/peers/%s: QEMU of Debian %s' % (version, one.suite))


if __name__ == '__main__':
    main(step)
