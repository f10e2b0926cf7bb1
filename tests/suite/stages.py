# SPDX-License-Identifier: GPL-2.0-or-later
"""The stages that need KVM userfault; each is a function of a Context.

They run where the driver runs: in the test host, or on a machine whose own
KVM has the feature.
"""

import json
import os
import re
import sys
from pathlib import Path

import process
import qtests
from harness.moving import measure_speed

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent
CONFORMANCE = TESTS / 'kernel' / 'conformance'
PARAMETER = Path('/sys/module/kvm/parameters/userfault_break')
UNKNOWN = 255                   # value with which KVM does not know the flag
# Seconds on an idle machine, times the measured speed.
PROGRAM_LIMIT, MATRIX_LIMIT, CASE_LIMIT, DEMO_LIMIT = 60, 900, 300, 300
ROW_LIMIT = 300
# The life that has been begun by then is ended.
SOAK_TIME, SOAK_LIFE_LIMIT = 600, 900


class Context:
    """What every stage needs."""

    def __init__(self, events, build, results, full):
        self.events = events
        self.build = Path(build)
        self.results = Path(results)
        self.full = full
        self.speed = measure_speed()
        # Set by the driver:
        self.only = None            # regular expression
        self.has_userfault = False  # of KVM here

    def qemu_build(self):
        return Path(os.environ.get('USERFAULT_QEMU_BUILD') or
                    self.build / 'qemu-build')

    def qemu(self):
        return Path(os.environ.get('USERFAULT_QEMU') or
                    self.qemu_build() / 'qemu-system-x86_64')

    def qtest(self, name):
        return self.qemu_build() / 'tests' / 'qtest' / name

    def folder(self, name):
        path = self.results / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def wanted(self, stage, test):
        return (self.events.wanted(stage, test)
                and (not self.only or self.only.search(f'{stage}: {test}')))

    def one(self, stage, test, function):
        """Run one test: @function returns (outcome, reason)."""
        if not self.wanted(stage, test):
            return
        self.events.begin(stage, test)
        try:
            self.events.end(*function())
        except OSError as error:
            self.events.end('fail', f'{type(error).__name__}: {error}')


def break_promise(number):
    """Have the kernel break a promise, 0 for none."""
    PARAMETER.write_text(f'{number}\n')


# --- the kernel -----------------------------------------------------------------

PROGRAM_LINE = re.compile(r'^(ok|not ok|skip) +(\S+) *(.*)')
PROGRAM_OUTCOMES = {'ok': 'pass', 'not ok': 'fail', 'skip': 'skip'}


def run_program(context, name):
    done = process.run([CONFORMANCE / 'run', context.build / 'conformance', name],
                       PROGRAM_LIMIT * context.speed,
                       context.folder('conformance') / f'{name}.log')
    for line in done.lines:
        found = PROGRAM_LINE.match(line)
        if found and found.group(2) == name:
            return PROGRAM_OUTCOMES[found.group(1)], found.group(3)
    return 'fail', f'{done.how_it_ended()}: {done.last()}'


def conformance(context):
    """Does the kernel keep its promises?"""
    for source in sorted(CONFORMANCE.glob('[0-9][0-9]-*.c')):
        context.one('conformance', source.stem,
                    lambda name=source.stem: run_program(context, name))


    if PARAMETER.exists():
        context.one('conformance', 'all skip on a kernel without it',
                    lambda: run_without(context))


def run_without(context):
    """Do all programs say so on a kernel that does not know the flag?"""
    break_promise(UNKNOWN)
    try:
        done = process.run([CONFORMANCE / 'run', context.build / 'conformance'],
                           PROGRAM_LIMIT * context.speed,
                           context.folder('conformance') / 'without.log')
    finally:
        break_promise(0)
    good = re.fullmatch(r'0 passed, 0 failed, [1-9]\d* skipped', done.last())
    return ('pass', '') if good else ('fail', done.last())


MATRIX_LINE = re.compile(r'^(promise \d+ broken|nothing broken): (.*)$')


def judge_matrix_line(what, text):
    """(outcome, reason) of a line of the matrix."""
    if what == 'nothing broken':
        good = re.fullmatch(r'[1-9]\d* passed, 0 failed, 0 skipped', text)
    else:
        good = text.endswith('- ok')
    return ('pass', '') if good else ('fail', text)


