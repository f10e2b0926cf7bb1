# SPDX-License-Identifier: GPL-2.0-or-later
"""What whole migrations are to reach, and whether they did."""

from dataclasses import dataclass

import stats

RATE, PUSHED, P99 = 'requests_per_s', 'pushed_per_s', 'latency_p99_us'
TOUCHES = 'touches_per_fault'
RANDOM = 'random-write-{}'
# In no case may KVM userfault be slower.
NEVER_LESS = 0.97


@dataclass(frozen=True)
class Goal:
    """
    @above's @figure over @below's @of (if it has another name there), at least
    @least[vCPUs]
    """
    text: str
    above: str
    below: str
    least: dict
    figure: str = RATE
    of: str = None
    case: str = RANDOM

    def where(self, cpus):
        order = self.case.partition('-')[0]
        return f'{cpus} vCPUs' + ('' if self.case == RANDOM else f', {order}')

    def ratio(self, rounds):
        return stats.ratio(rounds, self.above, self.below, self.figure, self.of)


GOALS = (
    Goal('pages/s, unmodified source, over userfaultfd', 'stock-single',
         'stock-off', {1: 1.6, 4: 2.2, 16: 3, 64: 3}),
    Goal('pages/s, this QEMU at both ends, over userfaultfd', 'single', 'off',
         {1: 1.8, 4: 3, 16: 5, 64: 6}),
    Goal('userfaultfd\'s p99 of a fault over that of KVM userfault', 'off',
         'single', {1: 1.4, 4: 2, 16: 3, 64: 4}, P99),
    Goal('pages/s, over what is pushed when nobody faults', 'single', 'pushed',
         {64: 0.6}, RATE, PUSHED),
    *(goal for case in ('sequential-write-{}', 'strided-write-{}') for goal in (
        Goal('pages/s of a walk, over userfaultfd', 'on', 'off', {4: 4},
             case=case),
        Goal('touches of a walk for each fault, over userfaultfd', 'on', 'off',
             {4: 5}, TOUCHES, case=case))),
)


def verdict(text, where, found, least):
    """A line; @found is a Spread."""
    met = found.median >= least
    return (f'{"met" if met else "NOT MET"}: {text}, {where}: {found.median:.2f} '
            f'({found.min:.2f}..{found.max:.2f}), at least {least}')


def lines(results):
    """@results: as in bench.json; nothing for what was not measured."""
    known = {it['case']: it['rounds'] for it in results if it['rounds']}
    told = []
    for goal in GOALS:
        for cpus, least in goal.least.items():
            found = goal.ratio(known.get(goal.case.format(cpus), []))
            if found:
                told.append(verdict(goal.text, goal.where(cpus), found, least))
    for name, rounds in known.items():
        found = stats.ratio(rounds, 'on', 'off', RATE)
        if found:
            told.append(verdict('pages/s, never less than userfaultfd', name,
                                found, NEVER_LESS))
    return told
