# SPDX-License-Identifier: GPL-2.0-or-later
"""One boot of the test host: the emulator's process and its channels.

Threads: one, the launcher's; it polls.  Owned: the emulator (ends with us,
by PR_SET_PDEATHSIG too), a folder in /tmp with the stub of init and the
sockets.  The channels are sockets that we listen on and the emulator connects
to before the first instruction runs, so that nothing is lost.
"""

import ctypes
import glob
import os
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import watch

HERE = os.path.dirname(os.path.abspath(__file__))
REPO = os.path.dirname(os.path.dirname(HERE))
PR_SET_PDEATHSIG = 1
# The emulated TSC is not constant, so the kernel calibrates it twice; on a busy
# machine the results differ by more than KVM lets pass (250 ppm).  KVM then
# wants to scale the guests' TSC, which emulated SVM cannot do, and arms their
# timers far in the future.  Nor does the kernel's watchdog believe in that TSC
# for long if the machine is busy: each reading of the clock would then be a system
# call and an access to the HPET.
KERNEL_OPTIONS = ('root=hostroot rootfstype=9p ro '
                  'rootflags=trans=virtio,version=9p2000.L,msize=524288,cache=loose '
                  'console=ttyS0 no_timer_check mitigations=off nokaslr '
                  'oops=panic panic=-1 rcupdate.rcu_cpu_stall_timeout=120 '
                  'random.trust_cpu=on tsc=reliable '
                  'kvm.tsc_tolerance_ppm=50000')


FIRMWARE = ('/usr/share/seabios', '/usr/share/qemu', '/usr/lib/ipxe/qemu')


class MachineError(Exception):
    """The emulator could not be started at all."""


def _die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)


def sweep():
    """Remove the folders of launchers that were killed."""
    for path in glob.glob('/tmp/testhost-[0-9]*-*'):
        pid = path.split('-')[1]
        if not os.path.isdir('/proc/' + pid) and os.stat(path).st_uid == os.getuid():
            shutil.rmtree(path, ignore_errors=True)


class Job:
    """What to run inside: set once, before the boot."""

    def __init__(self, command, **details):
        self.command = command
        self.mode = details.get('mode', 'command')
        self.cwd = details.get('cwd', os.getcwd())
        self.results = details['results']
        self.env = details.get('env', {})

    def stub(self):
        """A script for init= whose path has no spaces and that knows the rest."""
        known = {'TESTHOST_REPO': REPO, 'TESTHOST_RESULTS': self.results,
                 'TESTHOST_CWD': self.cwd, 'TESTHOST_MODE': self.mode}
        known.update(self.env)
        lines = ['#!/bin/sh', 'unset BOOT_IMAGE']
        lines += ['export %s=%s' % (name, shlex.quote(value))
                  for name, value in sorted(known.items())]
        lines.append('exec /bin/sh %s %s' % (
            shlex.quote(os.path.join(HERE, 'init')),
            ' '.join(shlex.quote(word) for word in self.command)))
        return '\n'.join(lines) + '\n'


