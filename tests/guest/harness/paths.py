# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the build put what tests run.

Each may be replaced by an environment variable of the name given, which is
how a test is pointed at another QEMU (a stock one, say) or another kernel.
"""

import os
import sys
from pathlib import Path

from . import HarnessError

REPOSITORY = Path(__file__).resolve().parents[3]


def build_folder():
    return Path(os.environ.get('BUILD', REPOSITORY / 'build')).resolve()


def existing(variable, default, what, maker='make'):
    """
    @default, or what the environment variable @variable says; HarnessError,
    which tells to run @maker, when it is not there.
    """
    path = Path(os.environ.get(variable, default))
    if not path.exists():
        raise HarnessError(f'{what} is missing: {path} (run {maker}, or set '
                           f'{variable})')
    return path


def qemu():
    return existing('USERFAULT_QEMU',
                    build_folder() / 'qemu-build' / 'qemu-system-x86_64',
                    'QEMU')


def kernel():
    return existing('USERFAULT_KERNEL', build_folder() / 'bzImage',
                    'the kernel of test host and guests')


def guest_initramfs():
    return existing('USERFAULT_GUEST', build_folder() / 'guest/guest.cpio',
                    "the guest's initramfs")


def import_qmp():
    """QEMU's own library for its monitor, from the tree that was built."""
    folder = existing('USERFAULT_QEMU_PYTHON',
                      build_folder() / 'qemu' / 'python',
                      "QEMU's Python library")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    from qemu import qmp
    from qemu.qmp import legacy
    return qmp, legacy
