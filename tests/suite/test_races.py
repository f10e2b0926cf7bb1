# SPDX-License-Identifier: GPL-2.0-or-later
"""Does a race in the project's code turn the stage red, and one of QEMU not?"""

import io
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / 'guest'),
                str(HERE.parents[1] / 'scripts' / 'userfault')]

import integrate                                            # noqa: E402
import native                                               # noqa: E402
import races                                                # noqa: E402
from results import Report                                  # noqa: E402

DIFFERENCE = '''diff --git a/migration/new.c b/migration/new.c
new file mode 100644
index 0000000..1111111
--- /dev/null
+++ b/migration/new.c
@@ -0,0 +1,90 @@
+int x;
diff --git a/migration/ram.c b/migration/ram.c
index 2222222..3333333 100644
--- a/migration/ram.c
+++ b/migration/ram.c
@@ -10 +10,2 @@ void f(void)
-    a
+    b
+    c
@@ -50,3 +51,0 @@ void g(void)
-    d
@@ -60,0 +61 @@ void g(void)
+    e
'''
# By offset
FRAMES = {
    0x10: [races.Frame('memset')],
    0x11: [races.Frame('inlined', 'include/qemu/a.h', 3),
           races.Frame('stock', 'util/a.c', 7)],
    0x12: [races.Frame('other', 'util/b.c', 8)],
    0x13: [races.Frame('new', 'migration/new.c', 70)],
    0x14: [races.Frame('patched', 'migration/ram.c', 61)],
    0x15: [races.Frame('patched', 'migration/ram.c', 51)],
}
BOUNDARY = '=' * 18 + '\n'


def stack(*offsets):
    return ''.join(f'    #{number} <null> <null> (qemu+{offset:#x}) (BuildId: ab)\n'
                   for number, offset in enumerate(offsets)) + '\n'


def report(one, two, origin=(0x12,)):
    """As the sanitizer writes it, two accesses with their stacks"""
    return (BOUNDARY + 'WARNING: ThreadSanitizer: data race (pid=7)\n'
            '  Write of size 4 at 0x1 by thread T1 (mutexes: write M1):\n' + stack(*one)
            + '  Previous atomic read of size 4 at 0x1 by main thread:\n' + stack(*two)
            + '  Location is heap block of size 8 at 0x1 allocated by thread T2:\n'
            + stack(*origin)
            + '  Mutex M1 (0x2) created at:\n' + stack(*origin)
            + "  Thread T1 'CPU 0' (tid=8, running) created by main thread at:\n"
            + stack(*origin)
            + 'SUMMARY: ThreadSanitizer: data race (/x/qemu+0x1) \n' + BOUNDARY)


STOCK = report((0x11,), (0x12,))


class Verdicts(unittest.TestCase):
    def verdict(self, *texts):
        with tempfile.TemporaryDirectory() as folder:
            for number, text in enumerate(texts):
                (Path(folder) / f'report.{number}').write_text(text)
            return races.Verdict(
                folder, '/x/qemu', races.Ours(DIFFERENCE),
                lambda _, offsets: {it: FRAMES[it] for it in offsets})

    def test_races_of_qemu_are_counted(self):
        verdict = self.verdict(STOCK + STOCK, report((0x15,), (0x12,)))
        self.assertEqual((verdict.reason(), verdict.left_out()), ('', 3))

    def test_any_frame_of_either_access_concerns_the_project(self):
        for one, two in (((0x13,), (0x12,)), ((0x11,), (0x13,)),
                         ((0x11, 0x12, 0x13), (0x12,)), ((0x12,), (0x11, 0x14))):
            verdict = self.verdict(STOCK, STOCK + report(one, two))
            self.assertTrue(verdict.reason().startswith(
                '1 reports, first: data race: '), (one, two))
            self.assertEqual(verdict.left_out(), 2)

    def test_where_something_came_from_does_not(self):
        self.assertEqual(self.verdict(report((0x11,), (0x12,), (0x13,))).reason(), '')

    def test_report_that_is_cut_off_counts(self):
        whole = report((0x12,), (0x13,))
        cut = whole[:whole.index('  Location')]
        self.assertIn('new', self.verdict(cut).reason())

    def test_other_reports_count(self):
        text = (BOUNDARY + 'WARNING: ThreadSanitizer: lock-order-inversion (potential '
                'deadlock) (pid=7)\n  Cycle in lock order graph: M1 => M2 => M1\n\n'
                '  Mutex M2 acquired here while holding mutex M1 in thread T1:\n'
                + stack(0x11) + '  Mutex M1 acquired here while holding mutex M2 in '
                'main thread:\n' + stack(0x12, 0x13) + BOUNDARY)
        self.assertIn('lock-order-inversion', self.verdict(text).reason())
        self.assertEqual(self.verdict(text.replace('0x13', '0x12')).reason(), '')

    def test_known_pair_is_left_out_with_its_caller(self):
        text = report((0x10, 0x11, 0x13), (0x12,))
        self.assertTrue(self.verdict(text).reason())
        for pair in (('inlined', 'other'), ('other', 'stock')):
            with mock.patch.dict(races.KNOWN, {pair: 'why'}):
                verdict = self.verdict(text)
                self.assertEqual((verdict.reason(), verdict.left_out()), ('', 1))
                # Further up than the project's own
                for one, two in (((0x13, 0x11), (0x12,)), ((0x11,), (0x13, 0x12)),
                                 ((0x11, 0x13), (0x11,))):
                    self.assertTrue(self.verdict(report(one, two)).reason())

    def test_sanitizer_that_gives_up_is_red(self):
        for line in ('FATAL: ThreadSanitizer: unexpected memory mapping 0x1-0x2',
                     '==7==ERROR: ThreadSanitizer: SEGV on unknown address 0x0'):
            self.assertIn(line, self.verdict(STOCK, line + '\n').reason())

    def test_what_was_seen_can_be_read(self):
        verdict = self.verdict(STOCK * 2 + report((0x10, 0x13), (0x12,)))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'races.txt'
            verdict.write(path)
            text = path.read_text()
        self.assertIn('    new migration/new.c:70\n', text)
        self.assertIn('    2 data race: inlined / other\n', text)


