/*
 * Is what is queued sent once, in order, and in as few writes as possible?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "postcopy-request.h"
#include "unit.h"

/* A channel that keeps what is written */
typedef struct Channel {
    PostcopyRequestQueue *queue;
    uint64_t sent[1024];
    uint32_t length[1024];
    bool ahead[1024];
    unsigned nr_sent;
    unsigned writes, locks, unlocks;
    bool locked;
    /* What it is to do */
    bool broken;                /* writes fail */
    int refuse_after;           /* that many locks that may not block; -1 */
    void (*on_write)(struct Channel *c);
    void (*on_unlock)(struct Channel *c);
} Channel;

static bool channel_lock(void *opaque, bool may_block)
{
    Channel *c = opaque;

    g_assert_false(c->locked);
    if (!may_block && c->refuse_after >= 0 && c->refuse_after-- == 0) {
        c->refuse_after = 0;
        return false;
    }
    c->locked = true;
    c->locks++;
    return true;
}

static bool channel_write(void *opaque, const PostcopyRequestList *list)
{
    Channel *c = opaque;
    PostcopyRequest *req;

    g_assert_true(c->locked);
    g_assert_false(QSLIST_EMPTY(list));
    c->writes++;
    if (!c->broken) {
        QSLIST_FOREACH(req, list, next) {
            g_assert_true(req->block == c);
            g_assert_cmpuint(c->nr_sent, <, ARRAY_SIZE(c->sent));
            c->length[c->nr_sent] = req->length;
            c->ahead[c->nr_sent] = req->ahead;
            c->sent[c->nr_sent++] = req->offset;
        }
    }
    if (c->on_write) {
        c->on_write(c);
    }
    return !c->broken;
}

static void channel_unlock(void *opaque)
{
    Channel *c = opaque;

    g_assert_true(c->locked);
    c->locked = false;
    c->unlocks++;
    if (c->on_unlock) {
        c->on_unlock(c);
    }
}

static const PostcopyRequestOps ops = {
    .lock = channel_lock, .write = channel_write, .unlock = channel_unlock,
};

static Channel *channel_new(void)
{
    Channel *c = g_new0(Channel, 1);

    c->refuse_after = -1;
    c->queue = postcopy_request_queue_new(&ops, c);
    return c;
}

static void channel_free(Channel *c)
{
    g_assert_false(c->locked);
    g_assert_cmpuint(c->locks, ==, c->unlocks);
    postcopy_request_queue_free(c->queue);
    g_free(c);
}

static void push(Channel *c, uint64_t first, uint64_t last)
{
    for (; first <= last; first++) {
        postcopy_request_push(c->queue, c, first, 1);
    }
}

static void check_sent(Channel *c, uint64_t last, unsigned writes)
{
    unsigned i;

    g_assert_cmpuint(c->nr_sent, ==, last);
    for (i = 0; i < last; i++) {
        g_assert_cmpuint(c->sent[i], ==, i + 1);
    }
    g_assert_cmpuint(c->writes, ==, writes);
}

static void test_fifo(gconstpointer may_block)
{
    Channel *c = channel_new();
    bool block = GPOINTER_TO_UINT(may_block);

    push(c, 1, 100);
    g_assert_cmpint(postcopy_request_flush(c->queue, block), ==,
                    POSTCOPY_SEND_DONE);
    check_sent(c, 100, 1);
    push(c, 101, 101);
    g_assert_cmpint(postcopy_request_flush(c->queue, block), ==,
                    POSTCOPY_SEND_DONE);
    check_sent(c, 101, 2);
    channel_free(c);
}

static void test_nothing(gconstpointer may_block)
{
    Channel *c = channel_new();

    g_assert_cmpint(postcopy_request_flush(c->queue,
                                           GPOINTER_TO_UINT(may_block)),
                    ==, POSTCOPY_SEND_DONE);
    check_sent(c, 0, 0);
    channel_free(c);
}

static void test_would_block(void)
{
    Channel *c = channel_new();

    c->refuse_after = 0;
    push(c, 1, 3);
    g_assert_cmpint(postcopy_request_flush(c->queue, false), ==,
                    POSTCOPY_SEND_WOULD_BLOCK);
    check_sent(c, 0, 0);
    g_assert_cmpint(postcopy_request_flush(c->queue, true), ==,
                    POSTCOPY_SEND_DONE);
    check_sent(c, 3, 1);
    channel_free(c);
}

