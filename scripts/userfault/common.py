# SPDX-License-Identifier: GPL-2.0-or-later
"""What every build step shares: folders, one-line errors, commands, locks.

One process per step; a step may be interrupted at any point.  Everything that
is kept is written beside its final name and renamed into place, so whatever
has its final name is complete.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.join(REPO, 'scripts', 'userfault')


class StepError(Exception):
    """An error whose text tells the user what to do; printed as one line."""


def build_dir():
    """The build folder: $BUILD, by default ./build of the repository."""
    return os.path.abspath(os.environ.get('BUILD') or os.path.join(REPO, 'build'))


def cache_dir(*parts):
    """A folder below the cache; its parent exists afterwards."""
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    path = os.path.join(os.path.abspath(base), 'qemu-kvm-userfault', *parts)
    os.makedirs(os.path.dirname(path) if parts else path, exist_ok=True)
    return path


def say(text):
    print(text, flush=True)


def main(function):
    """Run a step's main(argv); StepError becomes one line and exit 1."""
    try:
        sys.exit(function(sys.argv[1:]) or 0)
    except StepError as error:
        print('error: %s' % error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print('interrupted; run the same command again to continue', file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno != 28:
            raise
        print('error: no space left on the disk of %s; free some and run the same '
              'command again' % (error.filename or build_dir()), file=sys.stderr)
        sys.exit(1)


def need_tool(name, package=None):
    """Path of a program, or an error naming the Debian package that has it."""
    path = shutil.which(name)
    if not path:
        raise StepError('%s is not installed; run ./configure --install-deps '
                        '(package %s)' % (name, package or name))
    return path


def run(argv, what, check=True, **kwargs):
    """Run a command that should succeed and return its output.

    `what` begins the error line; the last line of the output ends it.
    """
    kwargs.setdefault('stdout', subprocess.PIPE)
    kwargs.setdefault('stderr', subprocess.STDOUT)
    try:
        done = subprocess.run(argv, universal_newlines=True, errors='replace',
                              check=False, **kwargs)
    except FileNotFoundError:
        raise StepError('%s is not installed; run ./configure --install-deps'
                        % argv[0]) from None
    if done.returncode and check:
        lines = [line for line in (done.stdout or '').splitlines() if line.strip()]
        raise StepError('%s: %s' % (what, lines[-1].strip() if lines else
                                    '%s exited %d' % (argv[0], done.returncode)))
    return done.stdout or ''


def need_space(path, gigabytes, what):
    """Stop before a step that would fill the disk of `path`."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    free = shutil.disk_usage(path).free / 1e9
    if free < gigabytes:
        raise StepError('%s needs %.1f GB on the disk of %s, %.1f GB are free; free '
                        'some, or set BUILD= and XDG_CACHE_HOME= to another disk'
                        % (what, gigabytes, path, free))


def sha256(*chunks):
    """Hash of strings/bytes, unambiguous about where one ends."""
    total = hashlib.sha256()
    for chunk in chunks:
        data = chunk.encode() if isinstance(chunk, str) else chunk
        total.update(b'%d:' % len(data))
        total.update(data)
    return total.hexdigest()


def sha256_file(path):
    total = hashlib.sha256()
    with open(path, 'rb') as stream:
        for block in iter(lambda: stream.read(1 << 20), b''):
            total.update(block)
    return total.hexdigest()


def read(path):
    with open(path, 'rb') as stream:
        return stream.read()


def write(path, data, mode=0o644):
    """Replace a file atomically; leave it (and its time) alone if equal.

    Returns whether the file changed.
    """
    data = data.encode() if isinstance(data, str) else data
    if os.path.isfile(path) and not os.path.islink(path) and read(path) == data:
        if (os.stat(path).st_mode & 0o777) != mode:
            os.chmod(path, mode)
        return False
    os.makedirs(os.path.dirname(path), exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix='.new-')
    with os.fdopen(handle, 'wb') as stream:
        stream.write(data)
    os.chmod(temporary, mode)
    os.replace(temporary, path)
    return True


@contextlib.contextmanager
def fresh_dir(final):
    """A temporary folder that becomes `final` when the block succeeds."""
    os.makedirs(os.path.dirname(final), exist_ok=True)
    temporary = '%s.part-%d' % (final, os.getpid())
    shutil.rmtree(temporary, ignore_errors=True)
    os.makedirs(temporary)
    try:
        yield temporary
        if os.path.isdir(final):
            old = '%s.old-%d' % (final, os.getpid())
            os.rename(final, old)
            os.rename(temporary, final)
            shutil.rmtree(old)
        else:
            os.rename(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sweep(directory):
    """Remove what killed runs left behind in a folder of fresh_dir()s."""
    if not os.path.isdir(directory):
        return
    for name in os.listdir(directory):
        head, _, pid = name.rpartition('-')
        if not head.endswith(('.part', '.old')) or not pid.isdigit():
            continue
        if not os.path.isdir('/proc/' + pid):
            shutil.rmtree(os.path.join(directory, name), ignore_errors=True)


@contextlib.contextmanager
def lock(path):
    """Exclusive lock on a path; says so when it has to wait."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + '.lock', 'a') as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say('waiting for another run that holds %s.lock' % path)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def timed(what):
    start = time.monotonic()
    say('%s ...' % what)
    yield
    say('%s: %.0f s' % (what, time.monotonic() - start))


CONFIG = 'config.json'


def load_config():
    """What ./configure decided; see configure.py for the keys."""
    path = os.path.join(build_dir(), CONFIG)
    try:
        return json.loads(read(path).decode())
    except FileNotFoundError:
        raise StepError('not configured; run ./configure first') from None


def save_config(config):
    text = json.dumps(config, indent=2, sort_keys=True) + '\n'
    write(os.path.join(build_dir(), CONFIG), text)
