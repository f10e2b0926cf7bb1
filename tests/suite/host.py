# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver of the tests that need KVM userfault, in the test host or here,
until all of them are done."""

import json
import os
import selectors
import subprocess
import time
from pathlib import Path

from results import Listener, Result

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
# In the test host, all stages together on an idle machine; a backstop, since
# every test has a limit of its own.
HOST_LIMIT, FULL_HOST_LIMIT = 3600, 12000
BOOTS = 3                       # as many times tests go on after a hang
SILENCE = 60                    # seconds after which a running test is named
# Exit codes of the launcher; see its description.
TIMED_OUT, HUNG, CRASHED, NOT_STARTED = 123, 124, 125, 126


class Host:
    """The driver, in the test host or here, until all is done."""

    def __init__(self, report, args, build, results, *options):
        self.report, self.args = report, args
        self.build, self.results = build, results
        self.options = options      # of the launcher
        self.skip = []              # [stage, test] that ended or hung

    def command(self, names):
        driver = [HERE / 'driver', '--results', self.results,
                  '--skip', self.results / 'done.json']
        driver += ['--full'] if self.args.full else []
        driver += ['--only', self.args.only] if self.args.only else []
        driver += names
        if self.args.here or 'TESTHOST' in os.environ:
            return driver
        limit = FULL_HOST_LIMIT if self.args.full else HOST_LIMIT
        return [HERE.parent / 'testhost' / 'launch', '--results', self.results,
                '--time', limit, *self.options, '--', *driver]

    def boot(self, names):
        """One run of the driver.  Returns (status, Listener, last words)."""
        (self.results / 'done.json').write_text(json.dumps(self.skip))
        listener = Listener(self.report)
        log = self.results / 'launch.log'
        with open(log, 'ab') as errors:
            start = errors.tell()
            with subprocess.Popen(
                    [str(word) for word in self.command(names)],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=errors, env=dict(os.environ, BUILD=str(self.build)),
                    cwd=str(REPO)) as running:
                try:
                    self.follow(running, listener)
                except BaseException:
                    running.terminate()
                    raise
        with open(log, 'rb') as stream:
            stream.seek(start)
            words = stream.read().decode(errors='replace').splitlines()
        return running.returncode, listener, reasons(words)

    def follow(self, running, listener):
        rest = b''
        named = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(running.stdout, selectors.EVENT_READ)
            while True:
                if selector.select(5):
                    data = os.read(running.stdout.fileno(), 65536)
                    if not data:
                        return
                    *lines, rest = (rest + data).split(b'\n')
                    for line in lines:
                        listener.feed(line.decode(errors='replace'))
                quiet = time.monotonic() - max(listener.since, named)
                if quiet > SILENCE and listener.current:
                    self.report.say('running %s: %s' % listener.current)
                    named = time.monotonic()

    def run(self, names):
        for boot in range(1, BOOTS + 1):
            status, listener, why = self.boot(names)
            self.skip += listener.done
            if status == 0:
                return
            stage, test = listener.current or ('host', 'the test host')
            outcome = 'hang' if status in (HUNG, CRASHED) else 'fail'
            self.report.add(Result(stage, test, outcome,
                                   f'{why} (exit code {status}, '
                                   f'{self.results / "console.log"})'))
            if outcome != 'hang' or boot == BOOTS or not listener.done:
                self.report.add(Result('host', 'remaining tests', 'fail',
                                       'not run, since the test host is gone'))
                return
            self.skip += [[stage, test], [stage, 'promises']]
            console = self.results / 'console.log'
            if console.exists():
                console.rename(self.results / f'console.boot{boot}.log')
            self.report.say('booting again for the tests that remain')


def reasons(lines):
    """The launcher's reason among what it wrote to stderr."""
    told = [line[len('testhost: '):] for line in lines
            if line.startswith('testhost: ')
            and not line.startswith(('testhost:   ', 'testhost: last lines',
                                     'testhost: booted'))]
    return told[-1] if told else (lines[-1] if lines else 'it said nothing')
