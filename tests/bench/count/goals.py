# SPDX-License-Identifier: GPL-2.0-or-later
"""What the counts were to come to."""

from dataclasses import dataclass

OFF, ON = 'off', 'on'
# A figure that does not depend on the number of vCPUs may still vary as much.
EVEN = 1.25
# Too few to divide by
NOTHING = 1e-9


@dataclass(frozen=True)
class Goal:
    text: str
    figures: tuple              # that count
    most: float                 # times that of OFF


GOALS = (
    Goal("vCPU side: instructions under shared locks at most 1/20 of "
         "userfaultfd's", ('vcpu exclusive',), 1 / 20),
    Goal("vCPU side: the same, shared locks held for reading too",
         ('vcpu locked',), 1 / 20),
    Goal("vCPU side: atomic operations on shared lines at most 1/20 of "
         "userfaultfd's", ('destination vcpu atomics',), 1 / 20),
    Goal("serial part of destination and source at most 1/3",
         ('serial part', 'source serial'), 1 / 3),
    Goal("serial part of the destination alone at most 1/3",
         ('serial part',), 1 / 3),
    Goal("instructions of the destination at most 1/2",
         ('destination total',), 1 / 2),
)
EVEN_FIGURES = (('vcpu exclusive', 'instructions under shared locks'),
                ('destination vcpu atomics', 'atomic operations on shared lines'))


def total(figures, names):
    return sum(figures[name] for name in names)


def ratio(found, vcpus, names):
    """ON over OFF; None if one of them was not measured, or OFF is nothing"""
    if not {(ON, vcpus), (OFF, vcpus)} <= set(found):
        return None
    off = total(found[OFF, vcpus], names)
    return total(found[ON, vcpus], names) / off if off > NOTHING else None


def judge(goal, found):
    """[(vCPUs, ratio, whether it is met)]"""
    ratios = [(n, ratio(found, n, goal.figures))
              for n in sorted({vcpus for _, vcpus in found})]
    return [(n, value, value <= goal.most)
            for n, value in ratios if value is not None]


def spread(found, name):
    """
    (smallest, largest) number of vCPUs and figure with KVM userfault; None
    unless two numbers of vCPUs above one were measured: with one vCPU nothing
    is shared.
    """
    values = [(found[ON, n][name], n) for mode, n in found if mode == ON and n > 1]
    if len(values) < 2:
        return None
    return min(values), max(values)


def is_even(low, high):
    return high[0] <= max(EVEN * low[0], 1.0)


def lines(found):
    told = []
    for goal in GOALS:
        judged = judge(goal, found)
        if not judged:
            continue
        verdict = 'met' if all(met for *_, met in judged) else 'NOT MET'
        told.append(f'{verdict}: {goal.text}: ' + ', '.join(
            f'{value:.2f} with {n}' for n, value, _ in judged) + ' vCPUs')
    for name, text in EVEN_FIGURES:
        ends = spread(found, name)
        if ends:
            low, high = ends
            verdict = 'met' if is_even(low, high) else 'NOT MET'
            told.append(f'{verdict}: vCPU side, {text}: independent of the '
                        f'number of vCPUs: {low[0]:.1f} with {low[1]}, '
                        f'{high[0]:.1f} with {high[1]}')
    return told
