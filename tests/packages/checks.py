# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of tests/packages/run, in the order in which they run.

All work on one clean Debian, which the first makes and the last removes if it
succeeded; one that finds less than it needs says so.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from harness import paths
from harness.rows import Rows, Skip, check
from root import Root, last_line

ROWS = Rows()
HERE = Path(__file__).resolve().parent
LAUNCH = HERE.parent / 'testhost' / 'launch'
EMULATOR = 'qemu-system-x86-userfault'
PROGRAM = '/usr/bin/qemu-system-x86_64-userfault'
STOCK_PROGRAM = '/usr/bin/qemu-system-x86_64'
# The distribution's, to be installed beside ours
STOCK = ('qemu-system-x86', 'linux-image-cloud-amd64')
DOCUMENTS = (f'/usr/share/doc/{EMULATOR}/copyright',
             f'/usr/share/doc/{EMULATOR}/html/index.html',
             '/usr/share/man/man7/qemu-kvm-userfault.7.gz',
             '/usr/share/man/man1/qemu-system-x86_64-userfault.1.gz')


def newest(pattern, command):
    """A package that @command made"""
    found = sorted(paths.build_folder().glob(pattern), key=os.path.getmtime)
    check(found, f'there is no {pattern} in the build folder; run {command}')
    return found[-1]


class Trial:
    """What the rows share; each gets it as its subject."""

    def __init__(self, top, emulator=None, kernel=None):
        self.top = Path(top)
        self.root = Root(self.top / 'root', self.top / 'log')
        self.chosen = emulator, kernel
        self.folder = None          # of the row's logs
        self.strays = []            # before and after our installation

    def row(self, folder, _args, _patience):
        self.folder = Path(folder)
        self.folder.mkdir()
        return self

    def stop(self):
        """The log of all rows so far, for the row that failed"""
        if self.root.log.exists():
            shutil.copy(self.root.log, self.folder / 'log')

    def packages(self):
        emulator, kernel = self.chosen
        return (emulator or newest(f'{EMULATOR}_*.deb', 'make deb'),
                kernel or newest('linux-image-*-userfault-testhost_*.deb',
                                 'make kernel-deb KERNEL_CONFIG=testhost'))

    @property
    def kernel(self):
        """Name of the kernel's package"""
        return self.packages()[1].name.split('_')[0]

    @property
    def release(self):
        return self.kernel.replace('linux-image-', '', 1)

    def need(self, *packages):
        """The row cannot begin without them."""
        check(self.root.exists(), 'there is no clean Debian; run the row install')
        text = self.root.run('dpkg-query', '-W', '-f',
                             '${db:Status-Status} ${Package}\n')
        for package in packages:
            check(f'installed {package}' in text.splitlines(),
                  f'{package} is not installed; see the rows before')


@ROWS.row('install', 'emulator and kernel into a clean Debian', limit=1800)
def install(t):
    if os.geteuid():
        raise Skip('needs root')
    if not shutil.which('mmdebstrap'):
        raise Skip('needs mmdebstrap')
    packages = t.packages()
    t.top.mkdir(exist_ok=True)
    t.root.log.unlink(missing_ok=True)
    t.root.create()
    t.strays = [t.root.stray_files()]
    t.root.apt('update')
    # What they depend on is to be enough.
    t.root.apt('install', '--no-install-recommends', *t.root.put(*packages))
    t.strays.append(t.root.stray_files())
    t.need(EMULATOR, t.kernel)


@ROWS.row('install', "the distribution's beside them", limit=1800)
def install_stock(t):
    t.need(EMULATOR, t.kernel)
    t.root.apt('install', '--no-install-recommends', *STOCK)
    t.need(EMULATOR, t.kernel, *STOCK)
    for path in (PROGRAM, STOCK_PROGRAM):
        t.root.run(path, '--version')
    for package in (EMULATOR, t.kernel):
        changed = t.root.run('dpkg', '--verify', package)
        check(not changed.strip(), f'{package} is not as packed: {last_line(changed)}')
    wrong = t.root.run('dpkg', '--audit')
    check(not wrong.strip(), f'dpkg --audit: {last_line(wrong)}')


@ROWS.row('emulator', 'knows KVM userfault')
def emulator_knows(t):
    t.need(EMULATOR)
    said = t.root.run(PROGRAM, '--version')
    check('(kvm-userfault)' in said, 'another emulator: ' + said.splitlines()[0])
    said = t.root.run(PROGRAM, '-accel', 'kvm,help')
    check(re.search(r'^ *userfault=', said, re.MULTILINE),
          '-accel kvm,help does not name userfault: ' + last_line(said))


