# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run measured as it went along, in seconds since the switchover."""


def offset_to_host(beats):
    """
    Seconds to add to the guest's clock to get the host's.  A heartbeat
    arrives late, never early, so the one that took least time tells.
    """
    return min(b['time'] - b['ms'] / 1e3 for b in beats)


def guest_rates(beats):
    """
    [start, end, pages verified per second] between each two heartbeats, on the
    host's clock.  The rate itself is of the guest's clock: a heartbeat that
    waits in the guest's console changes nothing.
    """
    if len(beats) < 2:
        return []
    offset = offset_to_host(beats)
    pairs = zip(beats, beats[1:])
    return [[a['ms'] / 1e3 + offset, b['ms'] / 1e3 + offset,
             (b['verified'] - a['verified']) / (b['ms'] - a['ms']) * 1e3]
            for a, b in pairs if b['ms'] > a['ms']]


def throughput(beats, times):
    """
    guest_rates() of the source, then of the destination: the guest's clock
    stands still in between, so each side has an offset of its own.
    """
    origin = times['switchover']
    sides = ([b for b in beats if b['time'] < origin],
             [b for b in beats if b['time'] >= times['resumed']])
    return [[round(start - origin, 3), round(end - origin, 3), round(rate, 1)]
            for side in sides for start, end, rate in guest_rates(side)]


def fault_rates(samples, times):
    """
    [start, end, faults served per second] between each two (host's clock,
    count) of @samples; the count is 0 when the guest resumes.
    """
    origin, resumed = times['switchover'], times['resumed']
    points = [(resumed, 0)] + [(t, n) for t, n in samples if t > resumed]
    return [[round(a - origin, 3), round(b - origin, 3),
             round(max(n - m, 0) / (b - a), 1)]
            for (a, m), (b, n) in zip(points, points[1:]) if b > a]


def relative(times):
    """The phases' times, the switchover being 0."""
    return {name: round(at - times['switchover'], 4)
            for name, at in times.items()}


def mean_within(rates, start, end):
    """
    The mean of @rates ([start, end, rate]) between @start and @end, weighted
    by time; None where they say nothing.
    """
    total = weight = 0.0
    for a, b, rate in rates:
        overlap = min(b, end) - max(a, start)
        if overlap > 0:
            total += rate * overlap
            weight += overlap
    return total / weight if weight else None
