# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the runner call red what is red, and count what ran?"""

import importlib.machinery
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / 'guest')]

import host                                                 # noqa: E402
import native                                               # noqa: E402
import process                                              # noqa: E402
import qtests                                               # noqa: E402
import stages                                               # noqa: E402
from results import Events, Listener, Report, Result        # noqa: E402

_loader = importlib.machinery.SourceFileLoader('suite_run', str(HERE / 'run'))
runner = importlib.util.module_from_spec(
    importlib.util.spec_from_loader('suite_run', _loader))
_loader.exec_module(runner)

CASE = '/x86_64/migration/postcopy/plain'


class Summary(unittest.TestCase):
    def setUp(self):
        self.report = Report(io.StringIO())

    def finish(self, *outcomes):
        for number, outcome in enumerate(outcomes):
            self.report.add(Result('stage', f'test {number}', outcome, 'why'))
        code = self.report.finish()
        return code, self.report.stream.getvalue().splitlines()

    def test_all_passed_is_green(self):
        code, lines = self.finish('pass', 'pass')
        self.assertEqual((code, lines[-1]), (0, '2 passed, 0 failed, 0 skipped'))

    def test_one_failure_is_red_and_has_its_line(self):
        code, lines = self.finish('pass', 'fail')
        self.assertEqual((code, lines[-1]), (1, '1 passed, 1 failed, 0 skipped'))
        self.assertIn('FAILED  stage: test 1: why', lines)

    def test_hang_is_red_under_another_name(self):
        code, lines = self.finish('pass', 'hang')
        self.assertEqual((code, lines[-1]), (1, '1 passed, 1 failed, 0 skipped'))
        self.assertIn('HUNG    stage: test 1: why', lines)

    def test_skip_has_its_line(self):
        code, lines = self.finish('pass', 'skip')
        self.assertEqual((code, lines[-1]), (0, '1 passed, 0 failed, 1 skipped'))
        self.assertIn('skipped stage: test 1: why', lines)

    def test_nothing_ran_is_red(self):
        self.assertEqual(self.finish()[0], 1)
        self.assertEqual(self.finish('skip')[0], 1)

    def test_reason_stays_on_one_line(self):
        self.assertEqual(Result('s', 't', 'fail', 'a\nb').reason, 'a b')
        self.assertEqual(Result('s', 't', 'fail').reason, 'no reason given')


class Protocol(unittest.TestCase):
    def test_events_arrive_as_results(self):
        pipe = io.StringIO()
        events = Events(pipe)
        events.begin('stage', 'test')
        events.end('fail', 'two\nlines')
        events.begin('stage', 'next')
        report = Report(io.StringIO())
        listener = Listener(report)
        for line in pipe.getvalue().splitlines():
            self.assertTrue(listener.feed(line))
        self.assertEqual([(r.test, r.outcome, r.reason) for r in report.results],
                         [('test', 'fail', 'two lines')])
        self.assertEqual(listener.done, [['stage', 'test']])
        self.assertEqual(listener.current, ('stage', 'next'))

    def test_other_output_is_no_event(self):
        listener = Listener(Report(io.StringIO()))
        for line in ('', 'text', '3', '{}', '{"event": "dance"}', '[1]'):
            self.assertFalse(listener.feed(line), line)


class Processes(unittest.TestCase):
    def run_shell(self, script, limit=20):
        with tempfile.NamedTemporaryFile() as log:
            return process.run(['/bin/sh', '-c', script], limit, log.name)

    def test_exit_code_and_lines(self):
        done = self.run_shell('echo one; printf two; exit 3')
        self.assertEqual((done.status, done.lines), (3, ['one', 'two']))
        self.assertEqual(done.how_it_ended(), 'it ended with exit code 3')

    def test_limit_ends_the_whole_group(self):
        done = self.run_shell('sleep 100 & echo $!; wait', limit=2)
        self.assertIsNone(done.status)
        status = Path(f'/proc/{done.lines[0]}/stat')
        self.assertFalse(status.exists() and ') S ' in status.read_text())

    def test_signal_is_named(self):
        self.assertEqual(self.run_shell('kill -ABRT $$').how_it_ended(),
                         'it died of signal SIGABRT')

    def test_last_line_with_a_mark_is_the_reason(self):
        done = process.Run(1, ['a', 'ERROR: b', 'c', ''])
        self.assertEqual((done.last('ERROR'), done.last()), ('ERROR: b', 'c'))


