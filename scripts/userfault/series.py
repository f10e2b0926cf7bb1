#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Patch series as one would send them: series.py [qemu] [linux]

build/series/NAME/*.patch are made from the commits of the integrated tree,
applied with `git am` to a fresh checkout of the pristine source, and the tree
that results is compared with the integrated one.
"""

import glob
import os
import shutil

import integrate
import pristine
from common import StepError, build_dir, fresh_dir, main, say

IDENTITY = {'GIT_COMMITTER_NAME': 'series check', 'GIT_COMMITTER_EMAIL': 'check@localhost'}


def make(name, tree, folder):
    """format-patch into `folder`; returns the paths in order."""
    repo = os.path.join(tree, '.git')
    pristine.git(repo, 'format-patch', '-q', '--no-signature', '-o', folder,
                 '%s..%s' % (pristine.BRANCH, integrate.BRANCH))
    return sorted(glob.glob(os.path.join(folder, '*.patch')))


def sparse(repo, patches):
    """Check out only what the series touches; the index has everything."""
    rows = set()
    for path in patches:
        with open(path, encoding='utf-8', errors='replace') as stream:
            rows.update(line.split(' b/', 1)[1].strip() for line in stream
                        if line.startswith('diff --git '))
    pristine.git(repo, 'config', 'core.sparseCheckout', 'true')
    with open(os.path.join(repo, 'info', 'sparse-checkout'), 'w') as stream:
        stream.writelines('/%s\n' % row for row in sorted(rows))


def verify(name, tree, key, patches):
    """git am on a fresh checkout must give the identical tree."""
    scratch = os.path.join(build_dir(), 'series-check')
    origin = pristine.repository(key)
    with fresh_dir(scratch) as temporary:
        work = os.path.join(temporary, 'work')
        os.makedirs(work)
        repo = os.path.join(work, '.git')
        pristine.git(repo, 'init', '-q', cwd=work)
        pristine.git(repo, 'config', 'core.bare', 'false')
        alternates = os.path.join(repo, 'objects', 'info', 'alternates')
        with open(alternates, 'w') as stream:
            stream.write(os.path.join(origin, 'objects') + '\n')
        shutil.copy(os.path.join(origin, 'info', 'attributes'),
                    os.path.join(repo, 'info', 'attributes'))
        base = pristine.git(origin, 'rev-parse', pristine.BRANCH)
        where = {'GIT_WORK_TREE': work}
        pristine.git(repo, 'update-ref', 'refs/heads/check', base)
        pristine.git(repo, 'symbolic-ref', 'HEAD', 'refs/heads/check')
        sparse(repo, patches)
        pristine.git(repo, 'reset', '-q', '--hard', env=where, cwd=work)
        pristine.git(repo, 'am', '-q', *patches, env=dict(where, **IDENTITY), cwd=work,
                     what='git am of the %s series' % name)
        got = pristine.git(repo, 'rev-parse', 'HEAD^{tree}')
    shutil.rmtree(scratch, ignore_errors=True)
    wanted = pristine.git(os.path.join(tree, '.git'), 'rev-parse',
                          integrate.BRANCH + '^{tree}')
    if got != wanted:
        raise StepError('the %s series applies but gives tree %s instead of %s'
                        % (name, got, wanted))


def step(argv):
    for name in argv or ['qemu', 'linux']:
        tree, version, _ = integrate.integrate(name)
        key = integrate.load_config()['sources'][name]['key']
        folder = os.path.join(build_dir(), 'series', name)
        with fresh_dir(folder) as temporary:
            verify(name, tree, key, make(name, tree, temporary))
        count = len(glob.glob(os.path.join(folder, '*.patch')))
        say('%s: %d patches in %s apply to pristine %s with git am and give the '
            'identical tree' % (name, count, folder, version))


if __name__ == '__main__':
    main(step)
