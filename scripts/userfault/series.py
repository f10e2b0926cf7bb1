#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Patch series as one would send them: series.py [qemu] [linux]

build/series/NAME/*.patch are made from the commits of the integrated tree,
checked with the tree's own checkpatch.pl, applied with `git am` to a fresh
checkout of the pristine source, and the tree that results is compared with the
integrated one.  cover-letter.txt beside them is made of the documents.
Signed-off-by lines are the sender's to add (git am --signoff).
"""

import glob
import os
import re
import shutil
import subprocess

import integrate
import pristine
from common import REPO, StepError, build_dir, fresh_dir, main, read, say, write

IDENTITY = {'GIT_COMMITTER_NAME': 'series check', 'GIT_COMMITTER_EMAIL': 'check@localhost'}


# Of the documents: what each letter tells, and the sections it takes.
COVERS = {
    'qemu': ('Postcopy with KVM userfault', 'docs/system/kvm-userfault.rst',
             ('When it helps', 'Requirements', 'Limits')),
    'linux': ('KVM userfault', 'tests/kernel/linux/Documentation/virt/kvm/'
              'userfault.rst', ()),
}
# Neither a mistake of the patch: the sender signs, and nobody maintains yet.
CHECKPATCH_KNOWS = re.compile(r'Signed-off-by|does MAINTAINERS need updating')


def sections(text):
    """{title: text} of a page; the text below its own title is at ''."""
    found, title = {'': []}, ''
    lines = text.splitlines() + ['']
    first = True
    for line, below in zip(lines, lines[1:]):
        if re.match(r'^([=-])\1{3,}$', line):
            continue
        if line and re.match(r'^([=-])\1{3,}$', below):
            title = '' if first else line
            first = False
            found.setdefault(title, [])
        elif not first:
            found[title].append(line)
    return {name: '\n'.join(body).strip() for name, body in found.items()}


def cover_letter(name, repo, version):
    """What somebody reads first: the documents' words, commits, files."""
    subject, page, titles = COVERS[name]
    said = sections(read(os.path.join(REPO, page)).decode())
    span = '%s..%s' % (pristine.BRANCH, integrate.BRANCH)
    commits = pristine.git(repo, 'log', '--reverse', '--format=%s', span).splitlines()
    parts = ['Subject: [PATCH 0/%d] %s' % (len(commits), subject), said['']]
    for title in titles:
        parts.append('%s\n%s\n\n%s' % (title, '-' * len(title), said[title]))
    parts += ['On top of version %s:' % version,
              '\n'.join('  ' + commit for commit in commits),
              ' ' + pristine.git(repo, 'diff', '--stat=76', span).strip()]
    return '\n\n'.join(parts) + '\n'


def check_style(tree, patches):
    """StepError with what the tree's checkpatch.pl finds."""
    bad = []
    for path in patches:
        done = subprocess.run(
            ['perl', os.path.join(tree, 'scripts/checkpatch.pl'), '--terse',
             '--no-summary', '--no-signoff', path], cwd=tree,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            universal_newlines=True, errors='replace', check=False)
        bad += [line for line in done.stdout.splitlines()
                if ': ERROR: ' in line and not CHECKPATCH_KNOWS.search(line)]
    if bad:
        raise StepError('checkpatch: ' + '\n'.join(
            os.path.basename(line) for line in bad))


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
            patches = make(name, tree, temporary)
            check_style(tree, patches)
            verify(name, tree, key, patches)
            write(os.path.join(temporary, 'cover-letter.txt'),
                  cover_letter(name, os.path.join(tree, '.git'), version))
        count = len(glob.glob(os.path.join(folder, '*.patch')))
        say('%s: %d patches in %s are clean, apply to pristine %s with git am '
            'and give the identical tree' % (name, count, folder, version))


if __name__ == '__main__':
    main(step)