class Cases(unittest.TestCase):
    def judge(self, status, *lines):
        return qtests.judge(process.Run(status, list(lines)), CASE)

    def test_ok(self):
        self.assertEqual(self.judge(0, f'ok 1 {CASE}')[0], 'pass')

    def test_not_ok_other_case_death_and_silence_are_red(self):
        for status, line in ((1, f'not ok 1 {CASE}'), (0, f'not ok 1 {CASE}'),
                             (0, f'ok 1 {CASE}/more'), (-6, f'ok 1 {CASE}'),
                             (None, f'ok 1 {CASE}'), (1, f'ok 1 {CASE}'),
                             (None, f'# {CASE}'), (0, '1..0')):
            self.assertEqual(self.judge(status, line)[0], 'fail', line)

    def together(self, script, *cases):
        """What comes of a program that is @script"""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'program'
            path.write_text(f'#!/bin/sh\n{script}\n')
            path.chmod(0o755)
            program = qtests.Program(path, folder, limit=20)
            return [outcome for outcome, _ in
                    program.run_together(cases).values()]

    def test_cases_together_are_told_apart(self):
        self.assertEqual(self.together(
            'echo ok 1 /a; echo not ok 2 /b; echo ok 3 /c; exit 1',
            '/a', '/b', '/c', '/d'), ['pass', 'fail', 'pass', 'fail'])

    def test_program_that_dies_after_its_cases_is_red(self):
        for end in ('exit 1', 'kill -ABRT $$'):
            self.assertEqual(self.together(f'echo ok 1 /a; {end}', '/a'),
                             ['fail'])

    def test_skip_keeps_its_reason(self):
        self.assertEqual(self.judge(0, f'ok 1 {CASE} # SKIP no machine'),
                         ('skip', 'no machine'))

    def traces(self, *lines):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / 'qemu-1.log').write_text('\n'.join(lines))
            return qtests.Traces(folder)

    def test_policy_must_show_in_the_traces(self):
        fault = 'postcopy_userfault_vcpu block pc.ram offset 0x1 arrived 1 after'
        on = self.traces('postcopy_userfault_start active ', fault)
        off = self.traces('postcopy_userfault_start off ')
        self.assertEqual((on.judge('on'), off.judge('off')), ('', ''))
        idle = self.traces('postcopy_userfault_start active ')
        self.assertEqual(idle.judge('on', asleep=True), '')
        self.assertTrue(off.judge('on', asleep=True))
        for seen, policy in (
                (on, 'off'), (off, 'on'), (self.traces(), 'on'),
                (self.traces(), 'off'),
                (idle, 'on'),
                (self.traces('postcopy_userfault_start off ', fault), 'off'),
                (self.traces('postcopy_userfault_start fallback ', fault), 'on')):
            self.assertTrue(seen.judge(policy), (seen.statuses, policy))


class Verdicts(unittest.TestCase):
    GOOD = {'userfault': 'on', 'guest_errors': 0, 'guest_verified': 9,
            'counters': {'status': 'finished', 'exits': 5, 'pages-vcpu': 4,
                         'pages-userfaultfd': 3}}

    def changed(self, counters=None, **fields):
        return dict(self.GOOD, **fields,
                    counters=dict(self.GOOD['counters'], **(counters or {})))

    def test_good_runs(self):
        off = self.changed({'status': 'off', 'exits': 0, 'pages-vcpu': 0},
                           userfault='off')
        self.assertEqual(stages.judge_run(self.GOOD, 'on'), '')
        self.assertEqual(stages.judge_run(off, 'off'), '')

    def test_each_flaw_is_seen(self):
        for run, policy in (
                (self.GOOD, 'off'),
                (self.changed(guest_errors=1), 'on'),
                (self.changed(guest_verified=0), 'on'),
                (self.changed({'exits': 0}), 'on'),
                (self.changed({'pages-vcpu': 0}), 'on'),
                (self.changed({'status': 'fallback'}), 'on'),
                (self.changed({'status': 'finished'}, userfault='off'), 'off'),
                (self.changed({'status': 'off'}, userfault='off'), 'off')):
            self.assertTrue(stages.judge_run(run, policy), run)

    def test_missing_run_is_red(self):
        done = process.Run(0, [])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'demo.json'
            self.assertEqual(stages.judge_demo(done, path, ['on'])[0], 'fail')
            path.write_text(json.dumps([self.GOOD]))
            self.assertEqual(stages.judge_demo(done, path, ['on'])[0], 'pass')

    def test_matrix_lines(self):
        def outcome(what, text):
            return stages.judge_matrix_line(what, text)[0]
        self.assertEqual(outcome('promise 1 broken', 'red: 01-x - ok'), 'pass')
        self.assertEqual(outcome('promise 1 broken', 'red: none - UNNOTICED'),
                         'fail')
        self.assertEqual(outcome('nothing broken',
                                 '17 passed, 0 failed, 0 skipped'), 'pass')
        for text in ('16 passed, 1 failed, 0 skipped',
                     '16 passed, 0 failed, 1 skipped',
                     '0 passed, 0 failed, 0 skipped', ''):
            self.assertEqual(outcome('nothing broken', text), 'fail')


