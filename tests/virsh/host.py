# SPDX-License-Identifier: GPL-2.0-or-later
"""Two "hosts" on one machine: a libvirtd each, in namespaces of its own, and a
link between them.

Needs root, libvirtd and virsh.  Everything ends with the Lab; what is written
stays in its folder.
"""

import glob
import os
import shutil
import subprocess
import time
from pathlib import Path

from harness import HarnessError, paths

HERE = Path(__file__).resolve().parent
EMULATOR = 'qemu-system-x86_64'
NAMES = ('west', 'east')
ADDRESSES = {'west': '10.211.77.1', 'east': '10.211.77.2'}
START_LIMIT = 90                # seconds, times patience

DAEMON = '''\
host_uuid = "{uuid}"
unix_sock_dir = "{own}/sock"
auth_unix_ro = "none"
auth_unix_rw = "none"
listen_tls = 0
listen_tcp = 1
listen_addr = "{address}"
auth_tcp = "none"
keepalive_interval = 5
keepalive_count = 4
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
'''
# As a distribution has it where a test does not need something else: an
# unprivileged user, seccomp, a /dev with nothing in it but what is named.
DRIVER = '''\
security_driver = "none"
user = "libvirt-qemu"
group = "kvm"
dynamic_ownership = 0
remember_owner = 0
namespaces = [ {namespaces} ]
cgroup_controllers = []
cgroup_device_acl = [ "/dev/null", "/dev/full", "/dev/zero", "/dev/random",
    "/dev/urandom", "/dev/ptmx", "/dev/kvm", "/dev/userfaultfd" ]
stdio_handler = "file"
set_process_name = 0
seccomp_sandbox = 1
keepalive_interval = 5
keepalive_count = 4
'''


def run(argv, limit=60, check=True):
    """Run a command; HarnessError with its last words if it fails."""
    done = subprocess.run([str(word) for word in argv], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          universal_newlines=True, timeout=limit, check=False)
    if check and done.returncode:
        raise HarnessError(f'{" ".join(map(str, argv))}: '
                           f'{" ".join(done.stdout.split())[-400:]}')
    return done


class Host:
    """One of the two.  @uffd: who may open /dev/userfaultfd on it."""

    def __init__(self, lab, name, uffd):
        self.lab = lab
        self.name = name
        self.address = ADDRESSES[name]
        self.own = lab.folder / name
        self.uffd = uffd
        self.process = None
        self.pid = None         # of host-init, as seen from outside

    @property
    def uri(self):
        return f'qemu+unix:///system?socket={self.own}/sock/libvirt-sock'

    def start(self):
        for part in ('etc', 'sock', 'guest', 'log'):
            (self.own / part).mkdir(parents=True)
        (self.own / 'guest').chmod(0o1777)
        (self.own / 'etc/libvirtd.conf').write_text(DAEMON.format(
            uuid=f'11111111-2222-4333-8444-{NAMES.index(self.name):012}',
            own=self.own, address=self.address))
        (self.own / 'etc/qemu.conf').write_text(DRIVER.format(
            namespaces='"mount"' if self.lab.mount_namespaces else ''))
        self.process = subprocess.Popen(
            ['setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount',
             '--propagation', 'private', '--uts', '--net', '--pid', '--fork',
             '--kill-child', HERE / 'host-init'],
            stdin=subprocess.DEVNULL, stdout=open(self.own / 'log/init', 'wb'),
            stderr=subprocess.STDOUT,
            env=dict(os.environ, LAB=str(self.lab.folder), HOST=self.name,
                     ADDRESS=self.address, UFFD=self.uffd))
        self.pid = self.lab.wait(self._child, f'{self.name}: no init')

    def _child(self):
        """The pid of host-init, the only child of unshare, or None."""
        self.check_alive()
        for path in Path('/proc').glob('[0-9]*/stat'):
            try:
                words = path.read_text().rpartition(')')[2].split()
            except OSError:
                continue        # it has ended meanwhile
            if int(words[1]) == self.process.pid:
                return int(path.parent.name)
        return None

    def check_alive(self):
        if self.process.poll() is not None:
            words = (self.own / 'log/init').read_text(errors='replace').split('\n')
            raise HarnessError(f'{self.name}: its init ended: '
                               f'{" ".join(words[-3:])}')

    def wait_for_daemon(self):
        def answers():
            self.check_alive()
            return ((self.own / 'sock/libvirt-sock').exists()
                    and self.virsh('version', check=False).returncode == 0)
        self.lab.wait(answers, f'{self.name}: libvirtd does not answer')

    def inside(self, *argv):
        """Run a command in the namespaces of this host."""
        return run(['nsenter', '-t', self.pid, '-m', '-u', '-n', '-p', '--',
                    *argv])

    def virsh(self, *words, limit=60, check=True):
        return run(self.virsh_command(*words), limit, check)

    def virsh_command(self, *words):
        return ['virsh', '-q', '-k', '0', '-c', self.uri, *map(str, words)]

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Lab:
    """Both hosts, from start() to stop().
    @uffd: {name of a host: permissions of /dev/userfaultfd}
    @mount_namespaces: whether libvirt gives each QEMU a /dev of its own"""

    def __init__(self, folder, patience=1.0, uffd=None, mount_namespaces=True):
        self.folder = Path(folder)
        self.patience = patience
        self.mount_namespaces = mount_namespaces
        self.hosts = {name: Host(self, name, (uffd or {}).get(
            name, 'root:kvm 660')) for name in NAMES}
        self.west, self.east = self.hosts.values()

    def wait(self, condition, what, limit=START_LIMIT):
        """The first true value of @condition()."""
        end = time.monotonic() + limit * self.patience
        while True:
            found = condition()
            if found:
                return found
            if time.monotonic() > end:
                raise HarnessError(what)
            time.sleep(0.1)

    def start(self):
        """Both daemons answer.  What was started is ended by stop()."""
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o755)
        self._provide()
        for host in self.hosts.values():
            host.start()
        self._connect()
        for host in self.hosts.values():
            host.wait_for_daemon()

    def _provide(self):
        """Copies where an unprivileged user can read them."""
        (self.folder / 'bin').mkdir()
        for source, name in ((paths.qemu(), f'bin/{EMULATOR}'),
                             (paths.kernel(), 'kernel'),
                             (paths.guest_initramfs(), 'initramfs')):
            shutil.copy(source, self.folder / name)
            (self.folder / name).chmod(0o755)
        # Only the driver that is needed: others want a whole system.
        (self.folder / 'drivers').mkdir()
        found = glob.glob('/usr/lib/*/libvirt/connection-driver/'
                          'libvirt_driver_qemu.so')
        if not found:
            raise HarnessError("libvirt's QEMU driver is not installed")
        (self.folder / 'drivers' / Path(found[0]).name).symlink_to(found[0])

    def _connect(self):
        """A veth pair between the two, and nothing else."""
        west, east = self.west, self.east
        west.inside('ip', 'link', 'add', 'link0', 'type', 'veth', 'peer', 'name',
                    'link1')
        # The pid as seen from outside, hence without west's /proc
        run(['nsenter', '-t', west.pid, '-n', '--', 'ip', 'link', 'set', 'link1',
             'netns', east.pid])
        for host, device in ((west, 'link0'), (east, 'link1')):
            host.inside('ip', 'address', 'add', f'{host.address}/30', 'dev', device)
            host.inside('ip', 'link', 'set', device, 'up')

    def stop(self):
        for host in self.hosts.values():
            host.stop()
