# SPDX-License-Identifier: GPL-2.0-or-later
"""What plugin.c counted in a window, and what it comes to for a fault.

A thread has a role: "vcpu" and "serial" on either side, the latter being the
threads that all faults pass through.
"""

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import symbols

# As in plugin.c
PLACES = ('user', 'kernel', 'guest', 'timer', 'irq', 'interrupted')


# Threads that all faults pass through, by their names
SERIAL = {'destination': re.compile(r'^mig/dst/'),
          'source': re.compile(r'^mig/src/')}
SIDES = ('destination', 'source')
EXCLUSIVE = (symbols.SPIN, symbols.RW_WRITE, symbols.MUTEX, symbols.SEM_WRITE,
             symbols.USER)
# Locks that two threads take, but that faults do not share: acquired in ...
PRIVATE = re.compile(
    r'^(raw_spin_rq_lock_nested|__task_rq_lock|task_rq_lock|try_to_wake_up'
    r'|ttwu_\w+|sched_\w+|__schedule|double_lock_balance|_double_lock_balance'
    r'|newidle_balance|sched_balance_\w+|load_balance'    # of a CPU
    r'|futex_\w+|__futex_\w+'                            # of a hash bucket
    r'|postcopy_wait_\w+|wake_b\w+|unlink_\w+'            # of a hash bucket
    r'|hrtimer_\w+|lock_timer_base|lock_hrtimer_base\S*'  # of a CPU
    r'|sigprocmask|__set_task_blocked|get_signal|do_send\w+'  # of a thread
    r')( |$)')
SPIN = 'native_queued_spin_lock_slowpath'
# A line of memory is a shared one if as many faults come by, and two threads.
FAULTS_PER_ATOMIC = 20


class CountError(Exception):
    """The counts are not there or not whole."""


@dataclass
class Lock:
    """One acquisition site of a lock, with what was held already (@parent)."""
    parent: object
    address: int
    site: int
    type: int
    instructions: int           # while it was the last one taken
    times: int

    def path(self):
        lock = self
        while lock is not None:
            yield lock
            lock = lock.parent


@dataclass
class Task:
    pid: int
    places: Counter = field(default_factory=Counter)
    vm_exits: int = 0
    vm_exits_interrupted: int = 0
    switches: int = 0
    pcs: dict = field(default_factory=dict)     # address: [instructions, times]
    locks: list = field(default_factory=list)
    atomics: Counter = field(default_factory=Counter)   # (line, pc): times


def read_task(words):
    numbers = [int(word) for word in words[1:]]
    task = Task(numbers[0])
    task.places.update(dict(zip(PLACES, numbers[1:])))
    task.vm_exits, task.vm_exits_interrupted, task.switches = \
        numbers[1 + len(PLACES):]
    return task


def read_tasks(lines):
    """The threads in a file of the plugin; CountError if it is not whole."""
    found, whole = [], False
    for line in lines:
        kind, *words = line.split()
        if kind == 'task':
            task = read_task(words)
            found.append(task)
        elif kind == 'pc':
            task.pcs[int(words[0], 16)] = [int(words[1]), int(words[2])]
        elif kind == 'lock':
            parent = int(words[1])
            task.locks.append(Lock(
                None if parent < 0 else task.locks[parent], int(words[2], 16),
                int(words[3], 16), int(words[4]), int(words[5]), int(words[6])))
        elif kind == 'atomic':
            task.atomics[int(words[0], 16), int(words[1], 16)] += int(words[2])
        elif kind == 'end':
            whole = True
    if not whole:
        raise CountError('a file of the plugin is not whole')
    if not any(task.pid for task in found):
        raise CountError('the plugin has not learned the ids of threads')
    return found


