# SPDX-License-Identifier: GPL-2.0-or-later
"""What somebody does with virsh, as rows (harness.rows) of a Journey."""

from harness.qemu import GuestSpec
from harness.rows import Rows, check, reached
from domain import NAME, Domain
from host import Lab

BANDWIDTH = ('--bandwidth', 24, '--postcopy-bandwidth', 2)
ROWS = Rows()
row = ROWS.row


def served_by_exits(counters):
    check(counters.get('status') == 'finished',
          f'KVM userfault was not used: {counters}')
    reached(counters['exits'] and counters['pages-vcpu'],
            f'KVM userfault served nothing: {counters}')


class Journey:
    """The subject of a row: a lab and a domain, once started."""

    def __init__(self, folder, patience):
        self.folder = folder
        self.patience = patience
        self.lab = self.domain = None

    def start(self, options=(), **lab):
        """A domain that runs on west; @options: of QEMU, @lab: of Lab."""
        self.lab = Lab(self.folder, self.patience, **lab)
        self.lab.start()
        spec = GuestSpec(cpus=2, memory_mib=160, hot_mib=16, slow_us=200)
        self.domain = Domain(self.lab, spec, options)
        self.domain.boot()
        return self.domain

    def stop(self):
        if self.domain is not None:
            self.domain.close()
        if self.lab is not None:
            self.lab.stop()


def status_of(domain, host, field):
    """A line of /proc/PID/status of the domain's QEMU on @host."""
    text = host.inside('cat', f'/proc/{domain.emulator(host)}/status').stdout
    return [line.split()[1] for line in text.splitlines()
            if line.startswith(field + ':')][0]


def reason_of(host):
    """Why the domain is in its state: "(post-copy)"; empty without a domain."""
    said = host.virsh('domstate', NAME, '--reason', check=False)
    return said.stdout.strip().partition(' ')[2] if not said.returncode else ''


def migrated(domain, *words):
    """A whole migration by one command; the counters."""
    migration = domain.migrate(*BANDWIDTH, *words)
    domain.follow()
    code, said = domain.ended(migration)
    check(code == 0, f'virsh migrate ended with {code}: {said}')
    domain.check_memory()
    return domain.counters()


@row('virsh', 'migrate --postcopy-after-precopy, unprivileged, seccomp')
def after_precopy(journey):
    domain = journey.start()
    west, east = domain.lab.west, domain.lab.east
    counters = migrated(domain, '--postcopy-after-precopy')
    served_by_exits(counters)
    check(status_of(domain, east, 'Uid') != '0', 'QEMU runs as root')
    check(status_of(domain, east, 'Seccomp') == '2', 'seccomp is off')
    check(int(status_of(domain, east, 'CapEff'), 16) == 0,
          'QEMU has capabilities')
    check(NAME not in west.virsh('list', '--name').stdout.split(),
          'the domain is still on the source')


@row('virsh', 'migrate-postcopy, forbidden by migration.postcopy-userfault=off')
def by_command(journey):
    domain = journey.start(('-global', 'migration.postcopy-userfault=off'))
    west = domain.lab.west
    migration = domain.migrate(*BANDWIDTH)
    domain.follow()
    domain.until(lambda: domain.monitor(west, 'query-migrate').get('status')
                 == 'active', 'the migration does not begin')
    west.virsh('migrate-postcopy', NAME)
    code, said = domain.ended(migration)
    check(code == 0, f'virsh migrate ended with {code}: {said}')
    domain.check_memory()
    counters = domain.counters()
    check(counters.get('status') == 'off' and not counters['exits']
          and counters['pages-userfaultfd'],
          f'userfault was to be off: {counters}')


@row('virsh', 'no access to /dev/userfaultfd: one line says what is needed')
def no_permission(journey):
    domain = journey.start(uffd={'east': 'root:root 600'})
    migration = domain.migrate('--postcopy-after-precopy', *BANDWIDTH)
    code, said = domain.ended(migration)
    check(code != 0, 'the migration went through without permission')
    check('/dev/userfaultfd' in said and 'read and write' in said,
          f'virsh does not say what is needed: {said}')
    # The guest goes on where it was.
    domain.check_memory()
    check(domain.lab.west.virsh('domstate', NAME).stdout.strip() == 'running',
          'the domain does not run on the source')


@row('virsh', 'connections are reset, migrate --postcopy-resume')
def resume(journey):
    domain = journey.start()
    west, east = domain.lab.west, domain.lab.east
    migration = domain.migrate('--postcopy-after-precopy', *BANDWIDTH)
    domain.follow()
    # Before libvirt has said so on both sides, it destroys the domain on east
    # when it loses its own connection.
    domain.until(lambda: reason_of(east) == '(post-copy)', 'no postcopy')
    domain.watched = False
    # All connections between the hosts, as by a firewall that forgets them
    west.inside('ss', '-K', 'dst', east.address)
    code, said = domain.ended(migration)
    check(code != 0, 'virsh did not notice that its connection is gone')
    # Meanwhile libvirt lets nobody ask the monitor.
    for host in (west, east):
        domain.until(lambda host=host: reason_of(host) == '(post-copy failed)',
                     f'{host.name} does not notice that the connection is gone')
    migration = domain.migrate('--postcopy-resume')
    code, said = domain.ended(migration)
    check(code == 0, f'virsh migrate --postcopy-resume: {code}: {said}')
    domain.watched = True
    domain.check_memory()
    counters = domain.counters()
    served_by_exits(counters)
    reached(counters['resent'], f'nothing was asked for again: {counters}')
