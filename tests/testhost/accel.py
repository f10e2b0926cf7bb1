# SPDX-License-Identifier: GPL-2.0-or-later
"""Which accelerator runs the test host: the emulator, unless nested KVM works.

That /dev/kvm exists says nothing: it may be unable to run an ordinary kernel,
or to run a hypervisor in it.  So it is tried: the same kernel is booted with
KVM and a small virtual machine run inside.  What came out is remembered until
the next boot of this machine, another kernel or another QEMU.
"""

import hashlib
import json
import os
import subprocess
import tempfile

LIMIT = 40
HERE = os.path.dirname(os.path.abspath(__file__))


def _key(options):
    total = hashlib.sha256()
    with open('/proc/sys/kernel/random/boot_id', 'rb') as stream:
        total.update(stream.read())
    for path in (options.kernel, options.qemu):
        status = os.stat(path)
        total.update(('%s %d %d ' % (path, status.st_size, status.st_mtime_ns)).encode())
    return total.hexdigest()


def _try(options, launcher):
    """Whether a test host on KVM runs a virtual machine; (bool, reason)."""
    with tempfile.TemporaryDirectory(prefix='testhost-trial-', dir='/tmp') as results:
        try:
            done = subprocess.run(
                [launcher, '--accel', 'kvm', '--quiet', '--kernel', options.kernel,
                 '--qemu', options.qemu, '--results', results, '--time', '20',
                 '--smp', '2', '--mem', '2', '--boots', '1',
                 '--', os.path.join(HERE, 'kvm-trial')],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT,
                stdin=subprocess.DEVNULL, universal_newlines=True, errors='replace',
                check=False)
        except subprocess.TimeoutExpired:
            return False, 'no answer within %d s' % LIMIT
    if done.returncode == 0 and 'nested KVM works' in done.stdout:
        return True, ''
    lines = [line for line in done.stderr.splitlines() if line.startswith('testhost: ')
             and not line.startswith('testhost:   ')]
    text = lines[0][len('testhost: '):] if lines else done.stdout.strip()
    return False, text or 'exit code %d' % done.returncode


def choose(options, launcher, note):
    """'kvm' or 'tcg'."""
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
        return 'tcg'
    folder = os.path.join(os.environ.get('XDG_CACHE_HOME') or
                          os.path.expanduser('~/.cache'), 'qemu-kvm-userfault')
    path = os.path.join(folder, 'accel-trial.json')
    key = _key(options)
    try:
        with open(path) as stream:
            known = json.load(stream)
    except (OSError, ValueError):
        known = {}
    if known.get('key') != key:
        works, reason = _try(options, launcher)
        known = {'key': key, 'works': works, 'reason': reason}
        os.makedirs(folder, exist_ok=True)
        with open(path + '.%d' % os.getpid(), 'w') as stream:
            json.dump(known, stream)
        os.replace(stream.name, path)
        note('nested KVM was tried: %s' % (
            'it works, using it' if works else 'emulating instead (%s)' % reason))
    return 'kvm' if known['works'] else 'tcg'
