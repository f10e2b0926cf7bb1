# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a long command with little output: a line now and then, a full log."""

import os
import re
import subprocess
import time

from common import StepError, build_dir, say

INTERVAL = 20
STEPS = re.compile(r'^\[(\d+)/(\d+)\]')
FAILURE = re.compile(r'(\berror: |\bError \d|^FAILED: |^ERROR: |: fatal |'
                     r'No such file or directory)')


class Progress:
    """Turns lines of output into one short line every INTERVAL seconds."""

    def __init__(self, what, total=None):
        self.what, self.total = what, total
        self.start = self.last = time.monotonic()
        self.done = 0

    def feed(self, line):
        match = STEPS.match(line)
        if match:
            self.done, self.total = int(match.group(1)), int(match.group(2))
        elif line.startswith('  '):
            # kbuild: one indented line per step.
            self.done += 1
        now = time.monotonic()
        if now - self.last >= INTERVAL:
            self.last = now
            self.report(now)

    def report(self, now):
        text = '%s: %3.0f s' % (self.what, now - self.start)
        if self.done:
            text += ', %d' % self.done
        if self.done and self.total:
            percent = min(100 * self.done // self.total, 99)
            text += ' of %s%d steps (%d%%)' % ('' if self.done <= self.total else
                                               'about ', self.total, percent)
        elif self.done:
            text += ' steps'
        say(text)


def log_path(name):
    folder = os.path.join(build_dir(), 'logs')
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, name + '.log')


def run_long(argv, what, log, total=None, **kwargs):
    """Run argv; its output goes to the log; returns (seconds, steps).

    On failure the error names the first line that looks like the cause.
    """
    path = log_path(log)
    progress = Progress(what, total)
    first_error = last_line = ''
    with open(path, 'a') as stream:
        stream.write('$ %s\n' % ' '.join(argv))
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=1,
                                   stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                   universal_newlines=True, errors='replace', **kwargs)
        try:
            for line in process.stdout:
                stream.write(line)
                progress.feed(line)
                if line.strip():
                    last_line = line.strip()
                if not first_error and FAILURE.search(line):
                    first_error = line.strip()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if process.wait():
            raise StepError('%s failed: %s (whole log: %s)'
                            % (what, first_error or last_line, path))
    return time.monotonic() - progress.start, progress.done


def fresh_log(name):
    """Empty a step's log before its first command."""
    with open(log_path(name), 'w'):
        pass
