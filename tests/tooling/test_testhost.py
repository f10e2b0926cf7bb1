# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the launcher tell a crash on the console from ordinary lines?"""

import os
import shlex
import subprocess
import unittest
from unittest import mock

import support
import machine
import watch

CRASHES = '''[    1.0] Kernel panic - not syncing: Attempted to kill init!
[    1.0] WARNING: CPU: 0 PID: 88 at arch/x86/kvm/mmu/mmu.c:1 f+0x1/0x2
[    1.0] BUG: kernel NULL pointer dereference, address: 0000000000000008
[    1.0] Oops: Oops: 0000 [#1] SMP
[    1.0] WARNING: possible circular locking dependency detected
[    1.0] rcu: INFO: rcu_sched detected stalls on CPUs/tasks:
[    1.0] rcu: INFO: rcu_preempt self-detected stall on CPU
[    1.0] INFO: task qemu:123 blocked for more than 240 seconds.
[    1.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s!
[    1.0] WARNING: possible recursive locking detected
[    1.0] WARNING: possible irq lock inversion dependency detected
[    1.0] WARNING: inconsistent lock state
[    1.0] WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected
[    1.0] WARNING: bad unlock balance detected!
[    1.0] WARNING: suspicious RCU usage
[    1.0] WARNING: lock held when returning to user space!
[    1.0] [ BUG: Invalid wait context ]
[    1.0] BUG: sleeping function called from invalid context at mm/gup.c:1
[    1.0] BUG: scheduling while atomic: qemu/1/0x00000002
[    1.0] BUG: using smp_processor_id() in preemptible [00000000] code: qemu/1
[    1.0] BUG: spinlock bad magic on CPU#0, qemu/1
[    1.0] INFO: trying to register non-static key.
[    1.0] INFO: lockdep is turned off.
[    1.0] turning off the locking correctness validator.
[    1.0] BUG: MAX_LOCKDEP_CHAINS too low!
[    1.0] BUG: KASAN: slab-out-of-bounds in f+0x1/0x2
[    1.0] UBSAN: array-index-out-of-bounds in virt/kvm/f.c:1:2
[    1.0] BUG: KCSAN: assert: race in f+0x1/0x2'''
# What KCSAN writes about a race; the frames are from the tops downward.
RACE = '''[    1.0] ==================================================================
[    1.0] BUG: KCSAN: data-race in {first} / {second}

[    1.0] write to 0xffff888000000000 of 8 bytes by task 7 on cpu 1:
[    1.0]  {first}+0x12/0x34
[    1.0]  {caller}+0x56/0x78

[    1.0] read to 0xffff888000000000 of 8 bytes by task 8 on cpu 0:
[    1.0]  {second}+0x9a/0xbc

[    1.0] Reported by Kernel Concurrency Sanitizer on:
[    1.0] CPU: 0 UID: 0 PID: 8 Comm: qemu Not tainted
[    1.0] ==================================================================
'''
ORDINARY = '''[    1.0] kvm: SMP vm created on host with unstable TSC
[    1.0] kvm [100]: vcpu0, guest rIP: 0x1 Unhandled WRMSR(0xc0010007) = 0x0
[    1.0] kvm: vcpu 8: requested 16, recommended cpus (4)
[    1.0] rcu: Hierarchical RCU implementation.
[    1.0] rcu: RCU calculated value of scheduler-enlistment delay is 10 jiffies.
[    1.0] qemu-system-x86[33]: segfault at 0 ip 0 sp 0 error 4'''