class Machine:
    """A running test host."""

    def __init__(self, options, job, console_path):
        self.options, self.job = options, job
        self.console = watch.Console(console_path)
        self.sinks = {}          # socket -> handler(bytes)
        self.selector = selectors.DefaultSelector()
        self.control_rest = b''
        self.messages = []       # complete lines of the control port
        self.process = None
        sweep()
        self.folder = tempfile.mkdtemp(prefix='testhost-%d-' % os.getpid(), dir='/tmp')
        self.started = None

    def _channel(self, name):
        listener = socket.socket(socket.AF_UNIX)
        path = os.path.join(self.folder, name)
        listener.bind(path)
        listener.listen(1)
        return listener, ['-chardev', 'socket,id=%s,path=%s' % (name, path)]

    def _arguments(self, names):
        options = self.options
        accel = 'kvm' if options.accel == 'kvm' else 'tcg,thread=multi'
        argv = [options.qemu, '-nodefaults', '-display', 'none', '-no-reboot',
                '-machine', 'q35', '-accel', accel,
                '-cpu', 'host' if options.accel == 'kvm' else 'max',
                '-smp', str(options.smp), '-m', '%sG' % options.mem,
                '-kernel', options.kernel,
                '-append', '%s init=%s/init %s' % (KERNEL_OPTIONS, self.folder,
                                                   options.append),
                '-chardev', 'file,id=console,path=' + self.console.path,
                '-serial', 'chardev:console']
        for tag, path, more in (('hostroot', '/', ',readonly=on'),
                                ('results', self.job.results, '')):
            argv += ['-fsdev', 'local,id=%s,path=%s,security_model=none,'
                     'multidevs=remap%s' % (tag, path.replace(',', ',,'), more),
                     '-device', 'virtio-9p-pci,fsdev=%s,mount_tag=%s' % (tag, tag)]
        argv += ['-device', 'virtio-serial-pci']
        for path in FIRMWARE:
            argv += ['-L', path]
        for name in names:
            kind = 'virtconsole' if name == 'tty' else 'virtserialport'
            argv += ['-device', '%s,chardev=%s,name=%s' % (kind, name, name)]
        return argv

    def start(self, sinks):
        """Boot; sinks: {channel name: handler of bytes}, 'control' is ours."""
        stub = os.path.join(self.folder, 'init')
        with open(stub, 'w') as stream:
            stream.write(self.job.stub())
        os.chmod(stub, 0o755)
        os.chmod(self.folder, 0o755)
        sinks = dict(sinks, control=self._on_control)
        listeners, chardevs = {}, []
        for name in sinks:
            listeners[name], argv = self._channel(name)
            chardevs += argv
        # The console is hvc0 only if it is the first port.
        names = sorted(sinks, key=lambda name: name != 'tty')
        self.started = time.monotonic()
        self.log = open(os.path.join(self.job.results, 'emulator.log'), 'ab')
        argv = self._arguments(names)
        place = argv.index('-device')
        self.process = subprocess.Popen(argv[:place] + chardevs + argv[place:],
                                        stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, preexec_fn=_die_with_parent)
        self.channels = {}
        for name, listener in listeners.items():
            listener.settimeout(0.2)
            while True:
                try:
                    channel, _ = listener.accept()
                    break
                except socket.timeout:
                    if self.process.poll() is not None:
                        raise MachineError(self.last_words()) from None
            listener.close()
            channel.setblocking(False)
            self.channels[name] = channel
            self.selector.register(channel, selectors.EVENT_READ, sinks[name])

    def last_words(self):
        path = os.path.join(self.job.results, 'emulator.log')
        with open(path, errors='replace') as stream:
            lines = [line.strip() for line in stream if line.strip()]
        return lines[-1] if lines else 'no message'

    def _on_control(self, data):
        lines = (self.control_rest + data).split(b'\n')
        self.control_rest = lines.pop()
        self.messages += [line.decode(errors='replace') for line in lines]

    def watch_also(self, fileobj, handler):
        self.selector.register(fileobj, selectors.EVENT_READ, handler)

    def poll(self, timeout):
        """Pass on what arrived; returns whether the emulator still runs."""
        for key, _ in self.selector.select(timeout):
            if not isinstance(key.fileobj, socket.socket):
                key.data(None)
                continue
            try:
                data = key.fileobj.recv(65536)
            except BlockingIOError:
                continue
            except ConnectionError:
                data = b''
            if data:
                key.data(data)
            else:
                self.selector.unregister(key.fileobj)
        self.console.poll()
        return self.process.poll() is None

    def drain(self):
        """Everything the channels still hold, after the emulator ended."""
        while any(isinstance(key.fileobj, socket.socket)
                  for key in self.selector.get_map().values()):
            self.poll(0.5)

    def stop(self):
        """End the emulator (ours only) and remove the folder."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
            self.drain()
            self.log.close()
        self.console.poll()
        self.console.end()
        self.selector.close()
        shutil.rmtree(self.folder, ignore_errors=True)
