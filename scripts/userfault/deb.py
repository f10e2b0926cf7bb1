#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian package of the emulator: deb.py

Builds the server profile in build/deb and packs it as
build/qemu-system-x86-userfault_VERSION_ARCH.deb.  The package holds one
program, qemu-system-x86_64-userfault, and lies beside the distribution's QEMU,
whose firmware it uses; libvirt takes it as a domain's <emulator>.
"""

import gzip
import os
import shutil
import subprocess
import sys

import deps
import docs
from common import (HERE, REPO, StepError, build_dir, fresh_dir, load_config, main,
                    read, run, say, write)

PACKAGE = 'qemu-system-x86-userfault'
PROGRAM = 'qemu-system-x86_64-userfault'
# Firmware, key maps and the like come from the distribution's packages.
NEEDS = ('seabios', 'ipxe-qemu', 'qemu-system-data')
OPTIONS = ('--profile=server', '--prefix=/usr', '--sysconfdir=/etc',
           '--localstatedir=/var')
DESCRIPTION = '''\
QEMU for x86 with postcopy migration on KVM userfault
 An emulator for virtualisation hosts, beside the one of the distribution, under
 the name {program}.  On a kernel whose KVM has the
 userfault feature, page faults of vCPUs in postcopy migration are served
 by exits from KVM instead of userfaultfd; on other kernels it migrates as
 usual.  See {man}(7).
'''
COPYRIGHT = '''\
QEMU {version} with the files and changes of the KVM userfault project.

Copyright (C) 2003-2025 Fabrice Bellard and the QEMU Project developers
Copyright (C) the authors in the history of the KVM userfault project

QEMU is licensed under the GNU General Public License, version 2; parts of it
have compatible licences, as stated in its source.  The files of the project
are licensed under the GNU General Public License, version 2 or later.

On Debian systems the text of the licence is in
/usr/share/common-licenses/GPL-2.  The source is what "make series" of the
project puts onto QEMU {version} of Debian.
'''
# What lintian says and should be so, with the reason
OVERRIDES = '''\
# The search of the pages; they can be read without it.
%(package)s: embedded-javascript-library *
'''


def build_emulator():
    """Path of the program, built with the server profile and its own prefix."""
    config = load_config()
    folder = os.path.join(build_dir(), 'deb')
    environment = dict(os.environ, BUILD=folder)
    same = [option + '=' + config[name] for option, name in
            (('--qemu-source', 'qemu_source'), ('--debian-mirror', 'debian_mirror'))
            if config.get(name)]
    same += ['--untried-version'] if config.get('untried_version') else []
    for argv in ([os.path.join(REPO, 'configure'), *OPTIONS, *same],
                 [os.path.join(HERE, 'build.py'), 'qemu', 'qemu-system-x86_64']):
        if subprocess.run(argv, env=environment, check=False).returncode:
            raise StepError('the emulator could not be built; see above')
    return os.path.join(folder, 'qemu-build', 'qemu-system-x86_64')


def commit_day():
    """The day of the last commit here"""
    return run(['git', '-C', REPO, 'log', '-1', '--format=%cd', '--date=format:%Y%m%d'],
               'the date of the last commit').strip()


def package_version():
    """Version of QEMU, and the day of the last commit here."""
    return '%s+userfault%s' % (load_config()['sources']['qemu']['version'],
                               commit_day())


def install(path, source, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    shutil.copyfile(source, path)
    os.chmod(path, mode)


def compressed(path, data):
    write(path + '.gz', gzip.compress(data, mtime=0))


def fill(root, program, version):
    """Everything but the control file, below @root."""
    target = os.path.join(root, 'usr/bin', PROGRAM)
    install(target, program, 0o755)
    run(['strip', '--strip-unneeded', target], 'strip')
    pages = docs.build_docs()
    share = os.path.join(root, 'usr/share')
    compressed(os.path.join(share, 'man/man7/%s.7' % docs.MAN),
               read(os.path.join(pages, 'man', docs.MAN + '.7')))
    os.makedirs(os.path.join(share, 'man/man1'))
    os.symlink('../man7/%s.7.gz' % docs.MAN,
               os.path.join(share, 'man/man1', PROGRAM + '.1.gz'))
    about = os.path.join(share, 'doc', PACKAGE)
    shutil.copytree(os.path.join(pages, 'html'), os.path.join(about, 'html'))
    write(os.path.join(about, 'copyright'), COPYRIGHT.format(
        version=load_config()['sources']['qemu']['version']))
    write(os.path.join(share, 'lintian/overrides', PACKAGE),
          OVERRIDES % {'package': PACKAGE})
    compressed(os.path.join(about, 'changelog'), (
        '%s (%s) unstable; urgency=medium\n\n  * Built from the repository.\n\n'
        ' -- %s  Thu, 01 Jan 1970 00:00:00 +0000\n'
        % (PACKAGE, version, maintainer())).encode())


def builder():
    """(name, address) of who builds it, or for whom nobody is to be written to."""
    return (os.environ.get('DEBFULLNAME') or PACKAGE,
            os.environ.get('DEBEMAIL') or PACKAGE + '@localhost.invalid')


def maintainer():
    return '%s <%s>' % builder()


def library_dependencies(program, scratch):
    """What dpkg-shlibdeps finds the program to need."""
    os.makedirs(os.path.join(scratch, 'debian'))
    write(os.path.join(scratch, 'debian/control'),
          'Source: %s\n\nPackage: %s\nArchitecture: any\n' % (PACKAGE, PACKAGE))
    found = run(['dpkg-shlibdeps', '-O', program], 'dpkg-shlibdeps', cwd=scratch)
    for line in found.splitlines():
        if line.startswith('shlibs:Depends='):
            return line.partition('=')[2]
    raise StepError('dpkg-shlibdeps found no libraries for ' + program)


def control(root, version, libraries):
    size = int(run(['du', '-sk', root], 'du').split()[0])
    fields = (('Package', PACKAGE), ('Version', version),
              ('Architecture', run(['dpkg', '--print-architecture'], 'dpkg').strip()),
              ('Maintainer', maintainer()), ('Installed-Size', size),
              ('Depends', ', '.join([libraries, *NEEDS])), ('Section', 'otherosfs'),
              ('Priority', 'optional'),
              ('Description', DESCRIPTION.format(program=PROGRAM, man=docs.MAN).rstrip()))
    write(os.path.join(root, 'DEBIAN/control'),
          ''.join('%s: %s\n' % field for field in fields))


def step(_):
    deps.require(['build', 'server', 'docs'])
    program, version = build_emulator(), package_version()
    with fresh_dir(os.path.join(build_dir(), 'deb', 'package')) as scratch:
        root = os.path.join(scratch, 'root')
        fill(root, program, version)
        control(root, version, library_dependencies(
            os.path.join(root, 'usr/bin', PROGRAM), scratch))
        made = run(['dpkg-deb', '--root-owner-group', '--build', root, build_dir()],
                   'dpkg-deb')
    say(made.strip())
    return 0


if __name__ == '__main__':
    sys.exit(main(step))
