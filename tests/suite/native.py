# SPDX-License-Identifier: GPL-2.0-or-later
"""The stages that run on the build machine itself: unit tests in C, once for
each sanitizer, models, the Python parts' own tests, documents and packages."""

import re
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import process
from results import Listener, Result
from stages import PROGRAM_OUTCOMES, ROW_ENDS

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
UNIT_LIMIT, PYTHON_LIMIT, PACKAGES_LIMIT = 1200, 900, 7200
TROUBLE = re.compile(r'ERROR|Bail out|SUMMARY: |runtime error|[Aa]ssert')
# Folders with unittest modules.
PYTHON_FOLDERS = ('tests/suite', 'tests/tooling', 'tests/guest', 'tests/demo',
                  'tests/bench', 'tests/bench/native',
                  'tests/bench/count')


def read_junit(path, stage):
    """Results in a report that meson wrote; the folder names the variant."""
    variant = path.parents[1].name
    for suite in ElementTree.parse(path).getroot().iter('testsuite'):
        for case in suite.iter('testcase'):
            test = f'{variant}: {suite.get("name")}: {case.get("name")}'
            outcome, reason = 'pass', ''
            for kind, found in (('failure', 'fail'), ('error', 'fail'),
                                ('skipped', 'skip')):
                element = case.find(kind)
                if element is not None:
                    outcome = found
                    reason = (element.get('message') or element.text
                              or said_about(suite, case.get('name')) or kind)
            yield Result(stage, test, outcome, reason,
                         float(case.get('time') or 0))


def said_about(suite, name):
    """The reason in what @suite wrote for a case whose element gives none."""
    lines = '\n'.join(suite.findtext(kind) or ''
                      for kind in ('system-out', 'system-err')).splitlines()
    for line in lines:
        if name in line and '# SKIP' in line:
            return line.partition('# SKIP')[2].strip()
    trouble = [line for line in lines if TROUBLE.search(line)]
    return (trouble or lines or [''])[-1]


def unit(report, build, results):
    """What `make check-unit` runs"""
    began = time.time()
    log = results / 'unit.log'
    done = process.run(['make', '-C', REPO, 'check-unit'], UNIT_LIMIT, log,
                       report.progress,
                       env={'BUILD': str(build), 'MAKEFLAGS': '', 'MAKELEVEL': ''})
    found = [path for path in sorted(build.glob('**/meson-logs/testlog.junit.xml'))
             if path.stat().st_mtime >= began - 1]
    before = len(report.results)
    for path in found:
        for result in read_junit(path, 'unit'):
            report.add(result)
    new = report.results[before:]
    if not new:
        report.add(Result('unit', 'make check-unit', 'fail',
                          f'no test ran, {done.how_it_ended()}: '
                          f'{done.last("error", "ERROR")} (log: {log})'))
    elif done.status != 0 and all(r.outcome != 'fail' for r in new):
        report.add(Result('unit', 'make check-unit', 'fail',
                          f'{done.how_it_ended()}: {done.last("error", "ERROR")} '
                          f'(log: {log})'))


def python(report, build, results):
    """The tests of tools, launcher, guest, demonstration and this runner"""
    for folder in PYTHON_FOLDERS:
        listener = Listener(report)
        log = results / f'python-{Path(folder).name}.log'
        done = process.run([sys.executable, HERE / 'pyunit', folder], PYTHON_LIMIT,
                           log, on_line=listener.feed, cwd=REPO,
                           env={'BUILD': str(build)})
        if listener.current:
            report.add(Result(*listener.current, 'fail', done.how_it_ended()))
        elif done.status != 0 or not listener.done:
            report.add(Result('python', folder, 'fail',
                              f'{len(listener.done)} tests, '
                              f'{done.how_it_ended()}: {done.last("Error")}'))


def docs(report, build, results):
    """The documents can be built, and their references lead somewhere"""
    log = results / 'docs.log'
    done = process.run([sys.executable, '-B', REPO / 'scripts/userfault/docs.py'],
                       PYTHON_LIMIT, log, cwd=REPO, env={'BUILD': str(build)})
    made = [Path(line) for line in done.lines if line.startswith('/')]
    good = (done.status == 0 and len(made) == 2
            and all(path.is_file() for path in made))
    report.add(Result('docs', 'HTML and man page', 'pass' if good else 'fail',
                      '' if good else f'{done.how_it_ended()}: '
                      f'{done.last("error")} (log: {log})'))


def prepare(report, build, log, *commands):
    """What is wrong with one of @commands that a stage needs, or ''"""
    for command in commands:
        done = process.run(command, PACKAGES_LIMIT, log, report.progress,
                           env={'BUILD': str(build), 'MAKEFLAGS': '', 'MAKELEVEL': ''})
        if done.status != 0:
            return (f'{command[-1]}: {done.how_it_ended()}: '
                    f'{done.last("error")} (log: {log})')
    return ''


def rows_of(stage, report, build, results, commands, options=()):
    """The rows of tests/STAGE/run (harness.rows), once @commands have run"""
    log = results / f'{stage}.log'
    before = len(report.results)

    def on_line(line):
        ends = ROW_ENDS.match(line)
        if ends:
            outcome = PROGRAM_OUTCOMES[ends.group(1)]
            # What a row that passed has to say is not the reason of anything.
            reason = '' if outcome == 'pass' else ends.group(4) or ''
            report.add(Result(stage, ends.group(2), outcome, reason,
                              float(ends.group(3))))

    wrong = prepare(report, build, log, *commands)
    if not wrong:
        done = process.run([REPO / 'tests' / stage / 'run', '--keep',
                            results / stage, *options],
                           PACKAGES_LIMIT, log, on_line, env={'BUILD': str(build)})
        new = report.results[before:]
        if not new or (done.status != 0
                       and all(it.outcome != 'fail' for it in new)):
            wrong = f'{done.how_it_ended()}: {done.last()} (log: {log})'
    if wrong:
        report.add(Result(stage, 'run', 'fail', wrong))


DEPS = REPO / 'scripts/userfault/deps.py'


def analysis(report, build, results):
    """What analyzers see in the project's own C; only with --full"""
    rows_of('analysis', report, build, results, [[DEPS, '--install', 'analysis']])


def analysis_linux(report, build, results):
    """The same for Linux's part, which must have been compiled here; only with
    --full"""
    rows_of('analysis', report, build, results, [[DEPS, '--install', 'analysis']],
            ['sparse'])


def packages(report, build, results):
    """The Debian packages as a user has them; only with --full"""
    rows_of('packages', report, build, results, [
        [DEPS, '--install', 'packages'], ['make', '-C', REPO, 'deb'],
        ['make', '-C', REPO, 'kernel-deb', 'KERNEL_CONFIG=testhost']])


def fuzz(report, build, results):
    """What the wire can bring, to the destination and to the source; only with
    --full"""
    rows_of('fuzz', report, build, results, [[DEPS, '--install', 'fuzz']])


def model(report, build, results):
    """The concurrency core as models: every order of steps, and faults in them"""
    rows_of('model', report, build, results, [])


STAGES = {'unit': unit, 'model': model, 'python': python, 'docs': docs}
FULL_STAGES = dict(STAGES, analysis=analysis, fuzz=fuzz, packages=packages,
                   **{'analysis-linux': analysis_linux})
