# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests need to migrate the verifying guest: QEMU processes, QMP, the
guest's console, the steps of a postcopy migration.

    paths       where the build put QEMU, its Python library, kernel, guest
    kvm         does this machine's KVM keep the promise of userfault?
    qemu        one QEMU process and its monitor
    console     what the guest says, before and after the switchover
    migration   a source, a destination and the way from one to the other
    histogram   latencies
    logs        kept after a failure
    svg         pictures of results
    webpage     a page around them

One thread calls everything; only console runs a reader thread of its own.
Expected outcomes are values.  What a test cannot go on from is a
HarnessError, with one line that says what happened.
"""


class HarnessError(Exception):
    """The test cannot go on; the message is one clear line."""


class Missed(HarnessError):
    """
    What the test is about did not come about: nothing was tried, so nothing
    failed, and another try may get there.
    """


class GuestError(HarnessError):
    """The guest saw a wrong byte, died, or stopped making progress."""