class Window:
    """One mode at one number of vCPUs"""

    def __init__(self, known, tasks, kallsyms):
        self.known = known
        self.mode, self.vcpus = known['mode'], known['vcpus']
        self.names = symbols.Names(kallsyms, known['maps'])
        self.tasks = defaultdict(list)      # (side, name): tasks
        self._known_entries = {}
        self._faults = None
        for task in tasks:
            self.tasks[self.whose(task.pid)].append(task)

    def whose(self, pid):
        for side in ('source', 'destination'):
            name = self.known[side].get(str(pid))
            if name is not None:
                return side, re.sub(r'^CPU \d+/(KVM|TCG)$', 'vCPU', name)
        return 'idle' if pid == 0 else 'other', ''


    # --- what a fault is ------------------------------------------------------

    def role(self, group):
        """"vcpu", "serial" or "rest" of a thread on either side"""
        side, name = group
        if name == 'vCPU':
            return 'vcpu'
        return 'serial' if SERIAL[side].match(name) else 'rest'

    def threads(self, side, role):
        return [task for group, tasks in self.tasks.items() for task in tasks
                if group[0] == side and self.role(group) == role]

    def calls(self, tasks, function):
        """How often @tasks have entered a function"""
        return sum(times for task in tasks
                   for address, (_, times) in task.pcs.items()
                   if address in self._entries(function))

    def _entries(self, function):
        if function not in self._known_entries:
            self._known_entries[function] = {
                address for symbols_ in (self.names.kernel, self.names.program())
                for address in symbols_.all_named(function)}
        return self._known_entries[function]

    @property
    def faults(self):
        """
        Times that a vCPU of the destination began to wait for a page.  A vCPU
        that waits for userfaultfd is a message that the fault thread reads; it
        may come to handle_userfault() more often, since KVM tries first
        whether it gets by without waiting.
        """
        if self._faults is None:
            self._faults = (
                self.calls(self.threads('destination', 'vcpu'),
                           'postcopy_wait_begin')
                + self.calls(self.threads('destination', 'serial'),
                             'userfaultfd_read_iter'))
            if not self._faults:
                raise CountError(f'no fault was seen with {self.mode} and '
                                 f'{self.vcpus} vCPUs')
        return self._faults

    def spinning(self, tasks):
        """
        Instructions of @tasks that did nothing but wait for a spinlock.  How
        many is a matter of how the machine's real CPUs were shared out.
        """
        first, end = self.names.kernel.extent(SPIN)
        return sum(instructions for task in tasks
                   for address, (instructions, _) in task.pcs.items()
                   if first <= address < end)

    # --- locks ----------------------------------------------------------------

    def site(self, lock):
        """The function that took it"""
        return self.names.name(lock.site)

    def shared_sites(self):
        """(function, type) of the locks that two threads took"""
        takers = defaultdict(set)
        for group in self.tasks:
            if group[0] != 'destination':
                continue
            for task in self.tasks[group]:
                for lock in task.locks:
                    takers[lock.address].add(task.pid)
        return {(self.site(lock), lock.type)
                for group in self.tasks if group[0] == 'destination'
                for task in self.tasks[group] for lock in task.locks
                if len(takers[lock.address]) > 1
                and not PRIVATE.match(self.site(lock))}

    def under_locks(self, tasks, sites, types):
        """Instructions of @tasks under locks of @types taken at @sites"""
        return sum(lock.instructions for task in tasks for lock in task.locks
                   if any(held.type in types
                          and (self.site(held), held.type) in sites
                          for held in lock.path()))

    def parts(self, tasks, sites, types):
        """{where taken: [instructions]}, for each of these locks by itself; what is
        under several counts for the first that was taken."""
        found = Counter()
        for task in tasks:
            for lock in task.locks:
                first = [held for held in lock.path() if held.type in types
                         and (self.site(held), held.type) in sites][-1:]
                for held in first:
                    found[self.site(held), held.address] += lock.instructions
        parts = defaultdict(list)
        for (site, _), instructions in found.items():
            parts[site].append(instructions)
        return parts

    # --- atomic operations ----------------------------------------------------

    def private_lines(self):
        return {lock.address >> 6 << 6 for tasks in self.tasks.values()
                for task in tasks for lock in task.locks
                if PRIVATE.match(self.site(lock))}

    def shared_lines(self, side):
        """Lines of memory to which faults of several threads come"""
        takers, times = defaultdict(set), Counter()
        for group, tasks in self.tasks.items():
            if group[0] == side:
                for task in tasks:
                    for (line, _), count in task.atomics.items():
                        takers[line].add(task.pid)
                        times[line] += count
        private = self.private_lines()
        return {line for line in takers if len(takers[line]) > 1
                and line not in private
                and times[line] * FAULTS_PER_ATOMIC >= self.faults}

    @staticmethod
    def atomics(tasks, lines):
        return sum(count for task in tasks
                   for (line, _), count in task.atomics.items() if line in lines)