/* Others push while one writes: those are in its hands. */
static void push_two_once(Channel *c)
{
    c->on_write = NULL;
    push(c, 2, 2);
    g_assert_cmpint(postcopy_request_flush(c->queue, false), ==,
                    POSTCOPY_SEND_ELSEWHERE);
    push(c, 3, 3);
    g_assert_cmpint(postcopy_request_flush(c->queue, false), ==,
                    POSTCOPY_SEND_ELSEWHERE);
}

static void test_combined(gconstpointer may_block)
{
    Channel *c = channel_new();

    c->on_write = push_two_once;
    push(c, 1, 1);
    g_assert_cmpint(postcopy_request_flush(c->queue,
                                           GPOINTER_TO_UINT(may_block)),
                    ==, POSTCOPY_SEND_DONE);
    check_sent(c, 3, 2);
    if (!GPOINTER_TO_UINT(may_block)) {
        /* The channel was asked about room before each write. */
        g_assert_cmpuint(c->locks, ==, c->writes);
    }
    channel_free(c);
}

/* A push after the sender's last look at the list, before its unlock */
static void push_at_unlock(Channel *c)
{
    c->on_unlock = NULL;
    push(c, 2, 2);
    g_assert_cmpint(postcopy_request_flush(c->queue, false), ==,
                    POSTCOPY_SEND_ELSEWHERE);
}

static void test_late_push(gconstpointer may_block)
{
    Channel *c = channel_new();

    c->on_unlock = push_at_unlock;
    push(c, 1, 1);
    g_assert_cmpint(postcopy_request_flush(c->queue,
                                           GPOINTER_TO_UINT(may_block)),
                    ==, POSTCOPY_SEND_DONE);
    check_sent(c, 2, 2);
    channel_free(c);
}

/* The channel fills up between two writes of one sender. */
static void test_blocks_later(void)
{
    Channel *c = channel_new();

    c->on_write = push_two_once;
    c->refuse_after = 1;
    push(c, 1, 1);
    g_assert_cmpint(postcopy_request_flush(c->queue, false), ==,
                    POSTCOPY_SEND_WOULD_BLOCK);
    check_sent(c, 1, 1);
    g_assert_cmpint(postcopy_request_flush(c->queue, true), ==,
                    POSTCOPY_SEND_DONE);
    check_sent(c, 3, 2);
    channel_free(c);
}

static void test_broken(gconstpointer may_block)
{
    Channel *c = channel_new();
    bool block = GPOINTER_TO_UINT(may_block);

    c->broken = true;
    push(c, 1, 5);
    g_assert_cmpint(postcopy_request_flush(c->queue, block), ==,
                    POSTCOPY_SEND_FAILED);
    g_assert_cmpuint(c->writes, ==, 1);
    /* Dropped: nothing to write any more, and nothing twice */
    c->broken = false;
    g_assert_cmpint(postcopy_request_flush(c->queue, block), ==,
                    POSTCOPY_SEND_DONE);
    check_sent(c, 0, 1);
    channel_free(c);
}

/* Pushed behind the back of a sender that then fails */
static void test_broken_with_more(gconstpointer may_block)
{
    Channel *c = channel_new();

    c->broken = true;
    c->on_write = push_two_once;
    push(c, 1, 1);
    g_assert_cmpint(postcopy_request_flush(c->queue,
                                           GPOINTER_TO_UINT(may_block)),
                    ==, POSTCOPY_SEND_FAILED);
    c->broken = false;
    /* What a resume does: forget the rest, ask for all that is claimed. */
    postcopy_request_drop(c->queue);
    push(c, 1, 3);
    g_assert_cmpint(postcopy_request_flush(c->queue, true), ==,
                    POSTCOPY_SEND_DONE);
    check_sent(c, 3, 2);
    channel_free(c);
}

static void test_resume(void)
{
    Channel *c = channel_new();
    PostcopyRequestMap map = { 0 };
    uint64_t page, asked = 0;

    g_assert_true(postcopy_request_map_init(&map, 200, 1));
    c->broken = true;
    for (page = 1; page <= 150; page++) {
        g_assert_true(postcopy_request_claim(&map, page));
        push(c, page, page);
        if (page % 2) {
            g_assert_cmpint(postcopy_request_flush(c->queue, false), ==,
                            POSTCOPY_SEND_FAILED);
        }
    }
    postcopy_request_drop(c->queue);
    c->broken = false;
    c->writes = 0;
    for (page = postcopy_request_next(&map, 0); page != UINT64_MAX;
         page = postcopy_request_next(&map, page + 1)) {
        push(c, page, page);
        asked++;
    }
    g_assert_cmpuint(asked, ==, 150);
    g_assert_cmpint(postcopy_request_flush(c->queue, true), ==,
                    POSTCOPY_SEND_DONE);
    check_sent(c, 150, 1);
    postcopy_request_map_destroy(&map);
    channel_free(c);
}

