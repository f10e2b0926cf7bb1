# SPDX-License-Identifier: GPL-2.0-or-later
"""Two network namespaces and a link between them that a row can cut."""

import os
import subprocess

from harness import HarnessError
from situation import Skip

ADDRESSES = ('192.0.2.1', '192.0.2.2')      # for documentation: nobody's
PREFIX = 24


def ip(*words):
    """Run ip(8)."""
    done = subprocess.run(['ip', *words], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True,
                          check=False)
    if done.returncode:
        raise HarnessError(f'ip {" ".join(words)}: {done.stdout.strip()}')


class Namespaces:
    """A context manager that removes what it made, also half of it.  What is in
    the namespaces is up to _make(), which calls _add()."""

    def __init__(self):
        self._made = []

    def __enter__(self):
        if os.geteuid():
            raise Skip('network namespaces are for root')
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self._made:
            ip('netns', 'delete', name)

    def _add(self, name):
        ip('netns', 'add', name)
        self._made.append(name)

    def _make(self):
        raise NotImplementedError


class Link(Namespaces):
    """Namespace 0 and namespace 1, each with one end of the link."""

    def __init__(self):
        super().__init__()
        self.names = [f'uf{os.getpid()}-{end}' for end in (0, 1)]

    def _make(self):
        for name in self.names:
            self._add(name)
        ip('-n', self.names[0], 'link', 'add', 'way', 'type', 'veth',
           'peer', 'name', 'way', 'netns', self.names[1])
        for name, address in zip(self.names, ADDRESSES):
            ip('-n', name, 'address', 'add', f'{address}/{PREFIX}', 'dev', 'way')
            ip('-n', name, 'link', 'set', 'way', 'up')

    def prefix(self, end):
        """What puts a command into namespace @end"""
        return ['ip', 'netns', 'exec', self.names[end]]

    def cut(self):
        ip('-n', self.names[0], 'link', 'set', 'way', 'down')

    def mend(self):
        ip('-n', self.names[0], 'link', 'set', 'way', 'up')
