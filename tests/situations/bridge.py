# SPDX-License-Identifier: GPL-2.0-or-later
"""A network namespace with a bridge, for the network cards of guests."""

import os

from netlink import Namespaces, ip


class Bridge(Namespaces):
    """@address of the host on it, @taps to be opened by a QEMU each"""

    def __init__(self, address, taps):
        super().__init__()
        self.name = f'uf{os.getpid()}-bridge'
        self.address = address
        self.taps = taps

    @property
    def prefix(self):
        """What puts a command into the namespace"""
        return ['ip', 'netns', 'exec', self.name]

    def _make(self):
        self._add(self.name)
        ip('-n', self.name, 'link', 'add', 'bridge', 'type', 'bridge')
        ip('-n', self.name, 'address', 'add', f'{self.address}/24',
           'dev', 'bridge')
        for tap in self.taps:
            ip('-n', self.name, 'tuntap', 'add', tap, 'mode', 'tap',
               'vnet_hdr')
            ip('-n', self.name, 'link', 'set', tap, 'master', 'bridge', 'up')
        ip('-n', self.name, 'link', 'set', 'bridge', 'up')
