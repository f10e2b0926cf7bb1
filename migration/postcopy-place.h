/*
 * Placing a page in postcopy, and what may go wrong with it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_PLACE_H
#define QEMU_MIGRATION_POSTCOPY_PLACE_H

/**
 * postcopy_place: put a host page where it belongs, by userfaultfd
 * @uffd: the descriptor of userfaultfd
 * @host: host address of the page
 * @from: what it holds, or NULL for zeroes
 * @size: bytes
 * @received: whether the page was placed before
 *
 * Returns 0 when the page is there, and everybody who waits for it in
 * userfaultfd has been woken.  Returns a negative errno value, after an error
 * was reported, when it is not: what was to be placed then has to be sent
 * again.  May sleep for some seconds while the host has no memory.  For any
 * thread; the caller sees to it that no two place the same page.
 */
int postcopy_place(int uffd, void *host, const void *from, uint64_t size,
                   bool received);

#endif
