# SPDX-License-Identifier: GPL-2.0-or-later
"""One QEMU process and its monitor.

Owns a folder of its own for sockets and logs.  A QEMU that ends when nobody
asked it to is a HarnessError that quotes the last line of its log.
"""

import asyncio
import subprocess
import time
from dataclasses import dataclass, field

from . import HarnessError, paths

# Where the distribution keeps firmware; a QEMU that is not installed needs it.
FIRMWARE = ('/usr/share/seabios', '/usr/share/qemu')
QMP_LIMIT = 120                 # seconds for one monitor command


@dataclass
class GuestSpec:
    """The virtual machine; source and destination must have the same."""
    cpus: int = 4
    memory_mib: int = 384
    hot_mib: int = 128
    threads: int = 0            # 0: one per CPU
    seed: int = 1
    slow_us: int = 30
    beat_ms: int = 250
    sequential: bool = False    # or in random order
    chores: tuple = ()          # of tests/guest/chore*.c
    kernel_options: tuple = ()  # of the guest's kernel, beside the usual ones
    accel: str = 'kvm'
    machine: str = 'q35'
    cpu: str = 'max'
    kernel: str = ''            # '': the one that was built
    initramfs: str = ''
    # Says that it is ready before anybody can listen, so it is let begin then.
    held: bool = False
    extra: list = field(default_factory=list)

    def kernel_command_line(self):
        """What tells the guest's kernel and its payload what to do."""
        payload = {'hot': self.hot_mib, 'threads': self.threads,
                   'seed': self.seed, 'slow_us': self.slow_us,
                   'beat_ms': self.beat_ms, 'sequential': int(self.sequential)}
        if self.chores:
            payload['chores'] = ','.join(self.chores)
        words = ['console=ttyS0', 'no_timer_check', 'panic=-1',
                 'random.trust_cpu=on']
        words += [f'payload.{key}={value}' for key, value in payload.items()]
        return ' '.join([*words, *self.kernel_options])

    def arguments(self, folder, accel_options=''):
        """QEMU's arguments, with the consoles in @folder."""
        firmware = [word for path in FIRMWARE for word in ('-L', path)]
        return [*firmware, '-nodefaults', '-no-user-config',
                '-display', 'none', '-vga', 'none',
                '-machine', self.machine,
                '-accel', self.accel + accel_options,
                '-cpu', self.cpu,
                '-smp', str(self.cpus),
                '-m', f'{self.memory_mib}M',
                '-kernel', str(self.kernel or paths.kernel()),
                '-initrd', str(self.initramfs or paths.guest_initramfs()),
                '-append', self.kernel_command_line(),
                '-no-reboot',
                '-serial', f'file:{folder}/kernel.log',
                '-chardev', f'socket,id=guest,path={folder}/guest,'
                            'server=on,wait=off',
                '-serial', 'chardev:guest',
                *self.extra]


class Qemu:
    """
    start() to stop(); also a context manager, which stops it whatever
    happens.  Main thread only (the monitor's event loop belongs to it).
    @prefix: words before the command, of a program that becomes QEMU
    (setpriv, env, "ip netns exec"), so that the process is QEMU's
    """

    def __init__(self, name, folder, arguments, binary=None, prefix=()):
        self.name = name
        self.folder = folder
        self.binary = str(binary or paths.qemu())
        self.prefix = list(prefix)
        self.arguments = list(arguments)
        self.process = None
        self.monitor = None
        self.events = []        # all events so far
        self._qmp, self._legacy = paths.import_qmp()

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def console(self):
        return self.folder / 'guest'

    @property
    def log(self):
        return self.folder / 'qemu.log'

    def start(self, limit=120):
        self.folder.mkdir(parents=True, exist_ok=True)
        socket = self.folder / 'monitor'
        command = [*self.prefix, self.binary,
                   '-name', f'{self.name},debug-threads=on',
                   '-chardev', f'socket,id=monitor,path={socket},'
                               'server=on,wait=off',
                   '-mon', 'chardev=monitor,mode=control', *self.arguments]
        (self.folder / 'command').write_text(' '.join(command) + '\n')
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._connect(str(socket), time.monotonic() + limit)

    def _connect(self, path, end):
        while True:
            self.check_alive()
            monitor = self._legacy.QEMUMonitorProtocol(path)
            try:
                monitor.connect()
                break
            except self._qmp.QMPError as error:
                if time.monotonic() > end:
                    raise HarnessError(f'{self.name}: no monitor: '
                                       f'{error}') from error
                time.sleep(0.1)
        monitor.settimeout(QMP_LIMIT)
        self.monitor = monitor

    def last_words(self):
        try:
            lines = self.log.read_text(errors='replace').strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else 'it said nothing'

    def check_alive(self):
        status = self.process.poll()
        if status is not None:
            raise HarnessError(f'{self.name} QEMU ended with {status}: '
                               f'{self.last_words()}')

    def command(self, name, **arguments):
        """Run a monitor command; '_' in an argument's name stands for '-'."""
        arguments = {k.replace('_', '-'): v for k, v in arguments.items()}
        try:
            result = self.monitor.cmd(name, **arguments)
        except self._qmp.ExecuteError as error:
            raise HarnessError(f'{self.name}: {name}: {error}') from error
        except asyncio.TimeoutError as error:
            raise HarnessError(f'{self.name}: no answer to {name} in '
                               f'{QMP_LIMIT} s') from error
        except (self._qmp.QMPError, OSError) as error:
            self._settle()
            self.check_alive()
            raise HarnessError(f'{self.name}: {name}: {error}') from error
        self.read_events()
        return result

    def give_file(self, name, descriptor):
        """QEMU gets the open file; URIs call it fd:@name."""
        self.monitor.send_fd_scm(descriptor)
        self.command('getfd', fdname=name)

    def threads(self):
        """Ids of the vCPUs' threads"""
        return [cpu['thread-id'] for cpu in self.command('query-cpus-fast')]

    def _settle(self):
        """The monitor is gone: give the process the time to end too."""
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass

    def read_events(self):
        """Take the events that have arrived; returns all so far."""
        while True:
            event = self.monitor.pull_event()
            if event is None:
                return self.events
            self.events.append(event)

    def find_event(self, name, since=0, **data):
        """The first event @name from number @since on with @data, or None."""
        for event in self.events[since:]:
            found = event.get('data', {})
            if event['event'] == name and all(found.get(k) == v
                                              for k, v in data.items()):
                return event
        return None

    def stop(self):
        """End the process, politely first."""
        if self.process is None:
            return
        if self.monitor is not None:
            try:
                if self.process.poll() is None:
                    self.monitor.settimeout(5)
                    self.monitor.cmd('quit')
            except (self._qmp.QMPError, OSError, asyncio.TimeoutError):
                pass
            self._close_monitor()
        for end in (None, self.process.terminate, self.process.kill):
            if end:
                end()
            try:
                self.process.wait(15)
                return
            except subprocess.TimeoutExpired:
                continue

    def _close_monitor(self):
        try:
            self.monitor.close()
        except (self._qmp.QMPError, OSError, EOFError):
            pass
        self.monitor = None


def event_time(event):
    """Seconds of the host's clock at which QEMU sent @event."""
    stamp = event['timestamp']
    return stamp['seconds'] + stamp['microseconds'] / 1e6
