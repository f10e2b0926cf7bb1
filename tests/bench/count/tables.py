# SPDX-License-Identifier: GPL-2.0-or-later
"""What was counted, as text."""

from collections import Counter, defaultdict

import goals
import symbols

TOP = 20
# (figure, text); of one fault
ROWS = (
    ('destination total', 'destination: instructions'),
    ('destination vcpu', '  vCPU threads'),
    ('destination vcpu user', '    of them outside the kernel'),
    ('destination serial', '  threads that all faults pass'),
    ('destination serial user', '    of them outside the kernel'),
    ('destination rest', '  other threads'),
    ('destination spinning', '  and waiting for spinlocks'),
    ('source total', 'source: instructions'),
    ('source vcpu', '  vCPU threads'),
    ('source serial', '  threads that all faults pass'),
    ('source serial user', '    of them outside the kernel'),
    ('source rest', '  other threads'),
    ('source spinning', '  and waiting for spinlocks'),
    ('vcpu exclusive', 'destination: vCPUs under shared locks'),
    ('vcpu locked', '  shared locks for reading too'),
    ('serial part', 'destination: serial part'),
    ('destination vcpu atomics', 'atomics on shared lines: vCPUs'),
    ('destination serial atomics', '  threads that all faults pass'),
    ('source serial atomics', '  the same at the source'),
    ('vm exits', 'exits of vCPUs, but for interrupts'),
)


def number(value):
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:,.2f}'


def table(found, vcpus, modes):
    """Lines for one number of vCPUs"""
    ratio = {goals.OFF, goals.ON} <= set(modes)
    lines = [f'{vcpus} vCPUs, of one fault'.ljust(40)
             + ''.join(f'{mode:>10}' for mode in modes)
             + ('  on / off' if ratio else '')]
    for name, text in ROWS:
        line = f'  {text:<38}' + ''.join(
            f'{number(found[mode, vcpus][name]):>10}' for mode in modes)
        if ratio:
            value = goals.ratio(found, vcpus, (name,))
            line += f'{value:>10.2f}' if value is not None else f'{"-":>10}'
        lines.append(line)
    return lines


def window_lines(windows):
    return [f'{w.mode:>6} {w.vcpus:3} vCPUs: {w.faults:,} faults, '
            f'{w.known["requests"]:,} pages asked for in {w.known["seconds"]:.0f} s'
            for w in windows]


def all_tables(windows, found):
    lines = window_lines(windows)
    for vcpus in sorted({n for _, n in found}):
        modes = [mode for mode, n in found if n == vcpus]
        lines += ['', *table(found, vcpus, modes)]
    return [*lines, '', *goals.lines(found)]


def group_name(group):
    return ' '.join(word for word in group if word)


def profile(window, top=TOP):
    """Functions by instructions, of each kind of thread"""
    faults = window.faults
    lines = ['', f'== {window.mode}, {window.vcpus} vCPUs, {faults} faults: '
             'instructions of one fault']
    for group in sorted(window.tasks):
        tasks = window.tasks[group]
        places = sum((t.places for t in tasks), Counter())
        text = '  '.join(f'{k} {v / faults:,.0f}' for k, v in places.items() if v)
        lines.append(f'-- {group_name(group)} ({len(tasks)}): {text}  exits '
                     f'{sum(t.vm_exits for t in tasks) / faults:.2f} '
                     f'({sum(t.vm_exits_interrupted for t in tasks) / faults:.2f} '
                     f'interrupted)  switches '
                     f'{sum(t.switches for t in tasks) / faults:.2f}')
        if group[0] in ('idle',):
            continue
        found = defaultdict(lambda: [0, 0])
        for task in tasks:
            for address, (instructions, times) in task.pcs.items():
                entry = found[window.names.name(address)]
                entry[0] += instructions
        for name, (instructions, _) in sorted(found.items(),
                                              key=lambda it: -it[1][0])[:top]:
            if instructions / faults >= 1:
                lines.append(f'  {instructions / faults:9,.1f}  {name}')
        lines += lock_lines(window, tasks, faults)
    return lines


def lock_lines(window, tasks, faults):
    sites = defaultdict(lambda: [0, 0, defaultdict(set)])
    for task in tasks:
        for lock in task.locks:
            entry = sites[window.names.name(lock.site), lock.type]
            entry[0] += lock.times
            entry[2][lock.address].add(task.pid)
            for held in {(window.names.name(h.site), h.type) for h in lock.path()}:
                sites[held][1] += lock.instructions
    return [f'     lock {times / faults:6.2f} times {instructions / faults:8.1f} '
            f'instructions  {len(addresses):5} locks, most '
            f'{max(map(len, addresses.values()), default=0)} threads  {name} '
            f'({symbols.LOCK_TYPES[type_]})'
            for (name, type_), (times, instructions, addresses)
            in sorted(sites.items(), key=lambda it: -it[1][1])
            if times / faults > 0.01]


def profiles(windows):
    return [line for window in windows for line in profile(window)]
