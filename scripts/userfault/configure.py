#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""configure [options] [any option of QEMU's own configure]

  --qemu-source=PATH     folder or tarball of QEMU (default: Debian 13's package)
  --qemu-version=SERIES  another version Debian has (--help-versions)
  --kernel-source=PATH   folder or tarball of Linux for the test host
                         (default: Debian's linux-source-6.12)
  --kernel-version=SERIES  another version Debian has (--help-versions)
  --debian-mirror=URI    where Debian's packages come from
                         (default: the mirror of this machine)
  --profile=NAME         small: what the tests need (default)
                         server: what a virtualisation host needs
  --install-deps         install missing packages (as root or through sudo)
  --untried-version      go on with a version of QEMU or Linux never tried
  --without-emulator-cure  leave out the fixes of the emulator the test host
                         runs on; the test host then hangs now and then
  --update               take the newest source of Debian instead of the cached
  --help

The build folder is ./build, or $BUILD.  What is downloaded is kept in
${XDG_CACHE_HOME:-~/.cache}/qemu-kvm-userfault.
"""

import os

import deps
import fetch
import integrate
from common import StepError, build_dir, main, save_config, say
from profiles import PROFILES

VALUES = {'--qemu-source': 'qemu_source', '--kernel-source': 'linux_source',
          '--qemu-version': 'qemu_version', '--kernel-version': 'linux_version',
          '--debian-mirror': 'debian_mirror', '--profile': 'profile'}
FLAGS = {'--untried-version': ('untried_version', True),
         '--without-emulator-cure': ('emulator_cure', False)}


def check_sources(config):
    """Stop if a source is no file, or a version unknown; make paths absolute."""
    for component, option in (('qemu', 'qemu'), ('linux', 'kernel')):
        source, version = component + '_source', component + '_version'
        if source in config and version in config:
            raise StepError('either --%s-source or --%s-version' % (option, option))
        if version in config:
            fetch.suite_of(component, config[version])
        if source in config:
            config[source] = os.path.abspath(config[source])
            if not os.path.exists(config[source]):
                raise StepError('%s: no such folder or tarball' % config[source])


def parse(argv):
    """(config, once): what is kept, and what concerns this run only."""
    config = {'profile': 'small', 'emulator_cure': True, 'untried_version': False,
              'qemu_options': []}
    once = {'install': False, 'update': False}
    words = list(argv)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition('=')
        if name in VALUES:
            if not equals:
                if not words:
                    raise StepError('%s needs a value' % name)
                value = words.pop(0)
            config[VALUES[name]] = value
        elif word in FLAGS:
            config[FLAGS[word][0]] = FLAGS[word][1]
        elif word == '--install-deps':
            once['install'] = True
        elif word == '--update':
            once['update'] = True
        elif word.startswith('-'):
            config['qemu_options'].append(word)
        else:
            raise StepError('%s: not an option; see ./configure --help' % word)
    if config['profile'] not in PROFILES:
        raise StepError('no profile %s; there are: %s'
                        % (config['profile'], ', '.join(sorted(PROFILES))))
    check_sources(config)
    if any(sign in build_dir() for sign in ' :\t\n'):
        raise StepError('%s: neither QEMU nor Linux can be built below a folder with '
                        'a space or colon in its name; choose another with BUILD='
                        % build_dir())
    return config, once


def print_versions():
    """What the project was tried with."""
    for one in fetch.tried():
        say('%-6s %-5s Debian %-17s %s' % one)


def step(argv):
    if '--help' in argv or '-h' in argv:
        print(__doc__.strip())
        return 0
    if '--help-versions' in argv:
        print_versions()
        return 0
    config, once = parse(argv)
    groups = ['build', 'testhost', 'kernel', 'tests']
    if config['profile'] == 'server':
        groups.append('server')
    if once['install']:
        deps.install(groups)
    else:
        deps.require(['build'] + groups[4:])
    if once['update'] and 'qemu_source' not in config:
        fetch.debian_qemu(config.get('debian_mirror'), update=True,
                          series=config.get('qemu_version'))
    os.makedirs(build_dir(), exist_ok=True)
    for name in ('qemu', 'linux'):
        # Also checks the versions; keeps what it found in the configuration.
        integrate.source_of(integrate.COMPONENTS[name], config)
    config['meson'] = fetch.meson_path(config.get('debian_mirror'))
    save_config(config)
    for name, label in (('qemu', 'QEMU'), ('linux', 'Linux')):
        say('%s %s' % (label, config['sources'][name]['version']))
    say('profile %s, build folder %s' % (config['profile'], build_dir()))
    return 0


if __name__ == '__main__':
    main(step)