def matrix(context):
    """Does exactly the program of a promise notice that it is broken?"""
    if not context.wanted('matrix', 'promises'):
        return
    context.events.begin('matrix', 'promises')
    if not os.access(PARAMETER, os.W_OK):
        context.events.end('skip', 'this kernel cannot break its promises')
        return
    seen = []

    def on_line(line):
        found = MATRIX_LINE.match(line)
        if found:
            seen.append(found.group(1))
            context.events.end(*judge_matrix_line(*found.groups()),
                               test=found.group(1))
            context.events.begin('matrix', 'what comes after ' + found.group(1))

    done = process.run([CONFORMANCE / 'mutation-matrix',
                        context.build / 'conformance'],
                       MATRIX_LIMIT * context.speed,
                       context.folder('conformance') / 'matrix.log', on_line)
    break_promise(0)
    good = done.status == 0 and 'nothing broken' in seen
    context.events.end('pass' if good else 'fail',
                       '' if good else f'{done.how_it_ended()}: {done.last()}',
                       test='verdict')


# --- QEMU's own tests -----------------------------------------------------------

# From 10.1 on some of them use multifd for precopy.
POSTCOPY = re.compile(r'/migration/(multifd\+)?postcopy/')
# The rest only with --full.
PLAIN = re.compile(r'/migration/postcopy/(preempt/)?(recovery/)?plain$')


def qemu_tests(context, policy):
    stage = f'qemu-{policy}'
    program = qtests.Program(
        context.qtest('migration-test'), context.folder(stage), policy=policy,
        arguments=['--full'], limit=CASE_LIMIT * context.speed,
        env={'QTEST_QEMU_BINARY': str(HERE / 'wrapper' / 'qemu-system-x86_64'),
             'USERFAULT_QEMU': str(context.qemu())})
    cases = [case for case in qtests.list_cases(
        program.path, '/x86_64/', ['--full'], program.env,
        program.results / 'list.log') if POSTCOPY.search(case)]
    if not context.full:
        cases = [case for case in cases if PLAIN.search(case)]
    if not cases:
        context.one(stage, 'list', lambda: (
            'fail', "migration-test has no postcopy cases here (list.log)"))
    for case in cases:
        context.one(stage, qtests.short_name(case),
                    lambda case=case: program.run(case))
    if cases and context.full and not any('/tls' in case for case in cases):
        context.one(stage, '/migration/postcopy/*/tls*', lambda: (
            'skip', 'this QEMU is built without TLS (GnuTLS)'))


def qemu_on(context):
    """QEMU's own postcopy tests, vCPU faults through KVM userfault"""
    qemu_tests(context, 'on')


def qemu_off(context):
    """QEMU's own postcopy tests, all faults through userfaultfd"""
    qemu_tests(context, 'off')


# Programs of QEMU's tests that migrate; of the latter ones a few cases do.
MIGRATION_PROGRAMS = ('migration-test', 'virtio-net-failover', 'ahci-test',
                      'qos-test', 'dbus-vmstate-test', 'tpm-crb-swtpm-test',
                      'tpm-tis-swtpm-test')
# Their cases come in pairs: one saves the machine that the next loads.
NEED_EACH_OTHER = ('virtio-net-failover',)
MIGRATES = re.compile('migrat|/dbus-vmstate/')


def migration_program(context, name):
    """The cases of one program that migrate, with the defaults of userfault."""
    stage = 'migration-all'
    program = qtests.Program(
        context.qtest(name), context.folder(stage),
        arguments=['--full'] if name == 'migration-test' else [],
        limit=CASE_LIMIT * context.speed,
        env={'QTEST_QEMU_BINARY': str(context.qemu()),
             'QTEST_QEMU_IMG': str(context.qemu().parent / 'qemu-img'),
             # One case runs a script of QEMU's tree.
             'PYTHON': sys.executable}, cwd=context.build / 'qemu')
    if not program.path.exists():
        context.one(stage, name, lambda: (
            'skip', 'not built: this profile of QEMU lacks what it tests'))
        return
    cases = [case for case in qtests.list_cases(
        program.path, '/', program.arguments, program.env,
        program.results / f'{name}.list.log') if MIGRATES.search(case)]
    if not cases:
        context.one(stage, name, lambda: (
            'skip', f'none of its cases migrates here ({name}.list.log)'))
    outcomes = {}

    def outcome(case):
        if name not in NEED_EACH_OTHER:
            return program.run(case, cases)
        if not outcomes:
            outcomes.update(program.run_together(cases))
        return outcomes[case]
    for case in cases:
        context.one(stage, qtests.short_name(case), lambda case=case: outcome(case))


def migration_all(context):
    """All of QEMU's own tests that migrate, userfault=auto; only with --full"""
    for name in MIGRATION_PROGRAMS:
        migration_program(context, name)


