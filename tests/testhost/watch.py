# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading the kernel's console of the test host: did it crash?"""

import re
from dataclasses import dataclass

CRASH = re.compile(
    r'Kernel panic|BUG: |kernel BUG at|Oops: |WARNING: |general protection fault'
    r'|rcu: INFO: .*(stall|detected)|INFO: task .* blocked for more than'
    r'|soft lockup|hard LOCKUP|refcount_t: |list_(add|del) corruption'
    r'|UBSAN: |KASAN: |KCSAN: .* race|Unable to mount root|VFS: Cannot open root'
    # Lock order, and what may be done where; nearly all begin with WARNING: or
    # BUG: as well.
    r'|possible (recursive|circular) locking|possible irq lock inversion'
    r'|possible deadlock|-unsafe lock order detected|inconsistent lock state'
    r'|bad (un)?lock (balance|contention)|Nested lock was not taken'
    r'|held lock freed|lock held when returning to user space'
    r'|suspicious RCU usage|Invalid wait context|scheduling while atomic'
    r'|sleeping function called from invalid context'
    r'|Voluntary context switch within RCU|DEBUG_LOCKS_WARN_ON'
    # From here on no lock is looked at any more.
    r'|trying to register non-static key|lockdep is turned off'
    r'|turning off the locking correctness validator')
# After one of these nothing more comes.
FATAL = re.compile(r'Kernel panic|Unable to mount root')
TAIL = 15

# A report of KCSAN: a title, then what each of the two did, with frames.  One of
# "unknown origin" names one function, with an offset.
RACE = re.compile(r'BUG: KCSAN: data-race in ([\w.]+)\S*(?: / ([\w.]+))?')
RACE_ENDS = re.compile(r'={20,}')
RACE_LINES = 120
# Functions of the project's part of the kernel; one in any line of a report but
# that with the name of the process, and nothing is left out.
OURS = re.compile(r'userfault|kvm_gmem_(adopt|rebind)')
PROCESS = re.compile(r'CPU: \d+ .*Comm: ')


@dataclass(frozen=True)
class KnownRace:
    """
    One of Linux 6.12 as it is, about a variable that some functions write while
    each other or @readers come to it.  Functions are those of a report's title.
    @writers: () if a report names but the reader
    """
    why: str                    # it says nothing about the project
    writers: tuple
    readers: tuple = ()

    def has(self, names):
        """Is it about this variable, as far as the names can tell?"""
        if not self.writers:
            return len(names) == 1 and names[0] in self.readers
        return (len(names) == 2 and not set(self.writers).isdisjoint(names)
                and set(names) <= {*self.writers, *self.readers})


KNOWN_RACES = [
    KnownRace('irr_pending of a local APIC: a hint, as its comment says',
              ('svm_deliver_interrupt', 'kvm_apic_ack_interrupt',
               'kvm_apic_clear_irr'),
              ('apic_has_interrupt_for_ppr', 'kvm_lapic_find_highest_irr',
               'kvm_lapic_update_cr8_intercept', 'kvm_lapic_sync_to_vapic',
               'kvm_apic_set_state')),
    KnownRace('mode of a vCPU: plainly its own thread alone writes and reads it',
              ('kvm_arch_vcpu_ioctl_run', 'kvm_arch_vcpu_should_kick'),
              ('svm_complete_interrupt_delivery', 'kvm_vcpu_kick')),
    KnownRace("kind of the host's clock: the same is written at each tick",
              ('pvclock_gtod_notify',),
              ('kvm_arch_vcpu_load', 'kvm_arch_enable_virtualization_cpu')),
    KnownRace('output of the PIC: whoever reads it too early is kicked',
              ('pic_update_irq', 'kvm_pic_read_irq'), ('kvm_cpu_has_extint',)),
    KnownRace('INIT and SIPI of a local APIC: the INIT is written whole',
              ('__apic_accept_irq', 'kvm_apic_accept_events'),
              ('kvm_vcpu_has_events',)),
    KnownRace('halt_wakeup of a vCPU: a statistic', ('kvm_vcpu_kick',)),
    KnownRace('generation of memslots: whoever sees an old one looks again',
              ('kvm_swap_active_memslots',),
              ('kvm_vcpu_gfn_to_memslot', 'record_steal_time',
               'kvm_steal_time_set_preempted', 'kvm_gpc_check',
               'kvm_write_guest_offset_cached', 'kvm_read_guest_offset_cached')),
    KnownRace('flags of a struct page: one bit is looked at, others change', (),
              ('hva_to_pfn',)),
]


def is_known_race(lines):
    """Is the report @lines of KCSAN one about stock Linux, which is known?"""
    if any(OURS.search(line) for line in lines if not PROCESS.search(line)):
        return False
    names = [name.split('.')[0] for name in RACE.search(lines[0]).groups() if name]
    return bool(RACE_ENDS.search(lines[-1])
                and any(race.has(names) for race in KNOWN_RACES))


class Console:
    """Follows the console file; remembers the lines that tell of a crash."""

    def __init__(self, path):
        self.path = path
        self.position = 0
        self.rest = ''
        self.crashes = []
        self.race = []           # lines of a report of KCSAN that has begun
        self.known_races = 0
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
            self.line(line.rstrip())
        return len(self.crashes) > before

    def line(self, line):
        """Judge one line; those of a race are judged together."""
        if RACE.search(line):
            self.end()
            self.race = [line]
            return
        if self.race:
            self.race.append(line)
            if RACE_ENDS.search(line) or len(self.race) > RACE_LINES:
                self.end()
        if CRASH.search(line):
            self.crashes.append(line.strip())
        if FATAL.search(line):
            self.fatal = True

    def end(self):
        """Judge a race that has begun; nothing more comes of it."""
        lines, self.race = self.race, []
        if not lines:
            return
        if is_known_race(lines):
            self.known_races += 1
        else:
            self.crashes.append(lines[0].strip())

    def tail(self, count=TAIL):
        """Last lines of the console."""
        try:
            with open(self.path, 'rb') as stream:
                text = stream.read().decode(errors='replace')
        except FileNotFoundError:
            return []
        return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]