class Boots(unittest.TestCase):
    """Boots of the test host, each a shell script that stands for it."""

    def run_host(self, *boots):
        """[(stage, test, outcome)], and what each boot was told to skip."""
        report = Report(io.StringIO())
        scripts = list(boots)
        told = []
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder)

            class Fake(host.Host):
                def command(self, names):
                    told.append(json.loads((results / 'done.json').read_text()))
                    return ['/bin/sh', '-c', scripts.pop(0)]
            Fake(report, None, results, results).run(['a', 'b'])
        self.assertEqual(scripts, [])
        return [(r.stage, r.test, r.outcome) for r in report.results], told, report

    @staticmethod
    def event(**fields):
        return f"echo '{json.dumps(fields)}'; "

    def begin(self, stage, test):
        return self.event(event='begin', stage=stage, test=test)

    def end(self, stage, test, outcome='pass'):
        return self.event(event='end', stage=stage, test=test, outcome=outcome,
                          reason='', seconds=1)

    def test_one_boot_is_enough_when_all_is_well(self):
        found, _, _ = self.run_host(self.begin('a', '1') + self.end('a', '1'))
        self.assertEqual(found, [('a', '1', 'pass')])

    def test_rest_runs_in_another_boot_after_a_hang(self):
        for code in (124, 125):
            found, told, report = self.run_host(
                self.begin('a', '1') + self.end('a', '1') + self.begin('a', '2')
                + f'echo "testhost: HUNG: a CPU" >&2; exit {code}',
                self.begin('b', '3') + self.end('b', '3'))
            self.assertEqual(found, [('a', '1', 'pass'), ('a', '2', 'hang'),
                                     ('b', '3', 'pass')])
            self.assertIn('HUNG: a CPU', report.results[1].reason)
            self.assertEqual(told[0], [])
            self.assertIn(['a', '1'], told[1])
            self.assertIn(['a', '2'], told[1])

    def test_host_that_never_gets_on_is_not_tried_again(self):
        found, _, _ = self.run_host('exit 125')
        self.assertEqual([outcome for _, _, outcome in found], ['hang', 'fail'])

    def test_driver_that_dies_is_a_failure(self):
        for code in (1, 123, 126):
            found, _, _ = self.run_host(self.begin('a', '1') + f'exit {code}')
            self.assertEqual(found, [('a', '1', 'fail'),
                                     ('host', 'remaining tests', 'fail')])


