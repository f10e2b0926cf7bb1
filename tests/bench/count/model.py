# SPDX-License-Identifier: GPL-2.0-or-later
"""What many real CPUs would do, from the counts and a published table.

A closed queueing network: each vCPU works by itself for a while (@think), then
needs each of the serial parts in turn, which serve one fault at a time.  Solved
exactly by mean value analysis, which assumes that a fault finds a serial part
as it is on average with one vCPU less.

The table is of a kernel selftest on a machine of 96 CPUs, with one userfaultfd:
pages per second and vCPU.  It has no QEMU in it and no source.
"""

import math
from dataclasses import dataclass

PUBLISHED = {
    'no userfault at all': {2: 306845, 8: 220402, 64: 47720},
    'userfaultfd, one reader': {2: 90724, 8: 26059, 64: 3029},
    'userfaultfd and KVM userfault': {2: 143021, 8: 104385, 64: 34910},
    'KVM userfault alone': {2: 160326, 8: 128247, 64: 39913},
}
USERFAULTFD = 'userfaultfd, one reader'
LIMIT = 'no userfault at all'


def throughput(think, stations, vcpus):
    """
    Faults per time unit of all @vcpus, and the queue at each of the @stations
    {name: time that a fault needs of it}.
    """
    queue = dict.fromkeys(stations, 0.0)
    rate = 0.0
    for n in range(1, vcpus + 1):
        spent = {name: s * (1 + queue[name]) for name, s in stations.items()}
        rate = n / (think + sum(spent.values()))
        queue = {name: rate * t for name, t in spent.items()}
    return rate, queue


def queueing(think, serial, vcpus):
    """us for a page: one serial part"""
    return vcpus / throughput(think, {'': serial}, vcpus)[0]


def growing(first, more, vcpus):
    """us for a page: each further vCPU adds as much"""
    return first + more * (vcpus - 1)


MODELS = {'queue': queueing, 'line': growing}


def error(model, pair, points):
    """Sum of the squared logarithms of model over table"""
    return sum(math.log(model(*pair, n) * rate / 1e6) ** 2
               for n, rate in points.items())


def around(centre, step, half):
    return [(centre[0] + i * step, centre[1] + j * step)
            for i in range(-half, half + 1) for j in range(-half, half + 1)]


def fit(model, points):
    """
    (first, second parameter) in us that come nearest to @points {vCPUs: pages/s
    of each}: a coarse grid of their logarithms, then finer ones around the best.
    """
    def badness(at):
        return error(model, tuple(map(math.exp, at)), points)
    centre, step = min(around((1.0, 0.0), 0.3, 10), key=badness), 0.2
    for _ in range(10):
        centre = min(around(centre, step, 2), key=badness)
        step /= 1.6
    return tuple(map(math.exp, centre))


@dataclass(frozen=True)
class Fit:
    model: str
    pair: tuple
    errors: dict                # vCPUs: model's rate over the table's, less 1
    left_out: dict              # likewise, when that point was not fitted to


def off_by(model, pair, n, rate):
    return 1e6 / model(*pair, n) / rate - 1


def fits(points):
    """Fit of each of the two forms"""
    found = []
    for name, model in MODELS.items():
        pair = fit(model, points)
        without = {n: fit(model, {m: r for m, r in points.items() if m != n})
                   for n in points}
        found.append(Fit(
            name, pair,
            {n: off_by(model, pair, n, r) for n, r in points.items()},
            {n: off_by(model, without[n], n, r) for n, r in points.items()}))
    return found
