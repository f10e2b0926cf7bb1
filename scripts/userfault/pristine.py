# SPDX-License-Identifier: GPL-2.0-or-later
"""Pristine source trees, each kept in the cache as one bare git repository.

cache/src/KEY.git holds one commit of the untouched tree on the branch
`pristine`.  Build trees borrow its objects, so checking out, comparing and
making the patch series cost no second copy.  KEY names the version and the
content, so a repository never changes once it has its name.
"""

import os
import re
import stat
import subprocess
import tarfile

from common import StepError, cache_dir, fresh_dir, need_tool, run, sweep

DATE = '1700000000 +0000'
AUTHOR = 'KVM userfault for QEMU <userfault@localhost>'
BRANCH = 'refs/heads/pristine'
GIT = ['git', '-c', 'gc.auto=0', '-c', 'core.fsmonitor=false',
       '-c', 'core.compression=1', '-c', 'core.autocrlf=false']


def git(repository, *arguments, **kwargs):
    """Run git on a repository (a .git folder) and return its output, stripped.

    `tolerate` accepts a failure (of update-index --refresh, which reports
    edited files that way).
    """
    what = kwargs.pop('what', 'git ' + arguments[0])
    tolerate = kwargs.pop('tolerate', False)
    environment = dict(os.environ, GIT_DIR=repository, GIT_CONFIG_NOSYSTEM='1',
                       GIT_CONFIG_GLOBAL='/dev/null', **kwargs.pop('env', {}))
    return run(GIT + list(arguments), what, env=environment, check=not tolerate,
               **kwargs).strip()


def repository(key):
    return cache_dir('src', key + '.git')


def exists(key):
    return os.path.isdir(repository(key))


class _Import:
    """One fast-import stream: a single pack, no loose objects, no work tree."""

    def __init__(self, path, message):
        need_tool('git')
        git(path, 'init', '-q', '--bare')
        environment = dict(os.environ, GIT_DIR=path)
        self.process = subprocess.Popen(
            GIT + ['-c', 'pack.compression=1', 'fast-import', '--quiet', '--depth=0'],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        self.out = self.process.stdin
        text = message.encode()
        self.out.write(b'commit %s\ncommitter %s %s\ndata %d\n%s\n'
                       % (BRANCH.encode(), AUTHOR.encode(), DATE.encode(),
                          len(text), text))
        self.count = 0

    def add(self, name, mode, data):
        quoted = name.replace('\\', '\\\\').replace('"', '\\"').replace('\n', '\\n')
        self.out.write(b'M %s inline "%s"\ndata %d\n'
                       % (mode, os.fsencode(quoted), len(data)))
        self.out.write(data)
        self.out.write(b'\n')
        self.count += 1

    def abandon(self):
        self.process.kill()
        self.process.communicate()

    def finish(self):
        try:
            self.out.close()
        except BrokenPipeError:
            pass
        with self.process.stderr as stream:
            errors = stream.read().decode(errors='replace')
        if self.process.wait() or not self.count:
            raise StepError('storing the source failed: %s'
                            % (errors.strip().splitlines() or ['it is empty'])[0])


def _mode(executable):
    return b'100755' if executable else b'100644'


def _from_dir(stream, top):
    for folder, folders, names in os.walk(top):
        if folder == top:
            # A user's own tree may have been built in and may be a checkout.
            folders[:] = [name for name in folders
                          if name not in ('.git', '.pc', 'build')]
        folders.sort()
        links = [name for name in folders
                 if os.path.islink(os.path.join(folder, name))]
        for name in sorted(names + links):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, top)
            status = os.lstat(path)
            if name == '.git':
                continue
            if stat.S_ISLNK(status.st_mode):
                stream.add(relative, b'120000', os.fsencode(os.readlink(path)))
            elif stat.S_ISREG(status.st_mode):
                with open(path, 'rb') as source:
                    stream.add(relative, _mode(status.st_mode & 0o100), source.read())


def _from_tar(stream, path):
    with tarfile.open(path, 'r|*') as archive:
        for member in archive:
            name = re.sub(r'^(\./)?[^/]+/', '', member.name)
            if name == member.name or '..' in name.split('/') or not name:
                continue
            if member.issym():
                stream.add(name, b'120000', os.fsencode(member.linkname))
            elif member.isreg():
                data = archive.extractfile(member).read()
                stream.add(name, _mode(member.mode & 0o100), data)


def store(key, source, message):
    """Keep a tree (a folder or a tarball) as repository(key)."""
    final = repository(key)
    sweep(os.path.dirname(final))
    if os.path.isdir(final):
        return final
    with fresh_dir(final) as temporary:
        stream = _Import(temporary, message + '\n')
        try:
            if os.path.isdir(source):
                _from_dir(stream, source)
            else:
                _from_tar(stream, source)
        except (tarfile.TarError, EOFError, BrokenPipeError) as error:
            stream.abandon()
            raise StepError('%s cannot be read as a source tree: %s'
                            % (source, error)) from None
        stream.finish()
        git(temporary, 'symbolic-ref', 'HEAD', BRANCH)
        with open(os.path.join(temporary, 'info', 'attributes'), 'w') as attributes:
            attributes.write('* -text -eol -ident -filter -export-subst\n')
    return final


def file_at(key, path):
    """Bytes of a file of the pristine tree, or None."""
    environment = dict(os.environ, GIT_DIR=repository(key))
    done = subprocess.run(GIT + ['cat-file', 'blob', '%s:%s' % (BRANCH, path)],
                          env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=False)
    return done.stdout if done.returncode == 0 else None


def mode_at(key, path):
    """git's mode of a file of the pristine tree, or None."""
    line = git(repository(key), 'ls-tree', BRANCH, '--', path)
    return line.split()[0] if line else None
