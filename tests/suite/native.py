# SPDX-License-Identifier: GPL-2.0-or-later
"""The stages that run on the build machine itself: unit tests in C, once for
each sanitizer, and the Python parts' own tests."""

import re
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import process
from results import Listener, Result

HERE = Path(__file__).resolve().parent
REPO = HERE.parents[1]
UNIT_LIMIT, PYTHON_LIMIT = 1200, 900
TROUBLE = re.compile(r'ERROR|Bail out|SUMMARY: |runtime error|[Aa]ssert')
# Folders with unittest modules.
PYTHON_FOLDERS = ('tests/suite', 'tests/tooling', 'tests/guest', 'tests/demo')


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


STAGES = {'unit': unit, 'python': python}