class UnitTests(unittest.TestCase):
    JUNIT = '''<testsuites><testsuite name="park">
        <testcase name="kick"/><testcase name="sleep"><failure>late
        </failure></testcase><testcase name="tsan"><skipped message="none"/>
        </testcase><testcase name="4 /wait"><skipped/></testcase>
        <system-out>ok 3 /wake # SKIP other
ok 4 /wait # SKIP no futex
1..4</system-out></testsuite></testsuites>'''

    def read(self, build):
        report = Report(io.StringIO())

        def check_unit(*_, **__):
            folder = build / 'native' / 'meson-logs'
            folder.mkdir(parents=True)
            (folder / 'testlog.junit.xml').write_text(self.JUNIT)
            return process.Run(0, [])
        with mock.patch('process.run', check_unit):
            native.unit(report, build, build)
        return [(r.test, r.outcome, r.reason) for r in report.results]

    def test_report_of_meson(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(self.read(Path(folder)), [
                ('native: park: kick', 'pass', ''),
                ('native: park: sleep', 'fail', 'late'),
                ('native: park: tsan', 'skip', 'none'),
                ('native: park: 4 /wait', 'skip', 'no futex')])

    def test_no_report_is_red(self):
        report = Report(io.StringIO())
        with tempfile.TemporaryDirectory() as folder, \
                mock.patch('process.run', return_value=process.Run(2, ['no'])):
            native.unit(report, Path(folder), Path(folder))
        self.assertEqual([r.outcome for r in report.results], ['fail'])


class Packages(unittest.TestCase):
    def outcomes(self, lines, status):
        """Of a stage whose rows print @lines, with the packages made"""
        def run(argv, *arguments, **_):
            if not str(argv[0]).endswith('packages/run'):
                return process.Run(0, [])
            for line in lines:
                arguments[2](line)
            return process.Run(status, lines)
        report = Report(io.StringIO())
        with mock.patch('process.run', run):
            native.packages(report, Path('.'), Path('.'))
        return [(r.test, r.outcome, r.reason) for r in report.results]

    def test_rows_become_results(self):
        self.assertEqual(
            self.outcomes(['row a: b', 'ok a: b [1.0 s]', 'skip c: d [0.0 s] -- root',
                           'not ok e: f [2.0 s] -- left'], 1),
            [('a: b', 'pass', ''), ('c: d', 'skip', 'root'), ('e: f', 'fail', 'left')])

    def test_rows_of_models_become_results(self):
        report = Report(io.StringIO())

        def run(*arguments, **_):
            arguments[3]('ok slots: holds [3.0 s] -- 7 states')
            arguments[3]('not ok slots: BREAK_AND [1.0 s] -- holds')
            return process.Run(1, [])
        with mock.patch('process.run', run):
            native.model(report, Path('.'), Path('.'))
        self.assertEqual([(r.test, r.outcome, r.reason) for r in report.results],
                         [('slots: holds', 'pass', ''),
                          ('slots: BREAK_AND', 'fail', 'holds')])

    def test_rows_of_fuzz_targets_become_results(self):
        report = Report(io.StringIO())

        def run(argv, *arguments, **_):
            if not str(argv[0]).endswith('fuzz/run'):
                return process.Run(0, [])
            arguments[2]('ok fuzz: source [9.0 s] -- 7 inputs')
            arguments[2]('not ok fuzz: destination [1.0 s] -- lost; input: /x')
            return process.Run(1, [])
        with mock.patch('process.run', run):
            native.fuzz(report, Path('.'), Path('.'))
        self.assertEqual([(r.test, r.outcome, r.reason) for r in report.results],
                         [('fuzz: source', 'pass', ''),
                          ('fuzz: destination', 'fail', 'lost; input: /x')])

    def test_no_row_is_red(self):
        self.assertEqual([it[1] for it in self.outcomes([], 0)], ['fail'])

    def test_death_after_good_rows_is_red(self):
        self.assertEqual([it[1] for it in self.outcomes(['ok a: b [1.0 s]'], -9)],
                         ['pass', 'fail'])

    def test_packages_that_cannot_be_made_are_red(self):
        report = Report(io.StringIO())
        with mock.patch('process.run', return_value=process.Run(1, ['error: no disk'])):
            native.packages(report, Path('.'), Path('.'))
        self.assertEqual([r.outcome for r in report.results], ['fail'])
        self.assertIn('no disk', report.results[0].reason)


class Inner(unittest.TestCase):
    """Stages that boot a test host of their own."""

    def outcomes(self, stage, status=0, events=(), **environment):
        """Of @stage whose builds end with @status and whose host prints @events"""
        report = Report(io.StringIO())
        self.commands, self.argv = [], []

        def run(argv, *_, **__):
            self.commands.append([str(word) for word in argv])
            return process.Run(status, ['error: no disk'] if status else [])

        def boot(host_itself, names):
            self.argv = [str(word) for word in host_itself.command(names)]
            listener = Listener(host_itself.report)
            for event in events:
                listener.feed(json.dumps(dict(event, event='end', reason='why',
                                              seconds=1)))
            return 0, listener, ''
        clean = {name: value for name, value in os.environ.items()
                 if name != 'TESTHOST'}
        with tempfile.TemporaryDirectory() as folder, \
                mock.patch('process.run', run), \
                mock.patch.object(host.Host, 'boot', boot), \
                mock.patch.dict(os.environ, {**clean, **environment}, clear=True):
            stage(report, Path(folder), Path(folder))
        return [(r.stage, r.test, r.outcome) for r in report.results]

    def only(self):
        """The expression after which the driver chooses its tests"""
        return re.compile(self.argv[self.argv.index('--only') + 1])

    def test_tests_belong_to_the_stage(self):
        self.assertEqual(
            self.outcomes(native.kcsan, events=[
                {'stage': 'conformance', 'test': 'a', 'outcome': 'pass'},
                {'stage': 'host', 'test': 'b', 'outcome': 'hang'}]),
            [('kcsan', 'conformance: a', 'pass'), ('kcsan', 'host: b', 'hang')])
        self.assertEqual(self.argv[self.argv.index('--variant') + 1], 'kcsan')
        self.assertEqual(self.commands[0][-2:], ['kernel', 'kcsan'])

    def test_rows_that_are_asked_for_exist(self):
        known = subprocess.run(
            [str(HERE.parent / 'situations' / 'run'), '--list'], check=True,
            stdout=subprocess.PIPE, universal_newlines=True).stdout.splitlines()
        for row in (*native.DEBUG_ROWS, *native.SANITIZED_ROWS, *native.TSAN_ROWS):
            self.assertIn(row, known)
        for rows in native.TOO_SLOW.values():
            self.assertLess(set(rows), set(native.DEBUG_ROWS))

    def test_only_what_is_asked_for_runs(self):
        self.outcomes(native.sanitized)
        for wanted in ('qemu-on: /migration/postcopy/plain', 'demo: a', 'debug: b',
                       'situations: recovery: migrate-pause, preempt, three times'):
            self.assertTrue(self.only().search(wanted), wanted)
        for other in ('situations: waiting: quit', 'conformance: a'):
            self.assertFalse(self.only().search(other), other)

    def test_build_that_fails_is_red(self):
        self.assertEqual(self.outcomes(native.kasan, status=1),
                         [('kasan', 'build', 'fail')])

    def test_not_in_the_test_host(self):
        self.assertEqual(self.outcomes(native.lockdep, TESTHOST='1'),
                         [('lockdep', 'run', 'skip')])


class Looks(unittest.TestCase):
    """Has a kernel looked, and what did sanitizers write?"""

    def looked(self, variant, text):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'file'
            path.write_text(text)
            says = stages.LOOKS[variant][1]
            with mock.patch.dict(stages.LOOKS, {variant: (str(path), says)}):
                return stages.has_looked(variant)[0]

    def test_locks(self):
        self.assertEqual(self.looked('lockdep', ' debug_locks:     1\n'), 'pass')
        self.assertEqual(self.looked('lockdep', ' debug_locks:     0\n'), 'fail')

    def test_races(self):
        text = 'enabled: 1\nsetup_watchpoints: %s\ndata_races: 0\n'
        self.assertEqual(self.looked('kcsan', text % '12345'), 'pass')
        self.assertEqual(self.looked('kcsan', text % '0'), 'fail')

    def test_accesses(self):
        self.assertEqual(self.looked(
            'kasan', '6,1,0,-;kasan: KernelAddressSanitizer initialized\n'), 'pass')
        self.assertEqual(self.looked('kasan', '6,1,0,-;Linux version\n'), 'fail')

    def reports(self, **files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                (Path(folder) / name).write_text(text)
            return stages.judge_reports(folder)

    def test_no_report(self):
        self.assertEqual(self.reports(), ('pass', ''))
        self.assertEqual(self.reports(empty='\n'), ('pass', ''))

    def test_notice_of_coroutines_is_no_report(self):
        notice = ("==7==WARNING: ASan doesn't fully support makecontext/swapcontext"
                  " functions and may produce false positives in some cases!\n")
        self.assertEqual(self.reports(a=notice), ('pass', ''))
        self.assertEqual(self.reports(a=notice + 'x.c:1:2: runtime error: shift\n'),
                         ('fail', 'a: x.c:1:2: runtime error: shift'))

    def test_report_is_red_and_has_its_line(self):
        self.assertEqual(
            self.reports(a='====\n==7==ERROR: AddressSanitizer: heap-use-after-free\n'),
            ('fail', 'a: ==7==ERROR: AddressSanitizer: heap-use-after-free'))
        self.assertEqual(self.reports(a='x.c:1:2: runtime error: overflow\n')[0],
                         'fail')
        self.assertEqual(self.reports(a='cannot write\n'), ('fail', 'a: cannot write'))


if __name__ == '__main__':
    unittest.main()
