# SPDX-License-Identifier: GPL-2.0-or-later
"""Median, smallest and largest of a few runs, and ratios within rounds.

A round is {mode: figures}; figures are {name: number or None}.
"""

import statistics
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Spread:
    median: float
    min: float
    max: float
    count: int


def spread(values):
    """Of those @values that are numbers; None if none is."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(statistics.median(known), min(known), max(known), len(known))


def of_mode(rounds, mode, figure):
    """Spread of @figure over the rounds in which @mode ran."""
    return spread(r[mode].get(figure) for r in rounds if mode in r)


def ratio(rounds, mode, base, figure, of=None):
    """
    Spread of @mode's @figure over @base's (or over its figure @of), taken within
    each round: what the machine did meanwhile has happened to both.
    """
    def one(figures):
        above = figures[mode].get(figure)
        below = figures[base].get(of or figure)
        return above / below if above is not None and below else None
    return spread(one(r) for r in rounds if mode in r and base in r)


def baseline(modes, preferred):
    """The mode that others are compared with, or None."""
    return next((mode for mode in preferred if mode in modes), None)


def summary(rounds, preferred):
    """For JSON: {figure: {mode: spread, 'MODE/BASE': spread}}."""
    modes = list(dict.fromkeys(mode for r in rounds for mode in r))
    names = dict.fromkeys(name for r in rounds for f in r.values() for name in f)
    base = baseline(modes, preferred)
    result = {}
    for name in names:
        found = {mode: of_mode(rounds, mode, name) for mode in modes}
        if base:
            found.update({f'{mode}/{base}': ratio(rounds, mode, base, name)
                          for mode in modes if mode != base})
        result[name] = {key: asdict(value) for key, value in found.items()
                        if value}
    return result
