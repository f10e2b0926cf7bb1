# SPDX-License-Identifier: GPL-2.0-or-later
"""What a test came to, told to people and to the other side of a pipe.

An outcome is one of
    pass      the test did what it says
    fail      it did not; the reason is one line
    skip      it could not be done here; the reason is one line
    hang      the test host stopped running while the test ran.  Counted as
              failed, but named differently: the test host may be at fault.

The driver in the test host prints events, one JSON object per line:
    {"event": "begin", "stage": ..., "test": ...}
    {"event": "end", "stage": ..., "test": ..., "outcome": ..., "reason": ...,
     "seconds": ...}
    {"event": "note", "text": ...}
"""

import json
import re
import time
from dataclasses import asdict, dataclass

OUTCOMES = ('pass', 'fail', 'skip', 'hang')
WORDS = {'pass': 'ok     ', 'fail': 'FAILED ', 'skip': 'skipped',
         'hang': 'HUNG   '}
LONGEST_REASON = 400
# Lines of build steps and of meson that tell how far they are
PROGRESS = re.compile(r'(QEMU|kernel)\b.* \d+ s|\[?\d+/\d+\]? |error: ')
PROGRESS_SECONDS = 20           # at most one such line in as many


def one_line(text):
    """@text without line ends and at most as long as a reason may be."""
    line = ' '.join(str(text).split())
    return (line if len(line) <= LONGEST_REASON
            else line[:LONGEST_REASON - 3] + '...')


@dataclass
class Result:
    stage: str
    test: str
    outcome: str
    reason: str = ''
    seconds: float = 0.0

    def __post_init__(self):
        if self.outcome not in OUTCOMES:
            raise ValueError(f'no such outcome: {self.outcome}')
        self.reason = one_line(self.reason)
        if self.outcome in ('fail', 'skip') and not self.reason:
            self.reason = 'no reason given'

    def line(self):
        text = f'{WORDS[self.outcome]} {self.stage}: {self.test}'
        if self.reason:
            text += f': {self.reason}'
        return text


class Report:
    """Counts results and prints a line for each as it comes."""

    def __init__(self, stream):
        self.stream = stream
        self.results = []
        self.start = time.monotonic()
        self.progressed = self.start

    def progress(self, line):
        """Pass on a line of another program if it tells of progress."""
        now = time.monotonic()
        if PROGRESS.match(line.strip()) and \
           now - self.progressed > PROGRESS_SECONDS:
            self.progressed = now
            self.say('... ' + one_line(line))

    def say(self, text):
        minutes, seconds = divmod(int(time.monotonic() - self.start), 60)
        print(f'[{minutes:3d}:{seconds:02d}] {text}', file=self.stream,
              flush=True)

    def add(self, result):
        self.results.append(result)
        took = f' ({result.seconds:.0f} s)' if result.seconds >= 1 else ''
        self.say(result.line() + took)

    def count(self, *outcomes):
        return sum(result.outcome in outcomes for result in self.results)

    def summary(self):
        return (f'{self.count("pass")} passed, {self.count("fail", "hang")} '
                f'failed, {self.count("skip")} skipped')

    def finish(self):
        """Repeat what was not well, print the summary; returns the exit code."""
        for outcome in ('skip', 'fail', 'hang'):
            for result in self.results:
                if result.outcome == outcome:
                    print(result.line(), file=self.stream)
        if not self.count('pass', 'fail', 'hang'):
            print('FAILED  nothing ran', file=self.stream)
        print(self.summary(), file=self.stream, flush=True)
        return 0 if self.count('pass') and not self.count('fail', 'hang') else 1

    def save(self, path):
        with open(path, 'w', encoding='utf-8') as stream:
            json.dump([asdict(result) for result in self.results], stream,
                      indent=1)
            stream.write('\n')


class Events:
    """The driver's end: prints events."""

    def __init__(self, stream, skip=()):
        self.stream = stream
        self.skip = set(skip)       # (stage, test) that are not to be run
        self.current = None
        self.begun = 0.0

    def _emit(self, **event):
        print(json.dumps(event), file=self.stream, flush=True)

    def note(self, text):
        self._emit(event='note', text=one_line(text))

    def wanted(self, stage, test):
        return (stage, test) not in self.skip

    def begin(self, stage, test):
        self.current = (stage, test)
        self.begun = time.monotonic()
        self._emit(event='begin', stage=stage, test=test)

    def end(self, outcome, reason='', test=None):
        """End what begin() began; it may have turned out to be @test."""
        stage, known = self.current
        result = Result(stage, test or known, outcome, reason,
                        time.monotonic() - self.begun)
        self.current = None
        self._emit(event='end', **asdict(result))


class Listener:
    """The runner's end: feed() it lines, it fills a Report."""

    def __init__(self, report):
        self.report = report
        self.current = None         # (stage, test) under way
        self.since = time.monotonic()
        self.done = []              # [stage, test] of all that ended

    def feed(self, line):
        """Returns False if the line is no event."""
        try:
            event = json.loads(line)
            kind = event.pop('event')
        except (ValueError, KeyError, AttributeError, TypeError):
            return False
        self.since = time.monotonic()
        if kind == 'begin':
            self.current = (event['stage'], event['test'])
        elif kind == 'end':
            result = Result(**event)
            self.done.append([result.stage, result.test])
            self.current = None
            self.report.add(result)
        elif kind == 'note':
            self.report.say(event['text'])
        else:
            return False
        return True