static void push_ahead(Channel *c, unsigned n)
{
    while (n--) {
        postcopy_request_push_ahead(c->queue, c, 7, 8);
    }
}

static void test_length(void)
{
    Channel *c = channel_new();

    postcopy_request_push(c->queue, c, 1, 4096);
    g_assert_cmpuint(postcopy_request_reserve(c->queue, 1), ==, 1);
    postcopy_request_push_ahead(c->queue, c, 2, 8 * 4096);
    postcopy_request_push(c->queue, c, 3, 1u << 30);
    g_assert_cmpint(postcopy_request_flush(c->queue, false), ==,
                    POSTCOPY_SEND_DONE);
    check_sent(c, 3, 1);
    g_assert_cmpuint(c->length[0], ==, 4096);
    g_assert_cmpuint(c->length[1], ==, 8 * 4096);
    g_assert_cmpuint(c->length[2], ==, 1u << 30);
    g_assert_false(c->ahead[0]);
    g_assert_true(c->ahead[1]);
    g_assert_false(c->ahead[2]);
    channel_free(c);
}

/* What nobody needs yet must not fill the channel. */
static void test_room(void)
{
    const unsigned max = POSTCOPY_REQUEST_AHEAD_MAX;
    Channel *c = channel_new();

    g_assert_cmpuint(postcopy_request_reserve(c->queue, 10), ==, 10);
    g_assert_cmpuint(postcopy_request_reserve(c->queue, max), ==, max - 10);
    g_assert_cmpuint(postcopy_request_reserve(c->queue, 1), ==, 0);
    postcopy_request_unreserve(c->queue, 3);
    g_assert_cmpuint(postcopy_request_reserve(c->queue, max + 10), ==, 3);
    g_assert_cmpuint(postcopy_request_reserve(c->queue, 0), ==, 0);

    /* Sent or dropped, they leave their room, and others take none. */
    push(c, 1, 100);
    push_ahead(c, max - 20);
    g_assert_cmpuint(postcopy_request_reserve(c->queue, max), ==, 0);
    g_assert_cmpint(postcopy_request_flush(c->queue, false), ==,
                    POSTCOPY_SEND_DONE);
    g_assert_cmpuint(postcopy_request_reserve(c->queue, 1), ==, 1);
    push_ahead(c, 21);
    postcopy_request_drop(c->queue);
    g_assert_cmpuint(postcopy_request_reserve(c->queue, 2 * max), ==, max);
    channel_free(c);
}

/* The leak checker answers this one. */
static void test_free_queued(void)
{
    Channel *c = channel_new();

    push(c, 1, 100);
    postcopy_request_drop(c->queue);
    g_assert_cmpint(postcopy_request_flush(c->queue, true), ==,
                    POSTCOPY_SEND_DONE);
    check_sent(c, 0, 0);
    push(c, 1, 100);
    channel_free(c);
    postcopy_request_queue_free(NULL);
}

static void add_both(const char *path, void (*test)(gconstpointer may_block))
{
    unit_add_number(path, false, test);
    unit_add_number(path, true, test);
}

int main(int argc, char **argv)
{
    unit_init(&argc, &argv, 120);
    add_both("/request-queue/many-pushes/one-write-in-order", test_fifo);
    add_both("/request-queue/nothing-queued/nothing-written", test_nothing);
    unit_add("/request-queue/channel-full/kept-for-a-thread-that-may-wait",
             test_would_block);
    add_both("/request-queue/pushes-during-a-write/combined-in-the-next",
             test_combined);
    add_both("/request-queue/push-before-unlock/sent-by-the-sender",
             test_late_push);
    unit_add("/request-queue/channel-fills-up/rest-kept", test_blocks_later);
    add_both("/request-queue/channel-broken/dropped", test_broken);
    add_both("/request-queue/channel-breaks-during-pushes/asked-anew-once",
             test_broken_with_more);
    unit_add("/request-queue/resume/claimed-pages-asked-anew", test_resume);
    unit_add("/request-queue/several-pages/length-kept", test_length);
    unit_add("/request-queue/ahead-of-need/bounded", test_room);
    unit_add("/request-queue/freed-with-requests/nothing-leaks",
             test_free_queued);
    return g_test_run();
}
