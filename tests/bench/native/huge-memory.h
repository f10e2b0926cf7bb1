/*
 * A memfd of huge pages, mapped more than once
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BENCH_NATIVE_HUGE_MEMORY_H
#define BENCH_NATIVE_HUGE_MEMORY_H

/* Each ends the program if it fails.  Sizes are in bytes. */

int huge_memfd(uint64_t size, uint64_t host_page);
uint8_t *huge_map(int fd, uint64_t size);

/**
 * huge_guard: have accesses to a mapping wait until the page has been opened
 * @minor: also if somebody has filled the page through another mapping
 *
 * Returns the descriptor of the userfaultfd, which does not block.
 */
int huge_guard(uint8_t *memory, uint64_t size, bool minor);

#endif
