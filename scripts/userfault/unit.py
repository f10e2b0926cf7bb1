#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Native unit tests: unit.py [meson test arguments]

Builds the repository's own meson.build once without and once with each set of
sanitizers, in build/native/NAME, against the headers of build/qemu, and runs
it.  The last line counts single tests: N passed, N failed, N skipped.
"""

import glob
import json
import os
import re
import shutil
import subprocess
import sys

from build import environment, jobs
from common import REPO, StepError, build_dir, load_config, lock, main, run, say, write

VARIANTS = {'plain': 'none', 'address': 'address,undefined', 'thread': 'thread'}
# A failed check ends the program, also where the sanitizer would go on.
SANITIZER_OPTIONS = {'UBSAN_OPTIONS': 'halt_on_error=1:print_stacktrace=1'}
TAP_LINE = re.compile(r'^(ok|not ok)\b(.*)', re.MULTILINE)


class Meson:
    """The meson to use and the environment of what it starts."""

    def __init__(self, config):
        self.environment = dict(environment(config), **SANITIZER_OPTIONS)
        self.program = os.path.join(config.get('meson') or '/', 'usr/bin/meson')

    def command(self, *arguments):
        return ['/usr/bin/python3', self.program] + list(arguments)

    def setup(self, folder, source, variant, tree):
        """Make a build folder, or keep the one made the same way."""
        options = ['-Dqemu_tree=' + tree, '-Db_sanitize=' + VARIANTS[variant]]
        version = run(self.command('--version'), 'meson', env=self.environment)
        stamp = os.path.join(folder, 'made-with.json')
        made = json.dumps([version.strip(), source, options]) + '\n'
        if os.path.isfile(stamp):
            with open(stamp) as stream:
                if stream.read() == made:
                    return
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        run(self.command('setup', folder, source, *options),
            'setting up %s' % folder, env=self.environment)
        write(stamp, made)

    def build(self, folder, *targets):
        """Build; a StepError shows the compiler's words."""
        done = subprocess.run(['nice', 'ninja', '-C', folder, '-j', jobs(), *targets],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True, errors='replace',
                              env=self.environment, check=False)
        if done.returncode:
            sys.stderr.write(done.stdout)
            raise StepError('the unit tests in %s do not build' % folder)

    def wrapper(self, folder):
        """What to start programs with so that their sanitizer works, or None.

        The thread sanitizers of GCC 12 and Clang 14 do not start where the
        kernel places mappings with more than 28 random bits.
        """
        probe = sorted(path for path in glob.glob(os.path.join(folder, 'tests/unit/test-*'))
                       if os.path.isfile(path))[0]
        for words in ([], ['setarch', '-R']):
            if words and not shutil.which(words[0]):
                continue
            done = subprocess.run(words + [probe, '-l'], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, env=self.environment,
                                  check=False)
            if done.returncode == 0:
                return words
        return None


def count(path):
    """[passed, failed, skipped] of the single tests in a meson test log."""
    passed = failed = skipped = 0
    with open(path) as stream:
        for line in stream:
            record = json.loads(line)
            bad = 0
            for word, rest in TAP_LINE.findall(record.get('stdout') or ''):
                if word == 'not ok':
                    bad += 1
                elif re.search(r'# *SKIP', rest, re.IGNORECASE):
                    skipped += 1
                else:
                    passed += 1
            if record['result'] not in ('OK', 'SKIP') and not bad:
                bad = 1         # crashed, hung, or reported by the sanitizer
            failed += bad
    return [passed, failed, skipped]


def skip_reasons(path):
    """The reasons of the skipped tests of a log, each once."""
    with open(path) as stream:
        text = ''.join(json.loads(line).get('stdout') or '' for line in stream)
    return sorted(set(re.findall(r'# *SKIP *(.*\S)', text)))


def test(meson, variant, tree, arguments):
    """Build and run one variant; returns [passed, failed, skipped]."""
    folder = os.path.join(build_dir(), 'native', variant)
    meson.setup(folder, REPO, variant, tree)
    meson.build(folder)
    words = meson.wrapper(folder)
    if words is None:
        say('%s: skipped, the sanitizer does not start on this machine' % variant)
        return [0, 0, 1]
    wrapper = ['--wrapper', ' '.join(words)] if words else []
    log = os.path.join(folder, 'meson-logs', 'testlog.json')
    if os.path.exists(log):
        os.unlink(log)
    done = subprocess.run(
        meson.command('test', '-C', folder, '--no-rebuild', '--print-errorlogs',
                      '--num-processes', jobs(), *wrapper, *arguments),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
        errors='replace', env=meson.environment, check=False)
    if not os.path.exists(log):
        sys.stderr.write(done.stdout)
        raise StepError('meson test wrote no log in %s' % folder)
    result = count(log)
    if done.returncode:
        sys.stdout.write(done.stdout)
        result[1] = max(result[1], 1)
    say('%s: %d passed, %d failed, %d skipped' % (variant, *result))
    for reason in skip_reasons(log):
        say('%s: skipped: %s' % (variant, reason))
    return result


def step(argv):
    if '--help' in argv or '-h' in argv:
        say(__doc__.strip())
        return 0
    tree = os.path.join(build_dir(), 'qemu')
    meson = Meson(load_config())
    if not os.path.isfile(os.path.join(tree, 'include', 'qemu', 'osdep.h')):
        raise StepError('there is no QEMU tree in %s; run scripts/userfault/'
                        'integrate.py qemu first' % tree)
    total = [0, 0, 0]
    with lock(os.path.join(build_dir(), 'native')):
        for variant in VARIANTS:
            one = test(meson, variant, tree, argv)
            total = [a + b for a, b in zip(total, one)]
    say('%d passed, %d failed, %d skipped' % tuple(total))
    return 1 if total[1] else 0


if __name__ == '__main__':
    main(step)