# --- the project's own qtest ----------------------------------------------------

def userfault(context):
    """The project's own qtest cases; those that need a kernel without KVM
    userfault have the kernel break a promise."""
    program = qtests.Program(
        context.qtest('userfault-test'), context.folder('userfault'),
        limit=CASE_LIMIT * context.speed,
        env={'QTEST_QEMU_BINARY': str(context.qemu()),
             'USERFAULT_SPEED': f'{context.speed:.1f}',
             **({'USERFAULT_EXPECTED': '1'} if context.has_userfault else {})})
    cases = qtests.list_cases(program.path, '/x86_64/userfault/', [], program.env,
                              program.results / 'list.log')
    if not cases:
        context.one('userfault', 'list', lambda: (
            'fail', 'userfault-test has no cases here (list.log)'))
    for case in cases:
        context.one('userfault', qtests.short_name(case),
                    lambda case=case: program.run(case))
        if os.access(PARAMETER, os.W_OK):
            break_promise(0)        # a case that died could not


# --- migrations of a guest that verifies its memory -----------------------------

def read_demo(path):
    """The results of a demonstration, [] if there are none."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return []


def judge_run(result, policy):
    """What is wrong with one run of the demonstration, or ''."""
    counters = result['counters']
    taken = counters['exits'] and counters['pages-vcpu']
    if result['guest_errors'] or not result['guest_verified']:
        return (f'the guest saw {result["guest_errors"]} wrong pages, verified '
                f'{result["guest_verified"]}')
    if result['userfault'] != policy:
        return f'ran with userfault={result["userfault"]}'
    if policy == 'on' and not (counters['status'] == 'finished' and taken):
        return (f'status {counters["status"]}, {counters["exits"]} exits, '
                f'{counters["pages-vcpu"]} pages by them')
    if policy == 'off' and (counters['status'] != 'off' or taken):
        return f'status {counters["status"]}, {counters["exits"]} exits'
    if policy == 'off' and not counters['pages-userfaultfd']:
        return 'userfaultfd served no page'
    return ''


def judge_demo(done, path, order):
    results = read_demo(path)
    if done.status != 0:
        return 'fail', f'{done.how_it_ended()}: {done.last("FAILED")}'
    if len(results) != len(order):
        return 'fail', f'{len(results)} results instead of {len(order)}'
    for result, policy in zip(results, order):
        wrong = judge_run(result, policy)
        if wrong:
            return 'fail', f'{len(results)} runs, userfault={policy}: {wrong}'
    return 'pass', ''


def run_demo(context, name, repeat):
    folder = context.folder(name)
    path = folder / 'demo.json'
    if path.exists():
        path.unlink()
    # As on a machine whose own KVM has userfault: it must find that out.
    done = process.run(
        ['env', '-u', 'TESTHOST', TESTS / 'demo' / 'run', '--view', 'plain',
         '--slow-us', '200', '--repeat', repeat, '--results', folder],
        DEMO_LIMIT * repeat * context.speed, folder / 'drive.log')
    return judge_demo(done, path, ['on', 'off'] * repeat)


def demo(context):
    """One pair of migrations of a guest that verifies its memory"""
    context.one('demo', 'a migration with and one without',
                lambda: run_demo(context, 'demo', 1))


def demo20(context):
    """The pair twenty times; only with --full"""
    context.one('demo20', 'twenty pairs',
                lambda: run_demo(context, 'demo20', 20))


# --- the situations that a migration meets ---------------------------------------

ROW_BEGINS = re.compile(r'^row (.*)$')
ROW_ENDS = re.compile(r'^(ok|not ok|skip) (.*) \[([\d.]+) s\](?: -- (.*))?$')


def list_rows(context, stage, command):
    done = process.run([*command, '--list'], PROGRAM_LIMIT * context.speed,
                       context.folder(stage) / 'list.log')
    return [line.split(' (full)')[0] for line in done.lines if ': ' in line]


def run_rows(context, stage, command, rows):
    """Run @rows in one process; returns those that it did not come to."""
    left = list(rows)
    running = []

    def on_line(line):
        begins, ends = ROW_BEGINS.match(line), ROW_ENDS.match(line)
        if begins and begins.group(1) in left:
            left.remove(begins.group(1))
            running.append(begins.group(1))
            context.events.begin(stage, running[0])
        elif ends and running == [ends.group(2)]:
            running.clear()
            context.events.end(PROGRAM_OUTCOMES[ends.group(1)],
                               ends.group(4) or '')

    done = process.run([*command, *(f'^{re.escape(name)}$' for name in rows)],
                       ROW_LIMIT * len(rows) * context.speed,
                       context.folder(stage) / 'run.log', on_line)
    if running:
        context.events.end('fail', f'{done.how_it_ended()}: {done.last()}')
    return left


def all_rows(context, stage):
    """The rows that tests/STAGE/run lists (harness.rows)."""
    command = [TESTS / stage / 'run', '--keep', context.folder(stage)]
    command += ['--full'] if context.full else []
    rows = [name for name in list_rows(context, stage, command)
            if context.wanted(stage, name)]
    while rows:
        left = run_rows(context, stage, command, rows)
        if left == rows:
            context.one(stage, 'run', lambda: (
                'fail', f'{len(left)} rows were not begun (run.log)'))
            return
        rows = left


def situations(context):
    """The situations that a migration meets"""
    all_rows(context, 'situations')


def virsh(context):
    """Migrations by virsh between two libvirt daemons"""
    all_rows(context, 'virsh')


# --- migrations with faults at random ---------------------------------------------

def run_soak(context):
    done = process.run(
        [TESTS / 'situations' / 'soak', '--seconds', SOAK_TIME,
         '--keep', context.folder('soak')],
        SOAK_TIME + SOAK_LIFE_LIMIT * context.speed,
        context.folder('soak') / 'run.log')
    if done.status == 0 and done.last() == 'soak: passed':
        return 'pass', ''
    return 'fail', f'{done.how_it_ended()}: {done.last("FAILED", "seed")}'


def soak(context):
    """Ten minutes of migrations with faults at random; only with --full"""
    context.one('soak', f'{SOAK_TIME} s', lambda: run_soak(context))


# --- kernels and a QEMU that look for errors of their own -------------------------

# Where it says that it looks, and what it says
LOOKS = {
    'lockdep': ('/proc/lockdep_stats', r'debug_locks: +1$'),
    'kasan': ('/dev/kmsg', r'KernelAddressSanitizer initialized'),
    'kcsan': ('/sys/kernel/debug/kcsan', r'setup_watchpoints: [1-9]\d{3,}$'),
}
# Of the first coroutine in each process.  QEMU tells the sanitizer of every switch.
SANITIZER_NOTICE = re.compile(
    r"^==\d+==WARNING: ASan doesn't fully support makecontext/swapcontext .*$",
    re.MULTILINE)
# What sanitizers report in a QEMU; the first line tells.
SANITIZER = re.compile(r'ERROR: \w+Sanitizer|runtime error: |Sanitizer:.*DEADLY')


def read_now(path):
    """What @path has to say; /dev/kmsg has no end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    found = b''
    try:
        while True:
            try:
                data = os.read(descriptor, 65536)
            except BrokenPipeError:     # a record has been overwritten
                continue
            if not data:
                break
            found += data
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)
    return found.decode(errors='replace')


