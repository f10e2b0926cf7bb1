#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian package of a kernel with KVM userfault: kerneldeb.py [CONFIG]

CONFIG, by default $KERNEL_CONFIG or generic:
    generic   what Debian configures for a PC or server
    cloud     what Debian configures for a virtual machine; builds faster
    testhost  the small kernel of the test host
    a file    a whole configuration, such as one in /boot

The kernel's own bindeb-pkg makes build/linux-image-RELEASE_VERSION_ARCH.deb.
RELEASE ends with -userfault, and with the name of the configuration unless it
is generic, so that the package lies beside all other kernels.
"""

import lzma
import os
import shutil
import sys

import build
import deps
import fetch
import integrate
import progress
from aptsource import PrivateApt
from common import (StepError, build_dir, cache_dir, fresh_dir, load_config, lock, main,
                    need_space, read, run, say)
from deb import builder, commit_day

DEBIAN = {'generic': 'amd64_none_amd64', 'cloud': 'amd64_none_cloud-amd64'}
GIGABYTES = {'generic': 12.0, 'cloud': 6.0, 'testhost': 2.0}
WANTED = '''\
CONFIG_KVM_USERFAULT=y
CONFIG_LOCALVERSION=""
# CONFIG_LOCALVERSION_AUTO is not set
# CONFIG_DEBUG_INFO is not set
# there is no key that anybody trusts
# CONFIG_MODULE_SIG_ALL is not set
'''
# What switches off what a whole configuration has on: {its line: options}
OFF = {b'CONFIG_MODULE_SIG_FORMAT=y':
       'CONFIG_MODULE_SIG_KEY=""\nCONFIG_SYSTEM_TRUSTED_KEYS=""\n',
       b'CONFIG_DEBUG_INFO=y': 'CONFIG_DEBUG_INFO_NONE=y\n'}


def debian_config(name, version, mirror):
    """Debian's configuration @name of the series of @version"""
    series = '.'.join(version.split('.')[:2])
    package = 'linux-config-' + series
    folder = cache_dir('download', package)
    with lock(folder):
        if not os.path.isdir(folder):
            apt = PrivateApt(fetch.suite_of('linux', series), mirror)
            with fresh_dir(folder) as temporary:
                apt.binary(package, temporary)
    path = os.path.join(folder, 'usr/src', package, 'config.%s.xz' % DEBIAN[name])
    if not os.path.exists(path):
        raise StepError('%s has no configuration %s; name a file with KERNEL_CONFIG='
                        % (package, os.path.basename(path)))
    return lzma.decompress(read(path))


class Flavour:
    """One of the configurations: its name, and what goes into .config."""

    def __init__(self, chosen, version, mirror):
        self.base, self.more = None, ''
        self.name = chosen
        if chosen == 'testhost':
            # Just as it is: it has been compiled already, as a rule.
            self.more = build.fragment(version)
        elif chosen in DEBIAN:
            self.base = debian_config(chosen, version, mirror)
        elif os.path.isfile(chosen):
            self.name, self.base = 'custom', read(chosen)
        else:
            raise StepError('KERNEL_CONFIG=%s: neither a file nor one of %s'
                            % (chosen, ', '.join(sorted([*DEBIAN, 'testhost']))))
        if self.base:
            # It is for tests of the tests.
            self.more += '# CONFIG_KVM_USERFAULT_BREAK is not set\n'
            self.more += ''.join(options for line, options in OFF.items()
                                 if line in self.base.splitlines())

    @property
    def folder(self):
        return os.path.join(build_dir(), ('linux-' if self.name == 'testhost' else
                                          'linux-deb-') + self.name)

    @property
    def suffix(self):
        return '-userfault' + ('' if self.name == 'generic' else '-' + self.name)

    def options(self):
        return self.more + WANTED


def add_module_lists(package, release):
    """
    What depmod makes goes into the @package.  The hook of initramfs-tools makes
    it on the user's machine otherwise, and nothing would remove it there.
    """
    with fresh_dir(package + '.unpacked') as root:
        run(['dpkg-deb', '-R', package, root], 'unpacking ' + package)
        run(['/sbin/depmod', '-b', root, release], 'depmod')
        run(['dpkg-deb', '--root-owner-group', '-b', root, package], 'dpkg-deb')
    shutil.rmtree(package + '.unpacked')


def packed(tree, env, version, flavour):
    """Path of the package, which bindeb-pkg puts beside the folder"""
    folder = flavour.folder
    os.makedirs(folder, exist_ok=True)
    build.merge_options(tree, folder, env, version, flavour.options(),
                        'the %s configuration' % flavour.name, flavour.base)
    full = '%s+userfault%s-1' % (version, commit_day())
    name, address = builder()
    # Neither headers nor a linux-libc-dev in place of the distribution's.
    seconds, steps = progress.run_long(
        build.kernel_make(tree, folder, 'LOCALVERSION=' + flavour.suffix,
                          'KDEB_PKGVERSION=' + full,
                          'DPKG_FLAGS=--target=binary-image', 'bindeb-pkg'),
        'kernel package', 'kernel-deb',
        env=dict(env, KDEB_CHANGELOG_DIST='unstable', KBUILD_VERBOSE='0',
                 DEBFULLNAME=name, DEBEMAIL=address))
    made = os.path.join(os.path.dirname(folder), 'linux-image-%s%s_%s_amd64.deb'
                        % (version, flavour.suffix, full))
    if not os.path.exists(made):
        raise StepError("the kernel's bindeb-pkg did not make %s; see %s"
                        % (made, progress.log_path('kernel-deb')))
    add_module_lists(made, version + flavour.suffix)
    say('kernel package: %d steps in %.0f s' % (steps, seconds))
    return made


def step(argv):
    if len(argv) > 1 or any(word.startswith('-') for word in argv):
        say(__doc__.strip())
        return 2
    chosen = argv[0] if argv else os.environ.get('KERNEL_CONFIG') or 'generic'
    deps.require(['build', 'kernel', 'kernel-deb'])
    config = load_config()
    tree, version, _ = integrate.integrate('linux')
    flavour = Flavour(chosen, version, config.get('debian_mirror'))
    need_space(build_dir(), GIGABYTES.get(flavour.name, 12.0), 'the kernel package')
    with lock(flavour.folder):
        progress.fresh_log('kernel-deb')
        made = packed(tree, build.environment(config), version, flavour)
    build.report_warnings('linux', 'kernel-deb')
    say(made)
    return 0


if __name__ == '__main__':
    sys.exit(main(step))
