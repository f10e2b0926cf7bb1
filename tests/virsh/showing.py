# SPDX-License-Identifier: GPL-2.0-or-later
"""What virsh shows of a migration that KVM userfault serves; a row of cases."""

import json
import re
import subprocess

from harness.rows import check
from cases import BANDWIDTH, row, served_by_exits
from domain import NAME

SUPPORTED = json.dumps({'execute': 'qom-get', 'arguments': {
    'path': '/machine/kvm-accel', 'property': 'userfault-supported'}})


class Events:
    """What `virsh qemu-monitor-event` prints of the domain on @host.  A context
    manager."""

    def __init__(self, host, log):
        self.log = log
        self.command = host.virsh_command(
            'qemu-monitor-event', '--event', 'POSTCOPY_USERFAULT', '--loop')

    def __enter__(self):
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def statuses(self):
        return re.findall(r'"status":"(\w+)"', self.log.read_text())


def requests(host):
    """As domjobinfo counts them while the domain migrates away from @host"""
    said = host.virsh('domjobinfo', NAME, check=False).stdout
    check('userfault' not in said, f'domjobinfo knows more than it did: {said}')
    found = re.search(r'^Postcopy requests: +(\d+)', said, re.M)
    return int(found.group(1)) if found else 0


@row('virsh', 'domjobinfo counts requests, event and monitor say how')
def showing(journey):
    domain = journey.start()
    west, east = domain.lab.west, domain.lab.east
    with Events(east, domain.lab.folder / 'events') as events:
        migration = domain.migrate(*BANDWIDTH, '--postcopy-after-precopy')
        domain.follow()
        domain.until(lambda: requests(west), 'domjobinfo counts no requests')
        domain.until(lambda: events.statuses()[:1] == ['active'],
                     'no event said that KVM userfault is in use')
        said = east.virsh('domjobinfo', NAME, check=False).stdout
        check('only on the source' in said or 'None' in said,
              f'domjobinfo on the destination: {said}')
        code, said = domain.ended(migration)
        check(code == 0, f'virsh migrate ended with {code}: {said}')
        domain.until(lambda: events.statuses() == ['active', 'finished'],
                     f'events: {events.statuses()}')
    domain.check_memory()
    counters = domain.counters()
    served_by_exits(counters)
    said = east.virsh('qemu-monitor-command', '--hmp', NAME,
                      'info migrate').stdout
    check('postcopy userfault: finished' in said
          and f'pages: vcpu {counters["pages-vcpu"]},' in said,
          f'info migrate: {said}')
    said = east.virsh('qemu-monitor-command', NAME, SUPPORTED).stdout
    check(json.loads(said)['return'] is True, f'qom-get: {said}')
