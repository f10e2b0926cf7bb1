# SPDX-License-Identifier: GPL-2.0-or-later
"""The stages that run on the build machine itself: unit tests in C, once for
each sanitizer, models, the Python parts' own tests, documents and packages."""

import os
import re
import shutil
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import process
import races
from host import Host
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


def series(report, build, results):
    """The patches for QEMU and Linux are clean, apply, and give the same trees"""
    for part in ('qemu', 'linux'):
        log = results / f'series-{part}.log'
        done = process.run([sys.executable, '-B',
                            REPO / 'scripts/userfault/series.py', part],
                           PYTHON_LIMIT, log, cwd=REPO, env={'BUILD': str(build)})
        good = done.status == 0 and 'the identical tree' in done.last(f'{part}: ')
        report.add(Result('series', part, 'pass' if good else 'fail',
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
BUILD = REPO / 'scripts/userfault/build.py'


def analysis(report, build, results):
    """What analyzers see in the project's own C"""
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


# --- kernels and a QEMU that look for errors of their own ---------------------------

# Besides all of the conformance programs
DEBUG_ROWS = ('channels: preempt, tcp', 'slots: PAM registers',
              'slots: dirty tracking of a display on and off',
              'others: a disk and a vCPU at the same page')
# KCSAN holds threads up: the guest did not do 128 rounds of it in 275 s.
TOO_SLOW = {'kcsan': ('others: a disk and a vCPU at the same page',)}
# What the QEMU with sanitizers does: vCPUs, devices, slots, both channels and
# their recovery.
SANITIZED_ROWS = ('channels: preempt, tcp', 'channels: TLS, preempt',
                  'slots: PAM registers', 'slots: memory plugged in',
                  'others: a disk and a vCPU at the same page',
                  'recovery: migrate-pause, preempt, three times',
                  'recovery: cut again with both channels there')
SUPPRESSIONS = HERE / 'ubsan.supp'
# What the QEMU with the thread sanitizer does: it switches over at once, since before
# that a source takes many minutes for each pass in an emulated test host.
TSAN_ROWS = ('channels: switchover at once',)
# Times that such kernels, and such a QEMU, are slower than others, about
SLOWNESS = 4


class Within:
    """A report in which all tests belong to one @stage."""

    def __init__(self, report, stage):
        self.report, self.stage = report, stage
        self.say, self.progress = report.say, report.progress

    def add(self, result):
        self.report.add(Result(self.stage, f'{result.stage}: {result.test}',
                               result.outcome, result.reason, result.seconds))


def only(names, rows):
    """Of the stages @names all, and of the situations @rows"""
    return (f'^({"|".join(names)}): |'
            f'^situations: ({"|".join(map(re.escape, rows))})$')


def inner(stage, report, build, folder, commands, tests, environment, *options):
    """
    Stages of the test host in one of its own, once @commands have run.
    @tests: (names of stages, rows of situations).  Returns whether it came to that.
    """
    if 'TESTHOST' in os.environ:
        report.add(Result(stage, 'run', 'skip', 'this is the test host already'))
        return False
    folder.mkdir(parents=True, exist_ok=True)
    wrong = prepare(report, build, folder / 'build.log', *commands,
                    [REPO / 'tests/guest/build', build / 'guest'])
    if wrong:
        report.add(Result(stage, 'build', 'fail', wrong))
        return False
    names, rows = tests
    for name, value in environment.items():
        options += '--env', f'{name}={value}'
    args = SimpleNamespace(full=False, here=False,
                           only=only([*names, 'debug'], rows))
    Host(Within(report, stage), args, build, folder, *options).run(
        [*names, 'situations', 'debug'])
    return True


def debug_kernel(variant, report, build, results):
    """The test host with the kernel @variant, which may report nothing."""
    rows = [row for row in DEBUG_ROWS if row not in TOO_SLOW.get(variant, ())]
    inner(variant, report, build, results / variant,
          [[BUILD, 'kernel', variant],
           ['make', '-C', REPO / 'tests/kernel/conformance',
            f'OUT={build / "conformance"}']],
          (['conformance'], rows),
          {'USERFAULT_DEBUG': variant, 'SLOWNESS': SLOWNESS},
          '--variant', variant)


def lockdep(report, build, results):
    """The test host's kernel proves its locks; only with --full"""
    debug_kernel('lockdep', report, build, results)


def kasan(report, build, results):
    """The test host's kernel checks its accesses to memory; only with --full"""
    debug_kernel('kasan', report, build, results)


def kcsan(report, build, results):
    """The test host's kernel looks for data races in KVM; only with --full"""
    debug_kernel('kcsan', report, build, results)


def empty(folder):
    """@folder, with nothing in it"""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def sanitized(report, build, results):
    """A QEMU that checks its memory and its arithmetic; only with --full"""
    qemu = build / 'qemu-sanitized'
    folder = results / 'sanitized'
    reports = empty(folder / 'reports')
    log = f'log_path={reports}/report:print_stacktrace=1'
    inner('sanitized', report, build, folder,
          [[DEPS, '--install', 'fuzz'],
           [BUILD, 'sanitized', 'qemu-system-x86_64',
            'tests/qtest/userfault-test', 'tests/qtest/migration-test']],
          (['userfault', 'qemu-on', 'demo'], SANITIZED_ROWS),
          {'USERFAULT_QEMU_BUILD': qemu, 'USERFAULT_REPORTS': reports,
           'SLOWNESS': SLOWNESS,
           'USERFAULT_QEMU': qemu / 'qemu-system-x86_64',
           # QEMU ends without giving back what it has.
           'ASAN_OPTIONS': f'detect_leaks=0:abort_on_error=1:{log}',
           'UBSAN_OPTIONS': f'suppressions={SUPPRESSIONS}:{log}'})


def tsan(report, build, results):
    """A QEMU that looks for data races in itself; only with --full"""
    objects = build / 'qemu-tsan'
    qemu = objects / 'qemu-system-x86_64'
    folder = results / 'tsan'
    reports = empty(folder / 'reports')
    # QEMU goes on, and ends as it would without: its own races are many.
    options = (f'log_path={reports}/report:halt_on_error=0:exitcode=0:symbolize=0:'
               'history_size=7:report_thread_leaks=0')
    if inner('tsan', report, build, folder,
             [[DEPS, '--install', 'fuzz'], [BUILD, 'tsan', qemu.name]],
             ((), TSAN_ROWS),
             {'USERFAULT_QEMU_BUILD': objects, 'USERFAULT_QEMU': qemu,
              'SLOWNESS': SLOWNESS, 'TSAN_OPTIONS': options}):
        judge_races(report, folder, qemu, races.Ours.of_tree(build / 'qemu'))


def judge_races(report, folder, qemu, ours):
    """Two results: whether the thread sanitizer has looked, and what it saw"""
    verdict = races.Verdict(folder / 'reports', qemu, ours)
    verdict.write(folder / 'races.txt')
    report.say(f'tsan: {verdict.left_out()} reports of what QEMU itself does left out '
               f'({folder / "races.txt"})')
    for test, wrong in (('it has looked', races.has_looked(verdict, qemu.parent, ours)),
                        ("no race in this project's code", verdict.reason())):
        report.add(Result('tsan', test, 'fail' if wrong else 'pass', wrong))


def model(report, build, results):
    """The concurrency core as models: every order of steps, and faults in them"""
    rows_of('model', report, build, results, [])


STAGES = {'unit': unit, 'model': model, 'python': python, 'docs': docs,
          'series': series, 'analysis': analysis}
FULL_STAGES = dict(STAGES, fuzz=fuzz, packages=packages,
                   lockdep=lockdep, kasan=kasan, kcsan=kcsan, sanitized=sanitized,
                   tsan=tsan, **{'analysis-linux': analysis_linux})
