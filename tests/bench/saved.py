# SPDX-License-Identifier: GPL-2.0-or-later
"""What bench.json says about a case.

All figures are those of its summary.  A run may have been cut short, or have
had only some of the modes and cases, so any figure may be missing.
"""

import re
from bisect import bisect_right
from statistics import mean

import cases
import stats

NAME = re.compile(r'(\w+)-(write|read)-(\d+)(?:-(.+))?')
STEPS = 40                      # of a line over time


class Result:
    """One case; never changes."""

    def __init__(self, saved):
        self.name = saved['case']
        self.rounds = len(saved.get('rounds', ()))
        self.summary = saved.get('summary', {})
        self.timelines = saved.get('timelines', [])
        found = NAME.fullmatch(self.name)
        self.order, self.access, cpus, self.network = (
            found.groups('') if found else ('', '', '', ''))
        self.cpus = int(cpus) if cpus else None
        with_figures = {key for keys in self.summary.values() for key in keys}
        self.modes = [mode for mode in in_order(saved.get('modes', ()))
                      if mode in with_figures]

    @property
    def text(self):
        if not self.cpus:
            return self.name
        return (f'{self.name}: {self.cpus} vCPU{"s"[:self.cpus - 1]}, '
                f'{micro(self.network) or "UNIX socket"}, {self.rounds} round'
                + ('' if self.rounds == 1 else 's'))

    def spread(self, figure, key):
        """@key: a mode, or MODE/BASE; None if there is no such figure."""
        found = self.summary.get(figure, {}).get(key)
        return stats.Spread(**found) if found else None

    def ratios(self):
        """MODE/BASE for each mode that is compared with another"""
        base = stats.baseline(self.modes, cases.BASELINE)
        return [f'{mode}/{base}' for mode in self.modes
                if base and mode != base]


def in_order(modes):
    """Those known to cases.MODES first, in its order"""
    known = list(cases.MODES)
    return sorted(modes, key=lambda m: known.index(m) if m in known
                  else len(known))


def load(saved):
    """The cases of @saved, which is all of a bench.json, that have figures"""
    return [result for result in map(Result, saved.get('cases', ()))
            if result.modes]


def modes_of(results):
    """The modes of any case, once each and in order"""
    return in_order(dict.fromkeys(m for r in results for m in r.modes))


def ratios_of(results):
    return list(dict.fromkeys(key for r in results for key in r.ratios()))


def by_cpus(results):
    """
    The cases that differ in their number of vCPUs only: those of the kind that
    has most of them, from few to many.  [] if nothing can be compared.
    """
    kinds = {}
    for result in results:
        if result.cpus:
            kind = result.order, result.access, result.network
            kinds.setdefault(kind, []).append(result)
    return longest(sorted(kind, key=lambda r: r.cpus)
                   for kind in kinds.values())


def by_network(results):
    """The same of those that differ in the network only"""
    kinds = {}
    for result in results:
        if result.cpus:
            kind = result.order, result.access, result.cpus
            kinds.setdefault(kind, []).append(result)
    return longest(sorted(kind, key=lambda r: bool(r.network))
                   for kind in kinds.values())


def longest(lists):
    most = max(lists, key=len, default=[])
    return most if len(most) > 1 else []


def micro(text):
    """ "200us" as people write it"""
    return re.sub(r'(\d ?)us\b', r'\1µs', text)


# --- over time ---------------------------------------------------------------

def value_at(run, time):
    """Of a [time, requests, ...] @run, straight from sample to sample"""
    i = min(max(bisect_right([point[0] for point in run], time), 1),
            len(run) - 1)
    (start, low, *_), (end, high, *_) = run[i - 1], run[i]
    if end <= start:
        return high
    return low + (high - low) * (time - start) / (end - start)


def runs_of(result, mode):
    """The timelines of @mode that have a beginning and an end"""
    return [r[mode] for r in result.timelines if len(r.get(mode, ())) > 1]


def end_of(runs):
    """Until then all of @runs say something."""
    return min(run[-1][0] for run in runs)


def progress(runs, times):
    """[time, mean, smallest, largest number of requests since the beginning]"""
    found = []
    for time in times:
        values = [value_at(run, time) - run[0][1] for run in runs]
        found.append((time, mean(values), min(values), max(values)))
    return found


def line_of(result, mode):
    """progress() in STEPS steps; [] if nothing is known."""
    runs = runs_of(result, mode)
    end = end_of(runs) if runs else 0
    return progress(runs, [end * i / STEPS for i in range(STEPS + 1)]
                    if end else [])
