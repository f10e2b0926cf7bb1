# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading the kernel's console of the test host: did it crash?"""

import re

CRASH = re.compile(
    r'Kernel panic|BUG: |kernel BUG at|Oops: |WARNING: |general protection fault'
    r'|rcu: INFO: .*(stall|detected)|INFO: task .* blocked for more than'
    r'|soft lockup|hard LOCKUP|refcount_t: |list_(add|del) corruption'
    r'|possible (recursive|circular) locking|inconsistent lock state'
    r'|UBSAN: |KASAN: |Unable to mount root|VFS: Cannot open root')
# After one of these nothing more comes.
FATAL = re.compile(r'Kernel panic|Unable to mount root')
TAIL = 15


class Console:
    """Follows the console file; remembers the lines that tell of a crash."""

    def __init__(self, path):
        self.path = path
        self.position = 0
        self.rest = ''
        self.crashes = []
        self.fatal = False

    def poll(self):
        """Read what is new; returns whether it tells of a crash."""
        before = len(self.crashes)
        try:
            with open(self.path, 'rb') as stream:
                stream.seek(self.position)
                data = stream.read()
                self.position = stream.tell()
        except FileNotFoundError:
            return False
        lines = (self.rest + data.decode(errors='replace')).split('\n')
        self.rest = lines.pop()
        for line in lines:
            if CRASH.search(line):
                self.crashes.append(line.strip())
            if FATAL.search(line):
                self.fatal = True
        return len(self.crashes) > before

    def tail(self, count=TAIL):
        """Last lines of the console."""
        try:
            with open(self.path, 'rb') as stream:
                text = stream.read().decode(errors='replace')
        except FileNotFoundError:
            return []
        return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]
