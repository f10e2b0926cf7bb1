# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run printed, as figures of one fault; and whether the goal is met."""

import stats

SERVICE, GIVING, USERFAULTFD = 'service', 'giving', 'userfaultfd'
MODES = (SERVICE, GIVING, USERFAULTFD)
# The goal: a fault costs at most so many times as much with many vCPUs as
# with a few, in CPU time of the destination's process.
FEW, MANY, GOAL = 8, 1024, 1.5
COST = 'cpu_us'


def of_run(raw):
    """{figure: number} of one fault, from the numbers of a whole run"""
    faults = raw['faults']

    def per_fault(name, factor=1):
        return raw[name] * factor / faults

    return {
        'faults_per_s': faults / raw['wall_ns'] * 1e9,
        COST: per_fault('process_cpu_ns', 1e-3),
        'vcpus_us': per_fault('vcpus_cpu_ns', 1e-3),
        'loader_us': per_fault('loader_cpu_ns', 1e-3),
        'fault_thread_us': per_fault('fault_thread_cpu_ns', 1e-3),
        'source_us': per_fault('source_cpu_ns', 1e-3),
        'p50_us': raw['p50_ns'] / 1e3,
        'p99_us': raw['p99_ns'] / 1e3,
        'switches': per_fault('process_switches'),
        'writes': per_fault('writes'),
        'handoffs': per_fault('handoffs'),
        'longest': raw['longest'],
    }


def in_rounds(raws):
    """{vCPUs: [{mode: figures} of each round]}"""
    found = {}
    for raw in raws:
        rounds = found.setdefault(raw['threads'], {})
        rounds.setdefault(raw['round'], {})[raw['mode']] = of_run(raw)
    return {threads: [rounds[number] for number in sorted(rounds)]
            for threads, rounds in found.items()}


def growth(found, mode):
    """Spread of the cost with MANY vCPUs over that with FEW, taken within each
    round; None if one of them did not run"""
    pairs = [{'many': many[mode], 'few': few[mode]}
             for many, few in zip(found.get(MANY, []), found.get(FEW, []))
             if mode in many and mode in few]
    return stats.ratio(pairs, 'many', 'few', COST)


def verdict(found):
    """Lines that say whether the goal is met"""
    spread = growth(found, SERVICE)
    if spread is None:
        return [f'goal: not looked at, as it is about {FEW} and {MANY} vCPUs']
    lines = [
        f'goal: a fault with {MANY} vCPUs costs at most {GOAL} times the CPU '
        f'time of one with {FEW}',
        f'{"MET" if spread.median <= GOAL else "NOT MET"}: {spread.median:.2f} '
        f'times ({spread.min:.2f}..{spread.max:.2f} in {spread.count} rounds)']
    other = growth(found, USERFAULTFD)
    if other:
        lines.append(f'the same on userfaultfd: {other.median:.2f} times '
                     f'({other.min:.2f}..{other.max:.2f})')
    return lines


def summary(found):
    """For JSON"""
    goal = growth(found, SERVICE)
    return {
        'by_vcpus': {threads: stats.summary(rounds, (USERFAULTFD,))
                     for threads, rounds in found.items()},
        'goal': None if goal is None else {
            'few': FEW, 'many': MANY, 'limit': GOAL, 'ratio': vars(goal),
            'met': goal.median <= GOAL}}
