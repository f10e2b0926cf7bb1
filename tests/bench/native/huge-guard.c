/*
 * A host page whose pieces come one by one, seen by nobody before it is whole
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include "qemu/atomic.h"
#include "huge-guard.h"
#include "huge-memory.h"
#include "source.h"

#define WORDS (PAGE_BYTES / 8)
#define EARLY_US 200000         /* a reader that is not held has read by then */

bool huge_breakage(const char *name, HugeBreakage *breakage)
{
    static const char *const names[] = {
        [HUGE_SOUND] = "",
        [HUGE_MISSING] = "missing",
        [HUGE_OPEN] = "open",
    };
    unsigned i;

    for (i = 0; i < G_N_ELEMENTS(names); i++) {
        if (g_str_equal(name, names[i])) {
            *breakage = i;
            return true;
        }
    }
    return false;
}

bool huge_piece_right(const uint8_t *memory, uint64_t piece)
{
    const uint64_t *word = (const uint64_t *)(memory + piece * PAGE_BYTES);
    unsigned i;

    for (i = 0; i < WORDS; i++) {
        if (qatomic_read(word + i) != source_content(piece, i)) {
            return false;
        }
    }
    return true;
}

static void fill_piece(uint8_t *memory, uint64_t piece)
{
    uint64_t *word = (uint64_t *)(memory + piece * PAGE_BYTES);
    unsigned i;

    for (i = 0; i < WORDS; i++) {
        word[i] = source_content(piece, i);
    }
}

void huge_open(int uffd, uint8_t *page, uint64_t host_page,
               HugeBreakage breakage)
{
    struct uffdio_continue it = { .range = { (uintptr_t)page, host_page } };

    if (breakage == HUGE_MISSING) {
        ioctl(uffd, UFFDIO_WAKE, &it.range);
    } else if (ioctl(uffd, UFFDIO_CONTINUE, &it) &&
               !(breakage == HUGE_OPEN && errno == EEXIST)) {
        g_error("UFFDIO_CONTINUE: %s", g_strerror(errno));
    }
}

typedef struct Look {
    const uint8_t *memory;
    bool done, right;
} Look;

static void *look(void *opaque)
{
    Look *it = opaque;

    it->right = huge_piece_right(it->memory, 0);
    qatomic_store_release(&it->done, true);
    return NULL;
}

bool huge_guard_holds(uint64_t host_page, HugeBreakage breakage)
{
    uint64_t pieces = host_page / PAGE_BYTES, piece;
    int fd = huge_memfd(host_page, host_page), uffd;
    uint8_t *guarded = huge_map(fd, host_page);
    uint8_t *alias = huge_map(fd, host_page);
    Look it = { .memory = guarded };
    pthread_t thread;
    bool early;

    uffd = huge_guard(guarded, host_page, breakage != HUGE_MISSING);
    for (piece = 0; piece < pieces - 1; piece++) {
        fill_piece(alias, piece);
    }
    pthread_create(&thread, NULL, look, &it);
    g_usleep(EARLY_US);
    early = qatomic_load_acquire(&it.done);
    fill_piece(alias, piece);
    huge_open(uffd, guarded, host_page, breakage);
    pthread_join(thread, NULL);
    for (piece = 0; piece < pieces; piece++) {
        it.right &= huge_piece_right(guarded, piece);
    }
    close(uffd);
    munmap(guarded, host_page);
    munmap(alias, host_page);
    close(fd);
    return !early && it.right;
}