class Looked(unittest.TestCase):
    def looked(self, text, content):
        verdict = Verdicts().verdict(text)
        with tempfile.TemporaryDirectory() as folder:
            if content is not None:
                inside = Path(folder) / 'lib.a.p'
                inside.mkdir()
                (inside / 'migration_new.c.o').write_bytes(content)
            return races.has_looked(verdict, folder, races.Ours(DIFFERENCE))

    def test_it_has(self):
        self.assertEqual(self.looked(STOCK, b'\0__tsan_func_entry\0'), '')

    def test_nothing_compiled_for_it(self):
        self.assertIn('not compiled', self.looked(STOCK, b'\0'))
        self.assertIn('no object', self.looked(STOCK, None))

    def test_silence(self):
        for text in ('', report((0x10,), (0x10,))):
            self.assertIn('nothing was reported', self.looked(text, races.CALL))


class Sources(unittest.TestCase):
    """What is the project's, and what a frame is"""

    def test_what_the_series_names_is_the_projects(self):
        def git(*words):
            subprocess.run(['git', '-C', folder, '-c', 'user.name=a', '-c',
                            'user.email=a@b', *words], check=True,
                           stdout=subprocess.DEVNULL)
        component = integrate.COMPONENTS['qemu']
        paths = {path: os.path.isfile(os.path.join(component.root, path))
                 for block in integrate.read_series(component)
                 for path in block.paths}
        with tempfile.TemporaryDirectory() as folder:
            def put(path, text):
                target = Path(folder) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
            git('init', '-q')
            for path, is_new in paths.items():
                if not is_new:
                    put(path, 'first\nsecond\n')
            put('util/stock.c', 'first\nsecond\n')
            git('add', '.')
            git('commit', '-q', '-m', 'as it came')
            for path in paths:
                put(path, 'first\nadded\nsecond\n')
            git('add', '.')
            git('commit', '-q', '-m', 'with the project')
            ours = races.Ours.of_tree(folder)
        self.assertEqual(sorted(ours.new),
                         sorted(path for path, is_new in paths.items() if is_new))
        for path, is_new in paths.items():
            self.assertTrue(ours.has(races.Frame('f', path, 2)), path)
            self.assertEqual(ours.has(races.Frame('f', path, 3)), is_new, path)
        self.assertFalse(ours.has(races.Frame('f', 'util/stock.c', 2)))

    def test_names_of_a_program(self):
        source = ('static inline __attribute__((always_inline)) void in(int *x)\n'
                  '{ ++*x; }\nvoid f(int *x);\nvoid f(int *x)\n{ in(x); }\n'
                  'int main(void) { return 0; }\n')
        with tempfile.TemporaryDirectory() as folder:
            build, tree = Path(folder) / 'build', Path(folder) / 'qemu' / 'util'
            build.mkdir()
            tree.mkdir(parents=True)
            (tree / 'a.c').write_text(source)
            subprocess.run(['gcc', '-g', '-O1', '-o', 'a', '../qemu/util/a.c'],
                           cwd=build, check=True)
            listing = subprocess.run(['nm', 'a'], cwd=build, check=True,
                                     stdout=subprocess.PIPE, universal_newlines=True)
            place = next(int(line.split()[0], 16)
                         for line in listing.stdout.splitlines()
                         if line.endswith(' T f'))
            found = races.names(build / 'a', {place, 0x1})
        self.assertIn(('in', 'util/a.c', 2),
                      [(it.function, it.path, it.line) for it in found[place]])
        self.assertEqual(found[place][-1].function, 'f')
        self.assertEqual([it.path for it in found[0x1]], [''])


class Stage(unittest.TestCase):
    def test_nothing_is_judged_where_nothing_ran(self):
        told = Report(io.StringIO())
        with tempfile.TemporaryDirectory() as folder, \
                mock.patch.dict(os.environ, TESTHOST='1'):
            native.tsan(told, Path(folder), Path(folder))
        self.assertEqual([(it.test, it.outcome) for it in told.results],
                         [('run', 'skip')])

    def outcomes(self, text):
        told = Report(io.StringIO())
        with tempfile.TemporaryDirectory() as folder:
            reports = Path(folder) / 'reports'
            reports.mkdir()
            (reports / 'report.1').write_text(text)
            (Path(folder) / 'migration_new.c.o').write_bytes(races.CALL)
            with mock.patch.object(races.Verdict.__init__, '__defaults__',
                                   (lambda _, offsets: FRAMES,)):
                native.judge_races(told, Path(folder), Path(folder) / 'qemu',
                                   races.Ours(DIFFERENCE))
        return [it.outcome for it in told.results]

    def test_two_results(self):
        self.assertEqual(self.outcomes(STOCK), ['pass', 'pass'])
        self.assertEqual(self.outcomes(''), ['fail', 'pass'])
        self.assertEqual(self.outcomes(STOCK + report((0x13,), (0x12,))),
                         ['pass', 'fail'])


if __name__ == '__main__':
    unittest.main()
