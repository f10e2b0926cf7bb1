/*
 * The postcopy userfault service's state
 *
 * For the files of the service only; others call postcopy-userfault.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_USERFAULT_INT_H
#define QEMU_MIGRATION_POSTCOPY_USERFAULT_INT_H

#include "exec/target_page.h"
#include "system/userfault-headers.h"
#include "postcopy-readahead.h"
#include "postcopy-request.h"
#include "postcopy-urgent.h"
#include "postcopy-userfault.h"
#include "postcopy-userfault-stats.h"
#include "postcopy-wait.h"

/* A block whose pages may be absent.  Set once when the service starts. */
typedef struct PostcopyBlock {
    RAMBlock *rb;
    uint8_t *host;
    size_t page_size;
    unsigned readahead;     /* host pages that may be asked for ahead */
    PostcopyRequestMap map;
} PostcopyBlock;

/*
 * Loaders set bits of the same word at that time, and what is read is half of
 * the first two orderings above.
 */
static inline bool page_present(const PostcopyBlock *b, uint64_t offset)
{
    uint64_t page = offset >> qemu_target_page_bits();

    return qatomic_read(&b->rb->receivedmap[BIT_WORD(page)]) & BIT_MASK(page);
}

typedef struct PostcopyVcpu {
    /* This vCPU's thread only */
    uintptr_t broken_page;  /* the wait for it was broken ... */
    int64_t broken_start;   /* ... after it had begun at this time */
    PostcopyReadahead readahead;
    unsigned ahead;         /* pages up its walk that are to be asked for */
    /* Written by this vCPU's thread, read by postcopy_userfault_stop() */
    bool inside;
    PostcopyVcpuStats stats;
    /* See there */
    PostcopyHandover handover;
} QEMU_ALIGNED(64) PostcopyVcpu;

/* A way of requests to the source: the return path, or a further channel */
typedef struct PostcopyChannel {
    /* Set by start; those of the queue by stop */
    QemuMutex *mutex;
    QEMUFile **file;
    RAMBlock **last_rb;
    PostcopyRequestQueue *queue;
    /* Under *mutex */
    bool open;                      /* vCPUs may write */
    int fd;                         /* to poll, or -1 */
    uint64_t flushes;
} PostcopyChannel;

typedef struct PostcopyUserfault {
    /* Set by properties, read by start */
    OnOffAuto policy;
    uint32_t readahead;             /* in pages of the guest */
    /* Written by start and stop, under the BQL */
    bool ever;                      /* the statistics mean something */
    bool running;
    PostcopyUserfaultStatus status;
    char *reason;                   /* of status "fallback" */
    /* Written by start and stop, read by all */
    bool serving;
    /* Written under mis->rp_mutex, read by loaders */
    bool acknowledges;              /* the channels are TCP */
    /* Set by start, freed by the next start, or by stop if so said */
    MigrationIncomingState *mis;
    GHashTable *blocks;             /* RAMBlock to PostcopyBlock; by stop */
    PostcopyWaitTable *waits;
    /* [0] is the return path.  There may be as many as were configured. */
    unsigned max_channels;
    PostcopyChannel channel[POSTCOPY_URGENT_MAX];
    PostcopyVcpu *vcpu;
    uint8_t *handover_pages;        /* one for each vCPU; by stop */
    unsigned nr_vcpus;
    QemuMutex discard_lock;
    QemuMutex stats_lock;
    /* See postcopy-urgent-in.c for who writes, and when; read by all */
    unsigned channels;              /* in use, from [0] on */
    unsigned most_channels;         /* that were, at a time */
    PostcopyServiceStats stats;
} PostcopyUserfault;

extern PostcopyUserfault postcopy_userfault;

/**
 * postcopy_userfault_channels_init: make the ways of requests
 * @u: the service, with u->mis set
 *
 * All are closed.  For start.
 */
void postcopy_userfault_channels_init(PostcopyUserfault *u);

/**
 * postcopy_userfault_channels_free: free what init made; idempotent
 * @u: the service; no vCPU uses it
 */
void postcopy_userfault_channels_free(PostcopyUserfault *u);

/**
 * postcopy_userfault_channel_open_locked: let vCPUs write to the return path
 * @u: the service, with a channel in u->mis->to_src_file
 *
 * Any thread.  Called with mis->rp_mutex held.  Closed again by
 * postcopy_userfault_pause_locked().
 */
void postcopy_userfault_channel_open_locked(PostcopyUserfault *u);

/**
 * postcopy_userfault_queue: by which way to ask for a page
 * @u: the service
 * @offset: byte offset of the page in its block; it has been claimed
 *
 * Pages next to each other mostly have the same.  Any thread, no locks.
 */
PostcopyRequestQueue *postcopy_userfault_queue(PostcopyUserfault *u,
                                               uint64_t offset);

/**
 * postcopy_userfault_channel_attach: give a further channel its connection
 * @index: which channel, from 1 on
 * @to_src: the connection, taken over
 *
 * vCPUs do not write to it yet.  Any thread, without the channels' mutexes.
 */
void postcopy_userfault_channel_attach(unsigned index, QEMUFile *to_src);

/**
 * postcopy_userfault_channel_detach: close the connection of a further channel
 * @index: which channel, from 1 on
 *
 * After postcopy_userfault_channels_shut(), without the channels' mutexes.
 */
void postcopy_userfault_channel_detach(unsigned index);

/**
 * postcopy_userfault_channels_open: let vCPUs write to further channels
 * @further: the channels from 1 to this one, which are attached
 *
 * Any thread, without the channels' mutexes.
 */
void postcopy_userfault_channels_open(unsigned further);

/**
 * postcopy_userfault_channels_shut: have requests go by the return path alone
 *
 * Any thread.
 */
void postcopy_userfault_channels_shut(void);

/**
 * postcopy_userfault_takes: where a vCPU takes a page of @b that comes for it
 * @u: the service
 * @v: the calling vCPU
 * @b: the block
 *
 * Returns NULL if its loader has to place it.
 */
PostcopyHandover *postcopy_userfault_takes(PostcopyUserfault *u,
                                           PostcopyVcpu *v,
                                           const PostcopyBlock *b);

/**
 * postcopy_userfault_place_given: place the page that a vCPU was given
 * @u: the service
 * @v: the calling vCPU, with v->handover.given set
 * @b: the block
 * @offset: byte offset of the page in it
 *
 * Wakes others that wait for the page by now.  If that fails the migration is
 * paused, and the page is still missing.  Without locks.
 */
void postcopy_userfault_place_given(PostcopyUserfault *u, PostcopyVcpu *v,
                                    const PostcopyBlock *b, uint64_t offset);

#endif
