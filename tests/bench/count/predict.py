# SPDX-License-Identifier: GPL-2.0-or-later
"""What 64, 256 and 512 CPUs would do, as far as the counts tell.

Assumptions, beside those of model.py:

* there is a CPU for each vCPU, and for each thread that all faults pass through;
* a machine with so many CPUs needs for a fault what was counted with as many
  vCPUs, or with the next smaller number of them that was counted; below that,
  with the smallest;
* the time of an instruction is the same everywhere.  It is chosen so that what
  the fault thread and the loaders do in the kernel without KVM userfault takes
  as long as a page does in the published table with one userfaultfd; there it is
  one thread that reads the message and places the page;
* what each further CPU costs in the kernel beside postcopy (zones, counters,
  page tables) is as in the table's first row, for both modes alike;
* the network has no limit, and its delay is left out;
* threads that all faults pass through do not wait for each other's locks.  With
  several channels that flatters: they share the mutex of the source's bitmap, and
  that of the pages requested on the destination.

So the ratio of both modes says more than either.
"""

import model

VCPUS = (1, 8, 64, 256, 512)
# Instructions of one fault: a queue of less is none.
NEGLIGIBLE = 1
# vCPUs with which the time of an instruction is found
COUNTED_WITH = 8


def serial_threads(entry):
    """(name, instructions of one fault) of the threads on both sides"""
    for side, threads in entry['serial_threads'].items():
        for name, places in threads.items():
            if sum(places.values()):
                yield f'{side}: {name}', sum(places.values())


def us_per_instruction(off, page_us):
    """@off: the counts without KVM userfault"""
    return page_us / sum(places['kernel'] for places
                         in off['serial_threads']['destination'].values())


def network(entry, us):
    """(think, stations) in us for model.throughput()"""
    locked = entry['figures']['vcpu exclusive']
    stations = {name: us * count for name, count in serial_threads(entry)}
    for site, parts in entry['locks'].items():
        for number, count in enumerate(parts):
            if count >= NEGLIGIBLE:
                stations[f'vCPUs: lock {number + 1} of {site}'] = us * count
    return us * (entry['figures']['destination vcpu'] - locked), stations


def predict(entry, us, more, vcpus):
    """@more: us that each further vCPU adds to a fault of all"""
    think, stations = network(entry, us)
    rate, _ = model.throughput(think + more * (vcpus - 1), stations, vcpus)
    return {'rate': rate, 'bound': max(stations, key=stations.get),
            'load': rate * max(stations.values())}


def fit_lines(fits):
    """@fits: {row of the table: [Fit]}"""
    lines = ['the table, and how the two forms of model fit it; us for a page;',
             'in brackets: predicted from the other two points', '']
    for row, found in fits.items():
        for it in found:
            points = '  '.join(
                f'{n}: {100 * e:+.0f}% ({100 * it.left_out[n]:+.0f}%)'
                for n, e in it.errors.items())
            lines.append(f'{row:<30} {it.model:<6} {it.pair[0]:6.2f} '
                         f'{it.pair[1]:6.3f}  {points}')
    return lines


def pair_of(fits, row, form):
    return next(it.pair for it in fits[row] if it.model == form)


def all_fits():
    return {row: model.fits(points) for row, points in model.PUBLISHED.items()}


def both_modes(entries):
    """{vCPUs: {mode: entry}} of the numbers of vCPUs at which userfaultfd and
    another mode were counted"""
    found = {}
    for entry in entries:
        found.setdefault(entry['vcpus'], {})[entry['mode']] = entry
    return {n: modes for n, modes in found.items()
            if 'off' in modes and len(modes) > 1}


def nearest(counted, vcpus):
    """Of the numbers @counted, that whose counts stand for @vcpus"""
    return max((n for n in counted if n <= vcpus), default=min(counted))


def report(entries, fits):
    """Lines; none unless both modes were counted with COUNTED_WITH vCPUs."""
    known = both_modes(entries)
    if COUNTED_WITH not in known:
        return []
    page = pair_of(fits, model.USERFAULTFD, 'queue')[1] if fits else 5.0
    more = pair_of(fits, model.LIMIT, 'line')[1] if fits else 0.3
    us = us_per_instruction(known[COUNTED_WITH]['off'], page)
    lines = [f'an instruction takes {1e3 * us:.2f} ns; each further vCPU adds '
             f'{more:.2f} us', '',
             'CPUs  mode       faults/s   / off  of all, the busiest part']
    for vcpus in VCPUS:
        counted = known[nearest(known, vcpus)]
        found = {mode: predict(counted[mode], us, more, vcpus)
                 for mode in counted}
        for mode, it in found.items():
            ratio = (f'{it["rate"] / found["off"]["rate"]:6.2f}' if mode != 'off'
                     else ' ' * 6)
            lines.append(f'{vcpus:4}  {mode:<8} {1e6 * it["rate"]:10,.0f}  {ratio}'
                         f'  {100 * it["load"]:.0f}% {it["bound"]}')
    return lines
