# SPDX-License-Identifier: GPL-2.0-or-later
"""Channels and phases: the ways over which a migration goes, and its moments."""

import re
import socket

from footprint import Leaks, open_files
from harness import HarnessError, Missed
from harness.migration import MIB
from relay import free_port
from situation import (check, preloaded, reached, refused, row, small_guest,
                       small_migration, wanted)
from sockets import is_connected, sends_at_once, tcp_sockets
from tls import certificates, shared_key

MULTI_CHANNEL = 'Migration requires multi-channel URIs'
NO_MULTIFD = 'Postcopy is not yet compatible with multifd'


PAGE = 4096


def quick(**changes):
    """With a background stream that is done soon"""
    return small_migration(postcopy_bandwidth=8 * MIB, **changes)


def pages_left(c):
    """to postcopy, of its counters"""
    return wanted(c) + c['pages-background']


def loopback():
    return f'tcp:127.0.0.1:{free_port()}'


@row('channels', 'preempt, unix socket')
def preempt(s):
    s.start()
    s.whole(quick())


def over_tcp(s, preempt):
    """Neither requests nor pages wait until earlier ones are acknowledged."""
    s.start()
    s.into_postcopy(quick(preempt=preempt), loopback())
    for qemu in (s.source, s.destination):
        # Beside those of pages, the destination has one that listens.
        sockets = [sock for sock in tcp_sockets(qemu) if is_connected(sock)]
        late = sum(not sends_at_once(sock) for sock in sockets)
        # The destination sends nothing on the preempt channel.
        allowed = int(preempt and qemu is s.destination)
        reached(len(sockets) == 1 + preempt, f'the {qemu.name} has '
                f'{len(sockets)} connections: too late, or one too many')
        check(late <= allowed,
              f'TCP keeps back what the {qemu.name} sends, on {late} of '
              f'{len(sockets)} connections')
        for sock in sockets:
            sock.close()
    s.conclude()


@row('channels', 'no preempt, tcp')
def no_preempt(s):
    over_tcp(s, False)


@row('channels', 'preempt, tcp')
def preempt_tcp(s):
    over_tcp(s, True)


@row('channels', 'switchover at once')
def at_once(s):
    """So that the destination has next to nothing."""
    s.start()
    c = s.whole(quick(bandwidth=MIB), passes=0)
    reached(pages_left(c) * PAGE > s.spec.hot_mib * MIB,
            f'only {pages_left(c)} pages were left to postcopy')


def walk(s, readahead, **changes):
    """A guest that walks its memory; its counters"""
    s.spec = small_guest(sequential=True, hot_mib=48)
    s.start(destination=('-global',
                         f'migration.postcopy-userfault-readahead={readahead}',
                         '-D', str(s.folder / 'trace'),
                         '-trace', 'kvm_userfault_prefault'))
    c = s.whole(small_migration(**changes))
    print(f'  {wanted(c)} pages wanted: {c["exits"]} exits, '
          f'{c["readahead-pages"]} pages asked for ahead in '
          f'{c["readahead-requests"]} requests, {c["readahead-used"]} used, '
          f'{c["readahead-dropped"]} dropped', flush=True)
    return c


