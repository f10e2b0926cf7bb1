#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Documents: docs.py

    build/docs/html/                     the pages, begin with index.html
    build/docs/man/qemu-kvm-userfault.7  the user's page

The pages are those that go into QEMU's own documentation.  Here they are
built alone.  A reference that leads nowhere is an error, and so is the name of
a file of this repository that does not exist, here or in another document.
"""

import os
import shutil
import subprocess

import deps
import doccheck
from common import HERE, REPO, StepError, build_dir, lock, main, say

PAGES = ('system/kvm-userfault.rst', 'devel/migration/kvm-userfault.rst',
         'devel/migration/kvm-userfault-performance.rst',
         'devel/migration/kvm-userfault-threats.rst')
IMAGES = ('devel/migration/kvm-userfault-path.svg',
          'devel/migration/kvm-userfault-states.svg',
          'devel/migration/kvm-userfault-rates.svg')
# Not built, but read by people
OTHERS = ('README.md', 'tests/kernel/README.md',
          'tests/kernel/linux/Documentation/virt/kvm/userfault.rst')
MAN = 'qemu-kvm-userfault'       # in section 7, named by sphinx/conf.py
SPHINX = '/usr/bin/sphinx-build'


def collect(source):
    """Put index, pages and images below @source, as QEMU's tree has them."""
    shutil.rmtree(source, ignore_errors=True)
    for page in PAGES + IMAGES:
        path = os.path.join(source, page)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copyfile(os.path.join(REPO, 'docs', page), path)
    shutil.copyfile(os.path.join(HERE, 'sphinx', 'index.rst'),
                    os.path.join(source, 'index.rst'))


def build(kind, source, target):
    """Run Sphinx's builder @kind; a warning is an error."""
    done = subprocess.run(
        [SPHINX, '-q', '-E', '-W', '--keep-going', '-b', kind,
         '-c', os.path.join(HERE, 'sphinx'), '-d', target + '.doctrees', source,
         target], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        universal_newlines=True, check=False,
        env=dict(os.environ, PYTHONDONTWRITEBYTECODE='1'))
    if done.returncode:
        raise StepError('the %s pages: %s' % (kind, done.stdout.strip()))


def complain(messages):
    """Stop if there are any."""
    if messages:
        raise StepError('the documents name what is not there; correct them:\n'
                        + '\n'.join(messages))


def build_docs():
    """Returns the folder that holds html/ and man/."""
    deps.require(['docs'])
    complain(doccheck.check_sources(
        OTHERS + tuple('docs/' + page for page in PAGES)))
    top = os.path.join(build_dir(), 'docs')
    os.makedirs(top, exist_ok=True)
    with lock(top):
        collect(os.path.join(top, 'source'))
        for kind in ('html', 'man'):
            build(kind, os.path.join(top, 'source'), os.path.join(top, kind))
        complain(doccheck.check_html(os.path.join(top, 'html')))
    return top


def step(_):
    top = build_docs()
    say(os.path.join(top, 'html', 'index.html'))
    say(os.path.join(top, 'man', MAN + '.7'))


if __name__ == '__main__':
    main(step)