class Console(support.Case):

    def found(self, text):
        path = os.path.join(self.folder, 'console')
        support.write(path, text)
        console = watch.Console(path)
        console.poll()
        return console

    def test_each_kind_of_crash_is_seen(self):
        for line in CRASHES.splitlines():
            self.assertEqual(self.found(line + '\n').crashes, [line], line)

    def test_ordinary_lines_are_not_crashes(self):
        self.assertEqual(self.found(ORDINARY + '\n').crashes, [])

    @staticmethod
    def known(writers, readers):
        return mock.patch.object(watch, 'KNOWN_RACES', [
            watch.KnownRace('why', tuple(writers), tuple(readers))])

    def race(self, **names):
        """What becomes of a race, with f and g known in stock Linux."""
        text = RACE.format(**dict({'first': 'f', 'second': 'g', 'caller': 'h'},
                                  **names))
        with self.known('f', 'g'):
            console = self.found(text)
            console.end()
        return len(console.crashes), console.known_races

    def test_known_race_of_stock_linux_is_left_out(self):
        self.assertEqual(self.race(), (0, 1))
        self.assertEqual(self.race(first='g.isra.0', second='f'), (0, 1))

    def test_other_race_is_a_crash(self):
        self.assertEqual(self.race(second='other'), (1, 0))
        self.assertEqual(self.race(first='g'), (1, 0))

    def test_race_with_a_frame_of_the_project_is_never_left_out(self):
        self.assertEqual(self.race(caller='kvm_mmu_userfault_zap'), (1, 0))
        self.assertEqual(self.race(caller='kvm_gmem_rebind'), (1, 0))

    def test_frame_of_an_access_that_was_put_off_counts(self):
        self.assertEqual(self.race(caller='h+0x1/0x2\n  +-> reordered to: '
                                   'kvm_userfault_test_page'), (1, 0))

    def test_name_of_the_process_does_not_count(self):
        text = RACE.format(first='f', second='g', caller='h').replace(
            'Comm: qemu', 'Comm: userfault-test')
        with self.known('f', 'g'):
            self.assertEqual(self.found(text).crashes, [])

    def test_race_of_unknown_origin(self):
        text = ('BUG: KCSAN: data-race in %s+0x12/0x34\n\n'
                'race at unknown origin, with read to 0xff of 8 bytes by task 7 on '
                'cpu 1:\n %s+0x12/0x34\n' + '=' * 66 + '\n')
        with self.known('', 'f'):
            self.assertEqual(self.found(text % ('f', 'f')).crashes, [])
            self.assertEqual(len(self.found(text % ('g', 'g')).crashes), 1)
            self.assertEqual(len(self.found(
                text % (('kvm_userfault_test_page',) * 2)).crashes), 1)

    def test_crash_within_a_known_race_is_seen(self):
        text = RACE.replace('[    1.0] CPU: 0', '[    1.0] BUG: KASAN: x\n')
        with self.known('f', 'g'):
            console = self.found(text.format(first='f', second='g', caller='h'))
        self.assertEqual(console.crashes, ['[    1.0] BUG: KASAN: x'])

    def test_known_race_that_is_cut_off_is_a_crash(self):
        text = RACE.format(first='f', second='g', caller='h')
        with self.known('f', 'g'):
            console = self.found(text[:text.index('[    1.0] Reported')])
            self.assertEqual(console.crashes, [])
            console.end()
        self.assertEqual(len(console.crashes), 1)

    def test_functions_that_the_project_changes_are_not_among_the_known(self):
        """What is inlined there has no frame of its own."""
        changed = ''
        top = os.path.join(support.REPO, 'tests/kernel/linux')
        for folder, _, names in os.walk(top):
            for name in names:
                if name.endswith(('.cocci', '.c', '.h')):
                    with open(os.path.join(folder, name)) as stream:
                        changed += stream.read()
        for race in watch.KNOWN_RACES:
            self.assertTrue(race.why)
            for name in (*race.writers, *race.readers):
                self.assertNotRegex(changed, r'\b%s\b' % name)

    def test_only_a_panic_is_final(self):
        lines = CRASHES.splitlines()
        self.assertTrue(self.found(lines[0] + '\n').fatal)
        self.assertFalse(self.found('\n'.join(lines[1:]) + '\n').fatal)

    def test_line_that_arrives_in_pieces(self):
        path = os.path.join(self.folder, 'console')
        console = watch.Console(path)
        seen = []
        for piece in ('Kernel', ' panic - not', ' syncing\n', 'more\n'):
            with open(path, 'a') as stream:
                stream.write(piece)
            seen.append(console.poll())
        self.assertEqual(seen, [False, False, True, False])
        self.assertEqual(console.crashes, ['Kernel panic - not syncing'])


class Stub(support.Case):

    def test_words_reach_the_command_unchanged(self):
        words = ['a b', "it's", '$HOME', '*', '', 'x\ny', '"']
        env = {'NAME': "v'a l$u`e"}
        stub = machine.Job(words, results=self.folder, env=env).stub()
        # The last line execs init; run it with something that prints instead.
        head, tail = stub.rsplit('exec /bin/sh ', 1)
        init = shlex.quote(os.path.join(machine.HERE, 'init'))
        self.assertTrue(tail.startswith(init))
        script = head + 'printf "%s\\0" "$NAME" ' + tail[len(init):]
        done = subprocess.run(['/bin/sh', '-c', script], check=True,
                              stdout=subprocess.PIPE, universal_newlines=True)
        self.assertEqual(done.stdout.split('\0')[:-1], [env['NAME']] + words)


if __name__ == '__main__':
    unittest.main()
