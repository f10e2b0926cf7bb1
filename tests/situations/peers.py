# SPDX-License-Identifier: GPL-2.0-or-later
"""Peers: QEMUs without this project, from and to which a guest migrates.

They are Debian's, as scripts/userfault/peers.py puts them into build/peers.
"""

from harness import paths
from situation import Skip, check, reached, row, small_guest, small_migration


def stock_qemu(version):
    path = paths.build_folder() / 'peers' / version / 'qemu-system-x86_64'
    if not path.exists():
        raise Skip(f'there is no unmodified QEMU {version} '
                   '(scripts/userfault/peers.py fetches it)')
    return path


def common_guest():
    """A guest that looks the same to QEMUs from 7.2 on."""
    return small_guest(machine='pc-q35-7.2', cpu='qemu64')


def walking_guest():
    """Likewise; of the pages that it needs most are asked for ahead."""
    return small_guest(machine='pc-q35-7.2', cpu='qemu64', sequential=True,
                       hot_mib=48)


def check_running(qemu, version):
    """The row is worthless if it runs another QEMU than it says."""
    found = qemu.command('query-version')['qemu']
    check((found['major'], found['minor'])
          == tuple(int(word) for word in version.split('.')),
          f'{qemu.name} is QEMU {found["major"]}.{found["minor"]}')


def from_stock(s, version, preempt, spec=None):
    """Stock source, destination of this project; its counters."""
    s.spec = spec or common_guest()
    s.boot('', binary=stock_qemu(version))
    check_running(s.source, version)
    s.prepare(s.accel_option)
    s.wait_for_beats(4)
    return s.whole(small_migration(preempt=preempt))


def ahead_from_stock(s, version, preempt):
    """
    The source answers requests for several pages, too.  How many there are
    depends on the addresses that the guest's kernel has given its walkers:
    where these descend, each page has its own.
    """
    c = from_stock(s, version, preempt, walking_guest())
    several = c['readahead-pages'] - c['readahead-requests']
    print(f'  {c["readahead-pages"]} pages asked for ahead in '
          f'{c["readahead-requests"]} requests, {c["readahead-used"]} used',
          flush=True)
    reached(several > 10, f'{c["readahead-pages"]} pages were asked for ahead in '
                          f'{c["readahead-requests"]} requests')


def to_stock(s, version, preempt):
    """This project's QEMU as source, stock destination."""
    s.spec = common_guest()
    s.boot(s.accel_option)
    s.prepare('', binary=stock_qemu(version))
    check_running(s.destination, version)
    s.wait_for_beats(4)
    s.into_postcopy(small_migration(preempt=preempt))
    s.finish()
    s.check_memory()
    check(not s.counters(), 'the destination has this project in it')
    asked = s.source.command('query-migrate')['ram']['postcopy-requests']
    reached(asked > 20, f'the destination asked for {asked} pages only')


@row('peers', 'from Debian 12 (7.2)', full=True)
def from_7_2(s):
    from_stock(s, '7.2', preempt=False)


@row('peers', 'from Debian 12 (7.2), preempt')
def from_7_2_preempt(s):
    from_stock(s, '7.2', preempt=True)


@row('peers', 'from Debian 13 (10.0), preempt')
def from_10_0_preempt(s):
    from_stock(s, '10.0', preempt=True)


@row('peers', 'read-ahead from Debian 12 (7.2)', full=True)
def ahead_from_7_2(s):
    ahead_from_stock(s, '7.2', preempt=False)


@row('peers', 'read-ahead from Debian 12 (7.2), preempt', full=True)
def ahead_from_7_2_preempt(s):
    ahead_from_stock(s, '7.2', preempt=True)


@row('peers', 'read-ahead from Debian 13 (10.0), preempt')
def ahead_from_10_0_preempt(s):
    ahead_from_stock(s, '10.0', preempt=True)


@row('peers', 'to Debian 12 (7.2)', full=True)
def to_7_2(s):
    to_stock(s, '7.2', preempt=False)


@row('peers', 'to Debian 12 (7.2), preempt', full=True)
def to_7_2_preempt(s):
    to_stock(s, '7.2', preempt=True)


@row('peers', 'to Debian 13 (10.0), preempt')
def to_10_0_preempt(s):
    to_stock(s, '10.0', preempt=True)
