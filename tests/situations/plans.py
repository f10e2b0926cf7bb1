# SPDX-License-Identifier: GPL-2.0-or-later
"""What is done to a migration of the soak, drawn beforehand from a seed.

Faults are of KINDS.  A plan has some of them, or of those that are asked for
alone.
"""

from dataclasses import dataclass

import meddle
from faulty import FURTHER, MAIN, NAMES, PREEMPT
from harness.migration import MIB

# Before the switchover: the guest stays where it is.
EARLY = ('cancel', 'cut early', 'garble', 'quit early')
# At the last migration of a life: the guest is lost.
LOSSES = ('kill', 'quit')
# Any number of them, at moments after the switchover.
ACTS = ('hold', 'stop', 'pause', 'look', 'stall', 'call', 'bit set', 'bit cleared',
        'slow vCPU', 'plug device', 'plug CPU', 'pressure')
WEIGHTS = (10, 6, 6, 6, 12, 24, 8, 8, 8, 3, 3, 2)
AT_START = 'call at start'
CUT = 'cut'
KINDS = (*EARLY, AT_START, CUT, *ACTS, *LOSSES)

# Of a QEMU that has none of this project in it there is no more to ask.
OF_OURS = ('call', 'bit set', 'bit cleared', 'slow vCPU', AT_START)
# The guest has to do its part.
OF_A_SYSTEM = ('plug device', 'plug CPU')
# They ask the destination's main thread, which may wait for a page while the
# way is broken.
ASKING = ('stop', 'look', 'plug device', 'plug CPU')

# How often a call is made in a short migration, about
USUAL = {'copy': 2000, 'zero page': 400, 'slot on': 12, 'slot off': 12,
         'unregister': 8, 'fault poll': 8, 'fault read': 4, 'send': 200,
         'receive': 200, 'park': 200, 'vcpu poll': 200, 'bitmap': 12,
         'try alloc': 8, 'prefault': 200}


@dataclass(frozen=True)
class Act:
    at: float                   # seconds after the switchover
    kind: str
    seconds: float = 0
    side: str = 'destination'
    outward: bool = True        # direction and ...
    channel: int = MAIN         # ... channel that is not read
    failure: meddle.Failure = None
    countdown: int = 0          # calls until the first that fails
    times: int = 1
    count: int = 0              # bits; exits of which one is slow

    def __str__(self):
        words = {
            'hold': f'{self.side} held',
            'stall': '{} channel not read {} for {:.1f} s'.format(
                NAMES[self.channel],
                'outwards' if self.outward else 'backwards', self.seconds),
            'call': f'{self.failure} at call {self.countdown}'
                    + (f', {self.times} times' if self.times > 1 else ''),
            'bit set': f'{self.count} bits set again',
            'bit cleared': f'{self.count} bits cleared early',
        }.get(self.kind, self.kind)
        return f'{words} at {self.at:.1f} s'


@dataclass(frozen=True)
class Cut:
    outward: bool
    count: int                  # bytes that still pass
    channel: int = None         # that they are counted on; None: any
    alone: bool = False         # the other channel stays

    def __str__(self):
        return ('{} cut after {} bytes {}'.format(
            'all' if not self.alone else NAMES[self.channel],
            self.count, 'out' if self.outward else 'back')
            + ('' if self.channel is None else
               f' on {NAMES[self.channel]}'))


