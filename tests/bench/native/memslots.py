# SPDX-License-Identifier: GPL-2.0-or-later
"""What switching KVM userfault on and off takes in QEMU for 1 TiB of memory:
runs of slots-bench, and the goals for them."""

from statistics import median

import program

GIB = 1024
ADDRESS_SPACES = (1, 2)         # 2: with SMM, as on q35
PRESENT = ('none', 'half', 'all')
MOST_MS = 50                    # beside the page faults of the bitmaps
MOST_BYTES = 32 << 20


def run(path):
    """What slots-bench prints, for all kinds of memory"""
    return [found for spaces in ADDRESS_SPACES for present in PRESENT
            for found in program.read_runs([path, str(GIB), str(spaces), present])]


def summary(runs):
    """[{figure: median of the rounds}] for each kind of memory, in ms and MiB"""
    found = []
    for spaces in ADDRESS_SPACES:
        for present in PRESENT:
            some = [r for r in runs
                    if (r['address_spaces'], r['present']) == (spaces, present)]
            found.append({
                'address_spaces': spaces, 'present': present,
                'enable_ms': median(r['enable_ns'] for r in some) / 1e6,
                'touch_ms': median(r['touch_ns'] for r in some) / 1e6,
                'beside_ms': median(r['enable_ns'] - r['touch_ns']
                                    for r in some) / 1e6,
                'disable_ms': median(r['disable_ns'] for r in some) / 1e6,
                'bitmap_mib': some[0]['bitmap_bytes'] / (1 << 20)})
    return found


def verdict(found):
    """Lines: each goal, met or not, by the worst case"""
    told = []
    for key, text in (('beside_ms', 'switching on, beside the page faults'),
                      ('disable_ms', 'switching off')):
        worst = max(it[key] for it in found)
        told.append(f'{"met" if worst <= MOST_MS else "NOT MET"}: {text}: at most '
                    f'{MOST_MS} ms: {worst:.1f} ms')
    for it in found:
        if it['present'] == PRESENT[0]:
            fits = it['bitmap_mib'] * (1 << 20) <= MOST_BYTES
            told.append(f'{"met" if fits else "NOT MET"}: bitmaps at most '
                        f'{MOST_BYTES >> 20} MiB with {it["address_spaces"]} address '
                        f'spaces: {it["bitmap_mib"]:.0f} MiB')
    return told


def table(found):
    lines = [f'{GIB} GiB of memory; CPU time in ms',
             'address spaces present       on  page faults   beside       off  '
             'bitmaps']
    for it in found:
        lines.append(f'{it["address_spaces"]:>14} {it["present"]:<7}'
                     f'{it["enable_ms"]:>9.1f} {it["touch_ms"]:>12.1f}'
                     f'{it["beside_ms"]:>9.1f} {it["disable_ms"]:>9.1f}'
                     f'{it["bitmap_mib"]:>5.0f} MiB')
    return [*lines, '', *verdict(found)]