def has_looked(variant):
    """(outcome, reason): has this kernel looked for errors up to now?"""
    path, says = LOOKS[variant]
    if re.search(says, read_now(path), re.MULTILINE):
        return 'pass', ''
    return 'fail', f'{path} does not say "{says}"'


def judge_reports(folder):
    """(outcome, reason): did a sanitizer write anything below @folder?"""
    for path in sorted(Path(folder).glob('*')):
        text = SANITIZER_NOTICE.sub('', path.read_text(errors='replace')).strip()
        if text:
            found = [line for line in text.splitlines() if SANITIZER.search(line)]
            return 'fail', f'{path.name}: {(found or text.splitlines())[0].strip()}'
    return 'pass', ''


def debug(context):
    """After the others: have kernel or QEMU looked, and found nothing?"""
    variant = os.environ.get('USERFAULT_DEBUG')
    if variant:
        context.one('debug', 'it has looked', lambda: has_looked(variant))
    reports = os.environ.get('USERFAULT_REPORTS')
    if reports:
        context.one('debug', 'no sanitizer reported anything',
                    lambda: judge_reports(reports))


STAGES = {'conformance': conformance, 'matrix': matrix, 'userfault': userfault,
          'qemu-on': qemu_on, 'qemu-off': qemu_off, 'situations': situations,
          'virsh': virsh, 'demo': demo}
FULL_STAGES = dict(STAGES, demo20=demo20, soak=soak,
                   **{'migration-all': migration_all})
# What the driver knows; the last one belongs to stages of native.py.
DRIVEN = dict(FULL_STAGES, debug=debug)
