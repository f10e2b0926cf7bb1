# SPDX-License-Identifier: GPL-2.0-or-later
"""The verifying guest as a libvirt domain, and its migration by virsh."""

import json
import subprocess
import time

from harness import GuestError, HarnessError
from harness.console import GuestConsole
from harness.moving import Still
from host import EMULATOR

NAME = 'traveller'
XML = '''\
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>{cpus}</vcpu>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>
    <kernel>{folder}/kernel</kernel>
    <initrd>{folder}/initramfs</initrd>
    <cmdline>{command_line}</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <on_reboot>destroy</on_reboot>
  <devices>
    <emulator>{folder}/bin/{emulator}</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <video><model type='none'/></video>
    <serial type='file'><source path='/run/guest/kernel.log'/></serial>
    <serial type='unix'><source mode='bind' path='/run/guest/console'/></serial>
  </devices>
  {qemu}
</domain>
'''
BOOT_LIMIT, STILL_LIMIT = 120, 60       # seconds, times patience


class Domain:
    """One guest, from west to east.  Main thread only.
    @options: words of QEMU's command line to pass through"""

    def __init__(self, lab, spec, options=()):
        self.lab = lab
        self.spec = spec
        self.options = options
        self.console = GuestConsole(lab.folder / 'guest.log')
        self._still = Still('the guest made no progress',
                            STILL_LIMIT * lab.patience, GuestError)
        self.watched = True

    def xml(self):
        words = ''.join(f"<qemu:arg value='{word}'/>" for word in self.options)
        return XML.format(
            name=NAME, memory=self.spec.memory_mib, cpus=self.spec.cpus,
            machine=self.spec.machine, folder=self.lab.folder, emulator=EMULATOR,
            command_line=self.spec.kernel_command_line(),
            qemu=f'<qemu:commandline>{words}</qemu:commandline>' if words else '')

    def boot(self):
        """It runs on west and says so."""
        path = self.lab.folder / 'domain.xml'
        path.write_text(self.xml())
        self.lab.west.virsh('create', path, limit=BOOT_LIMIT * self.lab.patience)
        self.console.attach(self.lab.west.own / 'guest/console')
        self.until(lambda: len(self.console.log.beats) > 4, 'no heartbeat')

    def until(self, condition, what, limit=BOOT_LIMIT):
        """Look for trouble until @condition."""
        def met():
            self.look()
            return condition()
        return self.lab.wait(met, what, limit)

    def look(self):
        """HarnessError if a host or the guest is in trouble."""
        for host in self.lab.hosts.values():
            host.check_alive()
        log = self.console.log
        if log.fatal or log.error_count():
            raise GuestError(f'the guest: {log.fatal or log.errors[:1]}')
        beat = log.last_beat
        if self.watched and beat:
            self._still.see(time.monotonic(), beat['verified'])

    def migrate(self, *words):
        """Begin `virsh migrate` to east; a Popen."""
        command = self.lab.west.virsh_command(
            'migrate', '--live', '--p2p', '--postcopy', *words, NAME,
            f'qemu+tcp://{self.lab.east.address}/system',
            '--migrateuri', f'tcp://{self.lab.east.address}')
        return subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                universal_newlines=True)

    def follow(self):
        """Listen to the guest on east, as soon as there is an emulator."""
        path = self.lab.east.own / 'guest/console'
        self.until(path.exists, 'no emulator on east')
        self.console.attach(path)

    def ended(self, migration):
        """Until virsh has ended; (exit code, what it said)."""
        self.until(lambda: migration.poll() is not None, 'virsh did not end')
        return migration.returncode, ' '.join(migration.stdout.read().split())

    def check_memory(self):
        """A whole pass over all memory, on east."""
        marks = self.console.log.marks
        count = len(marks)
        self.console.send(b'm')
        self.until(lambda: len(marks) > count, 'the guest does not answer')
        start = marks[count]['n']
        self.until(lambda: self.console.log.last_beat['n'] > start
                   and self.console.log.last_beat['since'] >= 1,
                   'no whole pass over memory')

    def monitor(self, host, command):
        """The answer of the domain's QEMU on @host to a QMP @command."""
        said = host.virsh('qemu-monitor-command', NAME,
                          json.dumps({'execute': command})).stdout
        answer = json.loads(said)
        if 'return' not in answer:
            raise HarnessError(f'{host.name}: {command}: {said}')
        return answer['return']

    def counters(self):
        """postcopy-userfault of east's query-migrate."""
        return self.monitor(self.lab.east, 'query-migrate').get(
            'postcopy-userfault', {})

    def emulator(self, host):
        """Pid of the domain's QEMU on @host, as the host sees it."""
        return host.inside('cat', f'/run/libvirt/qemu/{NAME}.pid').stdout.strip()

    def close(self):
        self.console.close()


