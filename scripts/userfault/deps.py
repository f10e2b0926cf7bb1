#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages the steps need: deps.py [--install|--list] [group...]

Without an option it checks, prints the command that installs what is missing
and exits 1.  The list is the file `packages` beside this one.
"""

import os
import re
import shutil
import subprocess

from common import HERE, StepError, build_dir, main, read, say


def groups():
    """{group: [alternatives]} of the list."""
    found, group = {}, None
    for line in read(os.path.join(HERE, 'packages')).decode().splitlines():
        line = line.split('#')[0].strip()
        if line.startswith('['):
            group = line.strip('[]')
            found[group] = []
        elif line:
            found[group].append(line.split('|'))
    return found


def installed():
    """Names of the installed packages, also those another one provides."""
    if not shutil.which('dpkg-query'):
        raise StepError('dpkg-query is missing: this build takes its tools from '
                        'Debian packages (see scripts/userfault/packages)')
    form = '${db:Status-Status}\t${Package}\t${Provides}\n'
    done = subprocess.run(['dpkg-query', '-W', '-f', form], stdout=subprocess.PIPE,
                          universal_newlines=True, check=False)
    names = set()
    for line in done.stdout.splitlines():
        status, package, provides = line.split('\t')
        if status == 'installed':
            names.add(package)
            names.update(re.sub(r'\(.*?\)', '', provides).replace(',', ' ').split())
    return names


def missing(wanted):
    """First alternatives of what is not installed, of the groups `wanted`."""
    known, have = groups(), installed()
    unknown = [group for group in wanted if group not in known]
    if unknown:
        raise StepError('no package group %s; there are: %s'
                        % (unknown[0], ', '.join(known)))
    lacking = []
    for group in wanted:
        for names in known[group]:
            if not have & set(names) and names[0] not in lacking:
                lacking.append(names[0])
    return lacking


def command(packages):
    return ['apt-get', 'install', '-y', '--no-install-recommends'] + packages


def require(wanted):
    """Stop with the exact command if packages are missing."""
    lacking = missing(wanted)
    if lacking:
        raise StepError('missing packages; run ./configure --install-deps, or as root: '
                        + ' '.join(command(lacking)))


def _as_root():
    """Prefix that makes a command run as root, or None."""
    if os.geteuid() == 0:
        return []
    if shutil.which('sudo') and subprocess.run(
            ['sudo', '-n', 'true'], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, check=False).returncode == 0:
        return ['sudo', '-n']
    return None


def install(wanted):
    """Install what is missing of the groups; nothing happens if nothing is."""
    lacking = missing(wanted)
    if not lacking:
        return
    prefix = _as_root()
    if prefix is None:
        raise StepError('missing packages, and neither root nor sudo without a '
                        'password; run as root: ' + ' '.join(command(lacking)))
    say('installing: ' + ' '.join(lacking))
    os.makedirs(os.path.join(build_dir(), 'logs'), exist_ok=True)
    log = os.path.join(build_dir(), 'logs', 'deps.log')
    setting = ['env', 'DEBIAN_FRONTEND=noninteractive']
    with open(log, 'w') as stream:
        for argv in (['apt-get', '-q', 'update'], command(lacking)):
            done = subprocess.run(prefix + setting + argv, stdin=subprocess.DEVNULL,
                                  stdout=stream, stderr=stream, check=False)
            # update fails if any of the machine's archives does; the install
            # decides.
            if done.returncode and argv[1] == 'install':
                raise StepError('%s failed; see %s' % (' '.join(argv), log))
    left = missing(wanted)
    if left:
        raise StepError('not installed after all: %s; see %s' % (' '.join(left), log))


def step(argv):
    words = [word for word in argv if not word.startswith('-')] or list(groups())
    if '--list' in argv:
        known = groups()
        print('\n'.join(names[0] for group in words for names in known[group]))
    elif '--install' in argv:
        install(words)
    else:
        require(words)


if __name__ == '__main__':
    main(step)
