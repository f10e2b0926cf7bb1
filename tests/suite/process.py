# SPDX-License-Identifier: GPL-2.0-or-later
"""Run one program of a test: with a time limit, a log, and line by line.

The program gets a process group of its own, which ends with the limit.  Main
thread only.
"""

import os
import selectors
import signal
import subprocess
import time
from pathlib import Path

TICK = 1.0


class Run:
    """What came of it."""

    def __init__(self, status, lines):
        self.status = status        # exit code, -signal, None: time limit
        self.lines = lines          # of stdout and stderr together

    def last(self, *marks):
        """The last line with one of @marks, else the last line at all."""
        lines = [line.strip() for line in self.lines if line.strip()]
        for line in reversed(lines):
            if any(mark in line for mark in marks):
                return line
        return lines[-1] if lines else 'it said nothing'

    def how_it_ended(self):
        if self.status is None:
            return 'it did not end within the time limit'
        if self.status < 0:
            return f'it died of signal {signal.Signals(-self.status).name}'
        return f'it ended with exit code {self.status}'


def descendants(pid):
    """@pid and what it started, as far as /proc tells."""
    children = {}
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / 'stat').read_text().rpartition(')')[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def describe_threads(pid):
    """A line per thread of @pid's family: where it waits in the kernel."""
    lines = []
    for process in descendants(pid):
        for task in sorted(Path(f'/proc/{process}/task').glob('*')):
            try:
                name = (task / 'comm').read_text().strip()
                where = (task / 'wchan').read_text().strip()
                state = (task / 'stat').read_text().rpartition(')')[2].split()[0]
            except OSError:
                continue
            lines.append(f'process {process} thread {task.name} {name}: '
                         f'{state} {where}')
    return lines


def _kill_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def run(argv, limit, log, on_line=None, env=None, cwd=None):
    """
    Run @argv for at most @limit seconds; its output goes to the file @log and
    line by line to @on_line(text).  Returns a Run.
    """
    environment = dict(os.environ, **(env or {}))
    lines, rest = [], b''
    end = time.monotonic() + limit
    with open(log, 'ab') as stream:
        process = subprocess.Popen(
            [str(word) for word in argv], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
            cwd=cwd, start_new_session=True)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                while time.monotonic() < end:
                    if not selector.select(TICK):
                        # Who inherited the pipe may outlive the program.
                        if process.poll() is not None:
                            break
                        continue
                    data = os.read(process.stdout.fileno(), 65536)
                    if not data:
                        break
                    stream.write(data)
                    stream.flush()
                    *whole, rest = (rest + data).split(b'\n')
                    for line in whole:
                        lines.append(line.decode(errors='replace'))
                        if on_line:
                            on_line(lines[-1])
            status = _wait(process, end)
            if status is None:
                about = describe_threads(process.pid)
                stream.write(('\nno end within %.0f s\n%s\n' % (
                    limit, '\n'.join(about))).encode())
        finally:
            _kill_group(process)
            process.stdout.close()
    if rest:
        lines.append(rest.decode(errors='replace'))
        if on_line:
            on_line(lines[-1])
    return Run(status, lines)


def _wait(process, end):
    """The exit code, or None if there is none until @end."""
    try:
        return process.wait(max(end - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        return None
