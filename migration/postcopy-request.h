/*
 * Asking the source for pages: each page once, many requests in one write
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_REQUEST_H
#define QEMU_MIGRATION_POSTCOPY_REQUEST_H

#include "qemu/queue.h"
#include "qemu/thread.h"

/*
 * The host pages of one RAMBlock that have been asked for.  A bit is set
 * once, by whoever will ask, and never cleared while the service runs.
 */
typedef struct PostcopyRequestMap {
    unsigned page_shift;
    uint64_t pages;
    unsigned long *requested;
    /* Of those: before anybody needed them.  Only statistics go by it. */
    unsigned long *ahead;
} PostcopyRequestMap;

/**
 * postcopy_request_map_init: prepare the map of a block
 * @map: storage, zeroed
 * @bytes: length of the block
 * @page_size: size of its host pages in bytes, a power of two
 *
 * Returns false if there is no memory; @map is then unusable.
 */
bool postcopy_request_map_init(PostcopyRequestMap *map, uint64_t bytes,
                               uint64_t page_size);

/**
 * postcopy_request_map_destroy: release what init took; idempotent
 */
void postcopy_request_map_destroy(PostcopyRequestMap *map);

/**
 * postcopy_request_claim: decide who asks for a page
 * @map: map of the page's block
 * @offset: byte offset of the page in the block
 *
 * Returns true to exactly one caller, which must then ask for the page.  A
 * full barrier: what that caller reads afterwards (whether the channel is
 * open) is not older than the mark (see postcopy_userfault_resume()).
 */
bool postcopy_request_claim(PostcopyRequestMap *map, uint64_t offset);

/**
 * postcopy_request_claim_ahead: as postcopy_request_claim(), for a page that
 * nobody needs yet
 */
bool postcopy_request_claim_ahead(PostcopyRequestMap *map, uint64_t offset);

/**
 * postcopy_request_claimed: whether a page has been claimed
 */
bool postcopy_request_claimed(const PostcopyRequestMap *map, uint64_t offset);

/**
 * postcopy_request_is_ahead: whether a page was claimed before it was needed
 *
 * Of a page that is claimed.  If two threads claim it at the same time, and one
 * of them needs it, the answer may be yes.
 */
bool postcopy_request_is_ahead(const PostcopyRequestMap *map, uint64_t offset);

/**
 * postcopy_request_next: next claimed page
 * @map: the map
 * @offset: where to begin, in bytes
 *
 * Returns the byte offset of the first claimed page at or after @offset, or
 * UINT64_MAX if there is none.
 */
uint64_t postcopy_request_next(const PostcopyRequestMap *map, uint64_t offset);

typedef struct PostcopyRequest {
    QSLIST_ENTRY(PostcopyRequest) next;
    void *block;
    uint64_t offset;
    uint32_t length;
    bool ahead;         /* of all requests in a list these can go last */
} PostcopyRequest;

/*
 * Requests ahead of need that may be queued at a time.  They share a write
 * with those of all vCPUs, which has to be small (PostcopyRequestOps.lock).
 */
#define POSTCOPY_REQUEST_AHEAD_MAX 256

typedef QSLIST_HEAD(PostcopyRequestList, PostcopyRequest) PostcopyRequestList;

typedef enum PostcopySend {
    /* All that was queued is on its way. */
    POSTCOPY_SEND_DONE,
    /* Another thread is sending, ours included. */
    POSTCOPY_SEND_ELSEWHERE,
    /* Nothing was sent: call again from a thread that may block. */
    POSTCOPY_SEND_WOULD_BLOCK,
    /*
     * The channel is broken or closed.  Requests are dropped, or stay queued
     * if they came meanwhile; their pages stay claimed, and a resume asks for
     * all of these anew.
     */
    POSTCOPY_SEND_FAILED,
} PostcopySend;

typedef struct PostcopyRequestQueue PostcopyRequestQueue;

typedef struct PostcopyRequestOps {
    /*
     * Lock the channel.  With @may_block false: only if that takes no wait
     * and a write of a few kilobytes would not wait either, else return
     * false.
     */
    bool (*lock)(void *opaque, bool may_block);
    /*
     * Write all of @list (oldest first), which stays the caller's, in one
     * go.  The channel is locked.  Returns false if it is broken or closed.
     */
    bool (*write)(void *opaque, const PostcopyRequestList *list);
    void (*unlock)(void *opaque);
} PostcopyRequestOps;

/**
 * postcopy_request_queue_new: make a queue
 * @ops: how to reach the channel; called by the thread that flushes
 * @opaque: for @ops
 */
PostcopyRequestQueue *postcopy_request_queue_new(const PostcopyRequestOps *ops,
                                                 void *opaque);

/**
 * postcopy_request_queue_free: drop what is queued and free @queue
 */
void postcopy_request_queue_free(PostcopyRequestQueue *queue);

/**
 * postcopy_request_push: queue a request
 * @queue: the queue
 * @block: for ops->write()
 * @offset: byte offset in the block
 * @length: in bytes
 *
 * Lock-free, any thread; a full barrier.  Call postcopy_request_flush() next.
 */
void postcopy_request_push(PostcopyRequestQueue *queue, void *block,
                           uint64_t offset, uint32_t length);

/**
 * postcopy_request_reserve: find room for requests ahead of need
 * @queue: the queue
 * @n: how many
 *
 * To be called before their pages are claimed, as what is claimed has to be
 * asked for.  Returns for how many there is room.  Lock-free, any thread.
 */
unsigned postcopy_request_reserve(PostcopyRequestQueue *queue, unsigned n);

/**
 * postcopy_request_unreserve: give back room that was not needed
 * @queue: the queue
 * @n: how many
 */
void postcopy_request_unreserve(PostcopyRequestQueue *queue, unsigned n);

/**
 * postcopy_request_push_ahead: as postcopy_request_push(), for a request that
 * has room reserved
 */
void postcopy_request_push_ahead(PostcopyRequestQueue *queue, void *block,
                                 uint64_t offset, uint32_t length);

/**
 * postcopy_request_flush: send what is queued, unless somebody else does
 * @queue: the queue
 * @may_block: whether the calling thread may wait for locks and for the
 *             socket; false for vCPUs
 *
 * Whoever gets the send lock sends the requests of all; the others return at
 * once.  A request pushed before the call is written, in the hands of a thread
 * that is in this function, or the channel is broken.
 */
PostcopySend postcopy_request_flush(PostcopyRequestQueue *queue,
                                    bool may_block);

/**
 * postcopy_request_drop: forget what is queued
 * @queue: the queue; the caller asks for the claimed pages anew
 */
void postcopy_request_drop(PostcopyRequestQueue *queue);

#endif
