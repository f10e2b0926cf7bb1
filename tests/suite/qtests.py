# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of QEMU's qtest kind, one case at a time.

Each case is a process of its own, so that a case that dies or stands still
costs only itself.
"""

import re
import shutil
from pathlib import Path

import process
from results import one_line

HERE = Path(__file__).resolve().parent
RESULT = re.compile(r'^(ok|not ok) \d+ (\S+)(?: # SKIP ?(.*))?')
TROUBLE = ('ERROR:', 'Bail out!', 'Assertion', 'terminate QEMU', 'QEMU death')
SERVED = re.compile(r'postcopy_userfault_vcpu .* arrived 1 ')
STATUS = re.compile(r'postcopy_userfault_start (\w+)')


def list_cases(program, prefix, arguments, env, log):
    """Names of the cases of @program below @prefix; empty if it has none."""
    done = process.run([program, *arguments, '-l'], 120, log, env=env)
    return [line for line in done.lines if line.startswith(prefix)]


class Traces:
    """What QEMU's processes of one case logged about the service."""

    def __init__(self, folder):
        self.statuses = []
        self.served = 0
        for path in sorted(Path(folder).glob('qemu-*.log')):
            with open(path, errors='replace') as stream:
                for line in stream:
                    found = STATUS.search(line)
                    if found:
                        self.statuses.append(found.group(1))
                    self.served += bool(SERVED.search(line))

    def judge(self, policy, asleep=False):
        """
        What is wrong for a case run with @policy, or ''.  @asleep: its guest
        is suspended, so that no vCPU touches a page during postcopy.
        """
        if policy == 'on' and not ('active' in self.statuses
                                   and (self.served or asleep)):
            return (f'KVM userfault served no page: status '
                    f'{self.statuses or "never set"}, {self.served} served')
        if policy == 'off' and (set(self.statuses) != {'off'} or self.served):
            return (f'userfaultfd alone was asked for: status '
                    f'{self.statuses or "never set"}, {self.served} exits served')
        return ''


def judge(done, case, status=0):
    """
    (outcome, reason) of a finished process that ran @case.  @status: what it
    may have ended with if it ran others, too
    """
    for line in done.lines:
        found = RESULT.match(line)
        if not found or found.group(2) != case:
            continue
        if found.group(3) is not None:
            return 'skip', found.group(3)
        if found.group(1) == 'ok' and done.status in (0, status):
            return 'pass', ''
        break
    return 'fail', f'{done.how_it_ended()}: {done.last(*TROUBLE)}'


class Program:
    """One qtest program and where it leaves what it has to say."""

    def __init__(self, path, results, **details):
        self.path = path
        self.results = Path(results)
        self.arguments = details.get('arguments', [])
        self.env = details.get('env', {})
        self.limit = details['limit']
        self.cwd = details.get('cwd')
        self.policy = details.get('policy')     # traces are judged by it

    def run(self, case, cases=()):
        """
        (outcome, reason).  To name a case also means all below it: those in
        @cases are left out.
        """
        name = case.strip('/').replace('/', '-')
        log = self.results / f'{name}.log'
        env = dict(self.env)
        traces = Path('/tmp') / f'traces-{name}'
        if self.policy:
            # On tmpfs: a line per page fault, written by a vCPU.
            shutil.rmtree(traces, ignore_errors=True)
            traces.mkdir()
            env.update(USERFAULT_POLICY=self.policy, USERFAULT_TRACES=str(traces))
        below = [word for other in cases if other.startswith(case + '/')
                 for word in ('-s', other)]
        done = process.run([self.path, *self.arguments, '--tap', '-k', '-p', case,
                            *below], self.limit, log, env=env, cwd=self.cwd)
        outcome, reason = judge(done, case)
        if self.policy:
            seen = Traces(traces)
            if outcome == 'pass':
                reason = seen.judge(self.policy, case.endswith('/suspend'))
                outcome = 'fail' if reason else 'pass'
            with open(log, 'a') as stream:
                print(f'statuses {seen.statuses}, served {seen.served}',
                      file=stream)
            if outcome == 'fail':
                shutil.copytree(traces, self.results / f'{name}.traces',
                                dirs_exist_ok=True)
            shutil.rmtree(traces)
        if outcome == 'fail':
            reason = f'{one_line(reason)[:300]} (log: {log.name})'
        return outcome, reason


    def run_together(self, cases):
        """
        {case: (outcome, reason)} of cases that need each other: one leaves
        behind what the next begins with.
        """
        log = self.results / f'{self.path.name}.log'
        chosen = [word for case in cases for word in ('-p', case)]
        done = process.run([self.path, *self.arguments, '--tap', '-k', *chosen],
                           self.limit, log, env=self.env, cwd=self.cwd)
        # What it ends with when it has run all, and some have failed
        failed = 1 if any(line.startswith('not ok') for line in done.lines) else 0
        return {case: judge(done, case, failed) for case in cases}


def short_name(case):
    """Without the architecture, which is always the same."""
    return '/' + case.split('/', 2)[2]
