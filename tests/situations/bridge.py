# SPDX-License-Identifier: GPL-2.0-or-later
"""A network namespace with a bridge, for the network cards of guests."""

import os

from netlink import ip
from situation import Skip


class Bridge:
    """@address of the host on it, @taps to be opened by a QEMU each.  A
    context manager, which removes it."""

    def __init__(self, address, taps):
        self.name = f'uf{os.getpid()}-bridge'
        self.address = address
        self.taps = taps

    @property
    def prefix(self):
        """What puts a command into the namespace"""
        return ['ip', 'netns', 'exec', self.name]

    def __enter__(self):
        if os.geteuid():
            raise Skip('network namespaces are for root')
        ip('netns', 'add', self.name)
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self):
        ip('-n', self.name, 'link', 'add', 'bridge', 'type', 'bridge')
        ip('-n', self.name, 'address', 'add', f'{self.address}/24',
           'dev', 'bridge')
        for tap in self.taps:
            ip('-n', self.name, 'tuntap', 'add', tap, 'mode', 'tap',
               'vnet_hdr')
            ip('-n', self.name, 'link', 'set', tap, 'master', 'bridge', 'up')
        ip('-n', self.name, 'link', 'set', 'bridge', 'up')

    def __exit__(self, *_):
        ip('netns', 'delete', self.name)
