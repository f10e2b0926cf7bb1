# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of tests that stand in the test host's time: rows.

A row is a function of a subject, which the list's owner makes for each row and
which has a method stop().  It passes by returning, fails by raising
HarnessError, and is left out by raising Skip.  What it is about may depend on
who is faster; if that did not come about it raises Missed, and is tried again
from the beginning, up to TRIES times in all:

    rows = Rows()

    @rows.row('channels', 'without preempt')
    def without_preempt(subject):
        ...

What main() prints is for people and for tests/suite: "row TITLE" when a row
begins, and "ok", "not ok" or "skip" with title, seconds and reason when it ends.
"""

import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from . import HarnessError, Missed
from .moving import measure_speed

TRIES = 3
KEPT_BYTES = 8 << 20            # larger files are not logs


class Skip(Exception):
    """The row cannot be tried here; the message says why."""


class TooLong(HarnessError):
    """The row's time is over."""


def check(condition, message):
    """HarnessError(@message) unless @condition."""
    if not condition:
        raise HarnessError(message)


def reached(condition, message):
    """
    Missed(@message) unless @condition: there was enough of what the row is
    about.  How much there is of it depends on who is faster.
    """
    if not condition:
        raise Missed(message)


class Row:
    def __init__(self, group, name, function, full, limit):
        self.title = f'{group}: {name}'
        self.function = function
        self.full = full            # only with --full
        self.limit = limit          # seconds on an idle machine

    def run(self, subject, patience):
        """(outcome, reason); an outcome may be "missed" """
        limit_time(self.limit * patience)
        try:
            self.function(subject)
        except Skip as skip:
            return 'skip', str(skip)
        except Missed as missed:
            return 'missed', str(missed)
        except (HarnessError, OSError) as error:
            return 'not ok', str(error)
        except Exception as error:          # a bug of the row fails the row
            traceback.print_exc()
            return 'not ok', f'{type(error).__name__}: {error}'
        finally:
            limit_time(0)
        return 'ok', ''


class Rows(list):
    def row(self, group, name, full=False, limit=180):
        """Decorator: make a function a row."""
        def register(function):
            self.append(Row(group, name, function, full, limit))
            return function
        return register

    def chosen(self, args):
        if args.rows:
            # Who names a row wants it, whatever it takes.
            return [it for it in self if any(re.search(word, it.title)
                                             for word in args.rows)]
        return [it for it in self if args.full or not it.full]


def limit_time(seconds):
    """Raise TooLong in the main thread after @seconds; 0: no more."""
    def over(*_):
        raise TooLong(f'did not end in {seconds:.0f} s')
    signal.signal(signal.SIGALRM, over)
    signal.alarm(int(seconds))


def parser(description):
    """The options that all lists have."""
    it = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = it.add_argument
    add('rows', nargs='*', metavar='REGEX',
        help='rows whose "group: name" matches one of these (default: all)')
    add('--full', action='store_true', help='also rows that take long')
    add('--list', action='store_true', help='name the rows and end')
    add('--keep', type=Path, metavar='FOLDER', default=os.environ.get('RESULTS'),
        help='where the logs of rows that fail go')
    return it


def keep_logs(folder, keep):
    """Where the logs are then; sockets and images are left out."""
    if not keep:
        return folder
    target = Path(keep) / folder.name
    shutil.rmtree(target, ignore_errors=True)

    def useless(here, names):
        paths = [Path(here) / name for name in names]
        return [path.name for path in paths
                if not path.is_dir() and not (
                    path.is_file() and path.stat().st_size < KEPT_BYTES)]
    shutil.copytree(folder, target, ignore=useless)
    return target


def try_row(it, make, args, top, patience):
    """(outcome, reason) of one try of a row in a folder of its own."""
    # The path of a socket is short.
    folder = top / re.sub(r'\W+', '-', it.title)[:40]
    subject = make(folder, args, patience)
    try:
        outcome, reason = it.run(subject, patience)
    finally:
        subject.stop()
    if outcome == 'not ok' or (outcome == 'missed' and args.keep):
        reason += f' (logs: {keep_logs(folder, args.keep)})'
    if outcome != 'not ok' or args.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome, reason


def run_row(it, make, args, top, patience):
    """(outcome, reason) of a row, after as many tries as it takes."""
    for number in range(1, TRIES + 1):
        outcome, reason = try_row(it, make, args, top, patience)
        if outcome != 'missed':
            break
        print(f'missed {it.title}, try {number} of {TRIES}: {reason}', flush=True)
    else:
        outcome = 'not ok'
    return outcome, reason


def main(rows, make, args):
    """
    Run what @args ask for.  @make(folder, args, patience): the subject of a row.
    Returns the exit code.
    """
    wanted = rows.chosen(args)
    if args.list:
        for it in wanted:
            print(it.title + (' (full)' if it.full else ''))
        return 0
    patience = float(os.environ.get('PATIENCE') or measure_speed())
    top = Path(tempfile.mkdtemp(prefix='rows.'))
    top.chmod(0o755)                # for processes of other users
    failed = 0
    for it in wanted:
        print(f'row {it.title}', flush=True)
        start = time.monotonic()
        outcome, reason = run_row(it, make, args, top, patience)
        failed += outcome == 'not ok'
        print(f'{outcome} {it.title} [{time.monotonic() - start:.1f} s]'
              + (f' -- {" ".join(reason.split())}' if reason else ''), flush=True)
    if not failed or args.keep:
        shutil.rmtree(top, ignore_errors=True)
    if not wanted:
        print('no row matches', file=sys.stderr)
    return 1 if failed or not wanted else 0