def mapped_along(s):
    """Pages that KVM has mapped together with one that a vCPU had come to"""
    trace = (s.folder / 'trace').read_text(errors='replace')
    sizes = [int(size, 16) for size in
             re.findall(r'^kvm_userfault_prefault .* mapped (0x\w+)', trace, re.M)]
    reached(sizes, 'KVM has mapped no page ahead')
    return sum(size // PAGE - 1 for size in sizes if size)


def check_walked(c, least):
    """The share @least of the pages came ahead, and was not in vain."""
    reached(c['pages-readahead'] > wanted(c) * least
            and c['readahead-used'] > c['readahead-pages'] * least,
            f'{c["pages-readahead"]} of {wanted(c)} pages came ahead, '
            f'{c["readahead-used"]} of {c["readahead-pages"]} were used')


@row('channels', 'read-ahead, preempt')
def readahead_preempt(s):
    c = walk(s, 32)
    check_walked(c, 0.6)
    along = mapped_along(s)
    print(f'  {along} pages mapped along', flush=True)
    check(along > wanted(c) // 50, f'{along} pages were mapped along')


@row('channels', 'read-ahead, no preempt', full=True)
def readahead_no_preempt(s):
    """The background stream goes on behind each page that was wanted, so that
    many pages are there before a walk is known."""
    check_walked(walk(s, 32, preempt=False), 0.2)


@row('channels', 'read-ahead is off')
def readahead_off(s):
    c = walk(s, 0)
    check(not c['readahead-pages'] and not c['pages-readahead'],
          f'{c["readahead-pages"]} pages were asked for ahead')
    check(not mapped_along(s), 'KVM maps pages that nobody has walked to')


@row('channels', 'switchover after many passes', full=True)
def many_passes(s):
    s.start()
    s.whole(quick(bandwidth=96 * MIB, downtime_limit_ms=20),
            passes=6)
    check(s.migration.passes >= 6, f'{s.migration.passes} passes')


def give_socket_pair(s):
    for qemu, end in zip((s.source, s.destination), socket.socketpair()):
        qemu.give_file('way', end.fileno())
        end.close()


@row('channels', 'fd')
def file_descriptor(s):
    """QEMU has one channel then, and refuses preempt."""
    s.start()
    give_socket_pair(s)
    refused(MULTI_CHANNEL, s.begin, uri='fd:way')
    refused(MULTI_CHANNEL, s.source.command, 'migrate', uri='fd:way')
    s.drop_destination()
    s.go_on()
    s.source.command('closefd', fdname='way')
    s.prepare(s.accel_option)
    give_socket_pair(s)
    s.whole(quick(preempt=False), 'fd:way')


def start_with_keys(s, keys, spec):
    s.start(source=keys.source, destination=keys.destination)
    spec.parameters.update(keys.parameters)
    spec.source_parameters.update(keys.source_parameters)


def over_tls(s, keys, spec):
    start_with_keys(s, keys, spec)
    c = s.whole(spec, loopback())
    # The socket below TLS says whether it takes a request.
    reached(c['handoffs'] * 10 < c['requests'],
            f'vCPUs left {c["handoffs"]} of {c["requests"]} requests to others')


@row('channels', 'TLS, preempt')
def tls_preempt(s):
    over_tls(s, shared_key(s.folder.parent / 'tls-key'), quick())


@row('channels', 'TLS, no preempt', full=True)
def tls_no_preempt(s):
    over_tls(s, shared_key(s.folder.parent / 'tls-key'), quick(preempt=False))


@row('channels', 'TLS with certificates', full=True)
def tls_certificates(s):
    over_tls(s, certificates(s.folder.parent / 'tls-x509'), quick())


@row('channels', 'TLS, certificate of somebody else: refused', full=True)
def tls_other_name(s):
    """The source keeps its guest."""
    spec = quick()
    start_with_keys(s, certificates(s.folder.parent / 'tls-other',
                                    'other.invalid'), spec)
    s.begin(spec, loopback())
    refused('Certificate does not match the hostname', s.passes, 1)
    s.drop_destination()
    s.check_memory()


@row('channels', 'multifd for precopy')
def multifd(s):
    """Where QEMU has it; the guest does not notice a refusal."""
    s.start()
    spec = quick(capabilities=('multifd',), preempt=False)
    try:
        s.begin(spec, loopback())
    except HarnessError as error:
        check(NO_MULTIFD in str(error), f'refused, but otherwise: {error}')
        s.migration = None
        s.go_on()
        s.check_memory()
        return
    s.passes(1)
    s.switch_over()
    s.conclude()


def anonymous_kib(qemu):
    """Memory of its own that a process has in RAM"""
    with open(f'/proc/{qemu.process.pid}/status') as stream:
        fields = dict(line.split(':', 1) for line in stream)
    return int(fields['RssAnon'].split()[0])


@row('channels', 'release-ram')
def release_ram(s):
    """The source frees what it has sent."""
    s.start()
    before = anonymous_kib(s.source)
    c = s.whole(quick(capabilities=('release-ram',)))
    freed = (before - anonymous_kib(s.source)) * 1024
    reached(freed > pages_left(c) * PAGE // 2,
            f'the source sent {pages_left(c)} pages in postcopy, and freed '
            f'{freed // PAGE}')


@row('channels', 'blocktime')
def blocktime(s):
    """Exits count as faults of vCPUs: nearly all of the time they took."""
    s.start()
    c = s.whole(quick(capabilities=('postcopy-blocktime',)))
    info = s.destination.command('query-migrate')
    blocked = info['postcopy-vcpu-blocktime']
    # Milliseconds, rounded down for each fault.
    waited = c['latency']['total-ns'] // 1000000
    least = waited // 2 - c['latency']['count']
    check(len(blocked) == s.spec.cpus, f'blocktime of {len(blocked)} vCPUs')
    reached(all(blocked) and least < sum(blocked) < waited * 1.5,
            f'vCPUs were blocked for {blocked} ms, and their exits took '
            f'{waited} ms')


# --- back and forth ---------------------------------------------------------------

@row('channels', 'ping-pong, four times')
def ping_pong_four(s):
    ping_pong(s, 4)


@row('channels', 'ping-pong, ten times', full=True, limit=300)
def ping_pong_ten(s):
    ping_pong(s, 10)


def ping_pong(s, count):
    """Nothing is left behind: by a QEMU that has been destination and then
    source, nor by all of them on the host."""
    files = open_files()
    leaks = Leaks()
    prefix = preloaded(s.folder.parent, 'nothing')
    ping_pong_times(s, count, lambda *_: leaks.moved(s), leaks.waiting, prefix)
    leaks.check()
    s.stop()
    check(open_files() <= files + 64,
          f'{open_files()} files are open on the host, not {files}')


def ping_pong_times(s, count, tell=None, waiting=None, prefix=()):
    """
    @count migrations of one guest, each QEMU the source of the next.
    @waiting(s): called when a destination waits
    @tell(number, counters): called after a migration
    """
    s.boot(s.accel_option, prefix=prefix)
    s.wait_for_beats()
    for number in range(count):
        s.prepare(s.accel_option, prefix=prefix)
        if waiting:
            waiting(s)
        counters = s.whole(quick())
        check(not s.guest.log.error_count(), 'wrong bytes')
        if tell:
            tell(number + 1, counters)
        s.move_in()
