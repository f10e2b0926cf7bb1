# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the launcher tell a crash on the console from ordinary lines?"""

import os
import shlex
import subprocess
import unittest

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
[    1.0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s!'''
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