def places(tasks):
    return sum((task.places for task in tasks), Counter())


def own(tasks):
    """Instructions that are the threads' own, also while they spin"""
    found = places(tasks)
    return found['user'] + found['kernel']


def per_fault(window, sites):
    """{figure: number} of one fault"""
    found = {}
    for side in SIDES:
        lines = window.shared_lines(side)
        total = spinning = 0
        for role in ('vcpu', 'serial', 'rest'):
            tasks = window.threads(side, role)
            waiting = window.spinning(tasks)
            found[f'{side} {role}'] = own(tasks) - waiting
            found[f'{side} {role} user'] = places(tasks)['user']
            found[f'{side} {role} atomics'] = window.atomics(tasks, lines)
            total += found[f'{side} {role}']
            spinning += waiting
        found[f'{side} total'] = total
        found[f'{side} spinning'] = spinning
    vcpus = window.threads('destination', 'vcpu')
    found['vcpu exclusive'] = window.under_locks(vcpus, sites, EXCLUSIVE)
    found['vcpu locked'] = window.under_locks(
        vcpus, sites, range(len(symbols.LOCK_TYPES)))
    found['serial part'] = found['vcpu exclusive'] + found['destination serial']
    found['serial part, readers too'] = (found['vcpu locked']
                                         + found['destination serial'])
    found['vm exits'] = sum(t.vm_exits - t.vm_exits_interrupted for t in vcpus)
    return {name: value / window.faults for name, value in found.items()}


def all_sites(windows):
    return set().union(*(window.shared_sites() for window in windows))


def evaluate(windows):
    """{(mode, vCPUs): {figure: number}}"""
    sites = all_sites(windows)
    return {(window.mode, window.vcpus): per_fault(window, sites)
            for window in windows}


def read_all(folder):
    """Window of each that was measured; CountError if there is none."""
    found = []
    kallsyms = folder / 'kallsyms'
    for path in sorted(folder.glob('window.*.json')):
        known = json.loads(path.read_text())
        with open(folder / f'counts.{known["number"]}') as stream:
            found.append(Window(known, read_tasks(stream), kallsyms.read_text()))
    if not found:
        raise CountError(f'no window has been counted in {folder}')
    return found




def threads(window):
    """
    {side: {name: {place: instructions of one fault}}} of the threads that all
    faults pass through
    """
    found = {side: {} for side in SIDES}
    for group, tasks in window.tasks.items():
        if group[0] in SIDES and window.role(group) == 'serial':
            here = places(tasks)
            here['kernel'] -= window.spinning(tasks)
            found[group[0]][group[1]] = {
                place: here[place] / window.faults for place in ('user', 'kernel')}
    return found


def locks(window, sites):
    """{where taken: [instructions of one fault]}, of vCPUs, for each lock"""
    vcpus = window.threads('destination', 'vcpu')
    return {site: [count / window.faults for count in parts] for site, parts
            in window.parts(vcpus, sites, EXCLUSIVE).items()}


def as_json(windows, found):
    sites = all_sites(windows)
    return [{'mode': w.mode, 'vcpus': w.vcpus, 'faults': w.faults,
             'requests': w.known['requests'], 'seconds': w.known['seconds'],
             'figures': found[w.mode, w.vcpus], 'serial_threads': threads(w),
             'locks': locks(w, sites)}
            for w in windows]
