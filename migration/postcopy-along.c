/*
 * Pages that come along with one: asked for, and mapped, ahead of a vCPU
 *
 * A vCPU that has come to a page asks for those that its walk comes to next
 * (postcopy-readahead.c finds the walk), and has KVM map those that are there.
 *
 * Threads      vCPUs, each with its own walks; the fault thread for the look at
 *              what may have been left out.
 * Owns         nothing: walks are in PostcopyVcpu, claims in PostcopyBlock.
 * Locks        none.
 * Failure      none: what is not asked for here is asked for when a vCPU comes
 *              to it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/qapi-types-migration.h"
#include "exec/target_page.h"
#include "options.h"
#include "postcopy-along.h"
#include "ram.h"
#include "trace.h"

/*
 * Pages in one request ahead of need.  With the preempt channel the source
 * answers a request without letting go of its bitmap; and when QEMU's comes to a
 * page that its background stream is sending at that moment, it leaves out the
 * rest: see postcopy_along_left_out().
 */
#define READAHEAD_REQUEST 8

/* Pages next to each other that have been claimed and will be one request */
typedef struct ReadaheadRun {
    uint64_t offset;
    unsigned pages;
} ReadaheadRun;

static void push_run(PostcopyRequestQueue *queue, PostcopyVcpu *v,
                     PostcopyBlock *b, ReadaheadRun *run)
{
    if (run->pages) {
        postcopy_request_push_ahead(queue, b, run->offset,
                                    run->pages * b->page_size);
        postcopy_count(&v->stats.readahead_requests, 1);
        postcopy_count(&v->stats.readahead_pages, run->pages);
        run->pages = 0;
    }
}

/* Whether a page would have to be asked for if a vCPU came to it */
static bool is_wanting(const PostcopyBlock *b, uint64_t offset)
{
    return !page_present(b, offset) &&
           !postcopy_request_claimed(&b->map, offset) &&
           !ramblock_page_is_discarded(b->rb, offset);
}

/*
 * Queue requests for pages ahead of @w, which has come to @page; at most
 * @room of them.  Returns how many.
 */
static unsigned ask_along(PostcopyRequestQueue *queue, PostcopyVcpu *v,
                          PostcopyBlock *b, PostcopyWalk *w, unsigned room)
{
    ReadaheadRun run = { 0 };
    unsigned step, requests = 0;

    for (step = 1; step <= POSTCOPY_READAHEAD_REACH; step++) {
        int64_t page = w->page + step * w->stride;
        uint64_t offset = page * b->page_size;
        bool joins = run.pages && run.pages < READAHEAD_REQUEST &&
                     offset == run.offset + run.pages * b->page_size;

        if (page < 0 || page >= b->map.pages) {
            break;
        }
        if (!is_wanting(b, offset)) {
            continue;
        }
        if (!postcopy_readahead_room(w) || (!joins && requests == room)) {
            break;
        }
        if (!postcopy_request_claim_ahead(&b->map, offset)) {
            continue;
        }
        postcopy_readahead_asked(w, step);
        if (!joins) {
            push_run(queue, v, b, &run);
            run.offset = offset;
            requests++;
        }
        run.pages++;
    }
    push_run(queue, v, b, &run);
    postcopy_readahead_reached(w, step - 1);
    return requests;
}

bool postcopy_along_ask(PostcopyRequestQueue *queue, PostcopyVcpu *v,
                        PostcopyBlock *b, uint64_t offset)
{
    PostcopyReadaheadVerdict verdict;
    unsigned wanted, room, requests;
    PostcopyWalk *w;

    w = postcopy_readahead_fault(&v->readahead, b, offset / b->page_size,
                                 b->readahead, &verdict);
    v->ahead = w && w->stride == 1 ? w->window : 0;
    postcopy_count(&v->stats.readahead_used, verdict.used);
    postcopy_count(&v->stats.readahead_dropped, verdict.dropped);
    if (!w) {
        return false;
    }
    wanted = postcopy_readahead_room(w);
    room = postcopy_request_reserve(queue, wanted);
    requests = ask_along(queue, v, b, w, room);
    postcopy_request_unreserve(queue, room - requests);
    trace_postcopy_userfault_readahead(b->rb->idstr, offset, w->stride,
                                       wanted - postcopy_readahead_room(w),
                                       requests);
    return requests;
}

uint64_t postcopy_along_present(const PostcopyVcpu *v, const PostcopyBlock *b,
                                uint64_t offset)
{
    uint64_t page = offset / b->page_size;
    uint64_t end = MIN(page + 1 + v->ahead, b->map.pages);
    uint64_t next = page + 1;

    while (next < end && page_present(b, next * b->page_size)) {
        next++;
    }
    return (next - page - 1) * b->page_size;
}

bool postcopy_along_left_out(const PostcopyBlock *b, uint64_t offset)
{
    return migrate_postcopy_preempt() &&
           postcopy_request_is_ahead(&b->map, offset);
}