class Plan:
    """
    @last: the last migration of a life
    @only: kinds of which alone faults are drawn, or ()
    @ours: sides that are of this project, of 'source' and 'destination'
    @short: of a guest without a system, whose memory has come in a second or two
    @channels: how many there are for urgent pages, with preempt
    """

    def __init__(self, rng, last=False, only=(), ours=('source', 'destination'),
                 short=False, channels=1):
        self.only, self.ours, self.short = only, ours, short
        self.channels = channels
        self.preempt = rng.random() < 0.6
        self.bandwidth = rng.choice((1, 2, 4)) * MIB * (2 if short else 1)
        self.early = self._early(rng)
        self.early_bytes = rng.randrange(4 * MIB)
        self.early_wait = rng.uniform(0, 1)
        self._last_act = 1 if short else 3      # seconds after the switchover
        self.early_bits = rng.randrange(1, 256)
        self.delay = {way: rng.choice((0, 0, 0.0005, 0.005))
                      for way in (True, False)}
        self.start = self._start(rng)
        self.cuts = self._cuts(rng)
        self.acts = self._acts(rng)
        self.loss = self._loss(rng) if last else None

    def _wanted(self, kind):
        return not self.only or kind in self.only

    def _early(self, rng):
        kinds = [kind for kind in EARLY if self._wanted(kind)]
        drawn = rng.random()
        if set(self.only) & set(EARLY) == set(self.only) != set():
            return rng.choice(kinds)
        return rng.choice(kinds) if kinds and drawn < 0.24 else None

    def _start(self, rng):
        """An Act, or None"""
        chosen = (AT_START in self.only or not self.only and rng.random() < 0.06)
        if not chosen or 'destination' not in self.ours:
            return None
        return self._call(rng, 0, rng.choice(meddle.AT_START))

    def _cuts(self, rng):
        count = rng.choice((0, 0, 1, 1, 2, 3))
        if not self._wanted(CUT):
            return []
        if len(self.ours) < 2:
            # What a second one meets are faults of old versions: a source of 7.2
            # waits for ever if the way breaks while it reads the bitmap.
            count = min(count, 1)
        return [self._cut(rng) for _ in range(max(count, CUT in self.only))]

    def _cut(self, rng):
        scale = 2 if self.short else 1
        outward = rng.random() < 0.5
        channel = rng.choice((None, MAIN, PREEMPT) if self.preempt
                             else (None, MAIN))
        if channel == PREEMPT and self.channels > 1 and rng.random() < 0.6:
            channel = FURTHER
        if channel == PREEMPT:
            outward = True              # nothing ever comes back there
        alone = channel is not None and self.preempt and rng.random() < 0.5
        # The return path carries 16 bytes for a page.
        limit = (4096 if not outward else 256 << 10 if channel in (PREEMPT, FURTHER)
                 else 1 * MIB) // scale
        return Cut(outward, rng.randrange(limit), channel, alone)

    def _acts(self, rng):
        kinds = [(kind, weight) for kind, weight in zip(ACTS, WEIGHTS)
                 if self._wanted(kind)
                 and (kind not in OF_OURS or 'destination' in self.ours)
                 and not (kind in OF_A_SYSTEM and self.short)]
        count = rng.randrange(5)
        if not kinds:
            return []
        names, weights = zip(*kinds)
        return sorted((self._act(rng, rng.choices(names, weights)[0])
                       for _ in range(max(count, bool(self.only)))),
                      key=lambda act: act.at)

    def _act(self, rng, kind):
        at, seconds = rng.uniform(0, self._last_act), rng.uniform(0, 1)
        if kind == 'call':
            possible = [it for it in meddle.LATER if it.side in self.ours]
            return self._call(rng, at, rng.choice(possible))
        if kind == 'hold':
            return Act(at, kind, seconds,
                       side=rng.choice(('source', 'destination')))
        if kind == 'stall':
            channel = rng.choice((MAIN, PREEMPT)) if self.preempt else MAIN
            return Act(at, kind, 3 * seconds, channel=channel,
                       outward=channel == PREEMPT or rng.random() < 0.6)
        if kind == 'slow vCPU':
            return Act(at, kind, rng.choice((0.001, 0.01, 0.1)),
                       count=rng.randrange(1, 6))
        return Act(at, kind, seconds, count=rng.randrange(1, 300))

    @staticmethod
    def _call(rng, at, failure):
        countdown = rng.randrange(1, USUAL[failure.call])
        times = (failure.times if failure.times > 3
                 else rng.randrange(1, failure.times + 1))
        # What comes but once and at the end is not to be missed often.
        if failure.call in ('slot off', 'unregister'):
            countdown = rng.randrange(1, 4)
        return Act(at, 'call', side=failure.side, failure=failure,
                   countdown=countdown, times=times)

    def _loss(self, rng):
        kinds = [kind for kind in LOSSES if self._wanted(kind)]
        drawn = rng.random()
        return rng.choice(kinds) if kinds and (self.only or drawn < 0.3) else None

    @property
    def may_pause(self):
        """Whether anything in it can break the way"""
        return bool(self.cuts) or any(
            act.kind == 'pause' or act.failure
            and act.failure.outcome == meddle.PAUSE for act in self.acts)

    def __str__(self):
        if self.early:
            return f'{self.early} before the switchover'
        return ', '.join(map(str, [
            'preempt' if self.preempt else 'no preempt',
            *([self.start.failure] if self.start else []),
            *self.cuts, *self.acts,
            *([f'source lost by {self.loss}'] if self.loss else [])]))
