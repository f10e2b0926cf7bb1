/*
 * A host page whose pieces come one by one, seen by nobody before it is whole
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BENCH_NATIVE_HUGE_GUARD_H
#define BENCH_NATIVE_HUGE_GUARD_H

/* In which way the guard is taken away, to see it missed */
typedef enum HugeBreakage {
    HUGE_SOUND,
    HUGE_MISSING,               /* registered as "missing", not as "minor" */
    HUGE_OPEN,                  /* opened with the first piece */
} HugeBreakage;

/* "", "missing" or "open"; false for anything else */
bool huge_breakage(const char *name, HugeBreakage *breakage);

bool huge_piece_right(const uint8_t *memory, uint64_t piece);

/**
 * huge_open: end the guard of a host page, and wake who waits for it
 * @uffd: from huge_guard()
 * @page: in the guarded mapping
 * @host_page: bytes
 *
 * Ends the program if it fails.
 */
void huge_open(int uffd, uint8_t *page, uint64_t host_page,
               HugeBreakage breakage);

/**
 * huge_guard_holds: try it by hand: all pieces but one, then the last
 *
 * Returns whether a reader waited until the page was whole, and then found
 * what it was to find.
 */
bool huge_guard_holds(uint64_t host_page, HugeBreakage breakage);

#endif
