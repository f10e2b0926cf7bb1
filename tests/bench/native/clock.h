/*
 * Time and CPU time, for all programs here
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BENCH_NATIVE_CLOCK_H
#define BENCH_NATIVE_CLOCK_H

/**
 * clock_ns: what a clock of the kernel's shows
 * @id: CLOCK_MONOTONIC, or one of CPU time
 *
 * Returns nanoseconds.  Any thread.
 */
static inline int64_t clock_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

#endif