@ROWS.row('emulator', 'finds firmware and key maps')
def emulator_firmware(t):
    """Everything that a machine is made of is there without -L."""
    t.need(EMULATOR)
    t.root.run('sh', '-c', 'echo quit | ' + ' '.join([
        PROGRAM, '-nodefaults', '-accel', 'tcg', '-machine', 'q35', '-vga', 'std',
        '-device', 'virtio-net-pci', '-vnc', 'unix:/tmp/screen', '-k', 'de',
        '-S', '-monitor', 'stdio']))


@ROWS.row('emulator', 'has its documents')
def emulator_documents(t):
    t.need(EMULATOR)
    for path in DOCUMENTS:
        check(path in t.root.owned(EMULATOR), f'the package lacks {path}')
        text = t.root.run('zcat', '-f', path)
        check('userfault' in text, f'{path} does not speak of userfault')


@ROWS.row('kernel', 'has KVM userfault')
def kernel_options(t):
    t.need(t.kernel)
    boot = [f'/boot/{name}-{t.release}' for name in ('vmlinuz', 'config', 'System.map')]
    for path in boot:
        check(t.root.path(path).exists(), f'there is no {path}')
    options = t.root.path(boot[1]).read_text().splitlines()
    check('CONFIG_KVM_USERFAULT=y' in options, f'{boot[1]}: no CONFIG_KVM_USERFAULT')
    # The test host's may break its promises.
    check('CONFIG_KVM_USERFAULT_BREAK=y' not in options
          or t.release.endswith('-testhost'),
          f'{boot[1]}: CONFIG_KVM_USERFAULT_BREAK is for tests')


@ROWS.row('kernel', 'gets an initial RAM disk as others do')
def kernel_initrd(t):
    """Through the hooks of the distribution, which run when it is installed"""
    t.need(t.kernel, *STOCK)
    t.root.apt('install', '--reinstall', *t.root.put(t.packages()[1]))
    check(t.root.path(f'/boot/initrd.img-{t.release}').exists(),
          f'there is no /boot/initrd.img-{t.release}')


@ROWS.row('lintian', 'finds no error', limit=900)
def lintian(t):
    if not shutil.which('lintian'):
        raise Skip('needs lintian')
    done = subprocess.run(
        ['lintian', '--allow-root', '--tag-display-limit', '0', *t.packages()],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    (t.folder / 'lintian').write_text(done.stdout)
    print(''.join(f'  {line}\n' for line in done.stdout.splitlines()), end='')
    check(done.returncode == 0, last_line(done.stdout))


@ROWS.row('migrate', 'with this emulator on this kernel', limit=1500)
def migrate(t):
    t.need(EMULATOR, t.kernel)
    results = t.folder / 'testhost'
    done = subprocess.run(
        [LAUNCH, '--kernel', t.root.path(f'/boot/vmlinuz-{t.release}'),
         '--results', results, '--', HERE / 'migrate', t.root.folder, t.release,
         PROGRAM], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors='replace', check=False)
    (t.folder / 'launch').write_text(done.stdout)
    print(''.join(f'  {line}\n' for line in done.stdout.splitlines()), end='')
    check(done.returncode == 0, last_line(done.stdout))
    check('served by exits' in done.stdout, 'it did not come to the counters')


@ROWS.row('remove', 'nothing stays behind', limit=900)
def remove(t):
    t.need(EMULATOR, t.kernel, *STOCK)
    check(len(t.strays) == 2, 'only together with the row install')
    before, after = t.strays
    brought = {package: t.root.owned(package) for package in (EMULATOR, t.kernel)}
    t.root.apt('remove', '--autoremove', *brought)
    known = t.root.run('dpkg-query', '-W', '-f', '${db:Status-Status} ${Package}\n')
    check(not any(f'installed {package}' in known.splitlines() for package in brought),
          'dpkg still has it installed')
    # A folder may be another package's as well, /lib a link to one.
    files = [path for paths_of in brought.values() for path in paths_of
             if not t.root.path(path).is_dir()
             and (t.root.path(path).is_symlink() or t.root.path(path).exists())]
    strays = t.root.stray_files()
    files += sorted(strays & (after - before))
    files += sorted(path for path in strays if 'userfault' in path)
    check(not files, f'{len(files)} files are left, the first is {(files or [0])[0]}')
    t.root.run(STOCK_PROGRAM, '--version')
    # dpkg keeps a note of a package with a script for its removal until then.
    t.root.run('dpkg', '--purge', *brought)
    known = t.root.run('dpkg-query', '-W', '-f', '${Package}\n').split()
    check(not set(known) & set(brought), 'dpkg still knows it after a purge')
    t.root.clear()
