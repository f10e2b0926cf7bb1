# SPDX-License-Identifier: GPL-2.0-or-later
"""Latency histograms: the guest's log-linear one and QEMU's log2 one.

The guest's has eight buckets per octave of nanoseconds (tests/guest/
histogram.h has the same arithmetic in C); QEMU's bucket i counts
2^i <= ns < 2^(i+1).
"""

SUB_BITS = 3
SUB = 1 << SUB_BITS


def bucket_index(ns):
    """The bucket of the guest's histogram that counts @ns."""
    if ns < SUB:
        return ns
    octave = ns.bit_length() - 1
    return ((octave - SUB_BITS + 1) * SUB
            + ((ns >> (octave - SUB_BITS)) & (SUB - 1)))


def bucket_lower(index):
    """The smallest number of nanoseconds that falls into bucket @index."""
    row, column = divmod(index, SUB)
    return column if row == 0 else (SUB + column) << (row - 1)


class Histogram:
    """Counts over ranges of nanoseconds.  Buckets: {lower bound: (upper
    bound, count)}; the ranges do not overlap."""

    def __init__(self, ranges=()):
        self.ranges = sorted((low, high, n) for low, high, n in ranges if n)

    @classmethod
    def from_guest(cls, counts):
        """@counts: {bucket index: count}"""
        return cls((bucket_lower(i), bucket_lower(i + 1), n)
                   for i, n in counts.items())

    @classmethod
    def from_log2(cls, counts):
        """@counts: list, bucket i counts 2^i <= ns < 2^(i+1)"""
        return cls((1 << i, 2 << i, n) for i, n in enumerate(counts))

    @property
    def count(self):
        return sum(n for _, _, n in self.ranges)

    def at_least(self, ns):
        """The part of it in buckets that lie at @ns or above."""
        return Histogram(r for r in self.ranges if r[0] >= ns)

    def percentile(self, percent):
        """
        The value below which @percent of the counts lie, taking a bucket's
        counts as spread evenly over it.  None when nothing was counted.
        """
        rank = self.count * percent / 100
        for low, high, n in self.ranges:
            if rank <= n:
                return low + (high - low) * rank / n
            rank -= n
        return self.ranges[-1][1] if self.ranges else None

    def max(self):
        """The upper bound of the highest bucket in use; None when empty."""
        return self.ranges[-1][1] if self.ranges else None


def counts_between(before, after):
    """The counts that @after has on top of @before ({index: count})."""
    return {i: n - before.get(i, 0) for i, n in after.items()
            if n != before.get(i, 0)}
