/*
 * When does the source send the pages that it has been asked for?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "postcopy-answer.h"
#include "postcopy-wire.h"
#include "unit.h"

#define KIB 1024
#define REQUEST 12              /* bytes behind the header: offset and length */

/* Either channel */
struct QEMUFile {
    uint8_t input[64];
    size_t there;               /* of input */
    size_t queued;
    size_t sent;
    unsigned flushes;
};

size_t qemu_file_buffered(const QEMUFile *f)
{
    return f->there;
}

size_t qemu_file_queued(const QEMUFile *f)
{
    return f->queued;
}

/* The real one would wait for what is not there. */
size_t qemu_peek_buffer(QEMUFile *f, uint8_t **buf, size_t size, size_t offset)
{
    g_assert_cmpuint(offset + size, <=, f->there);
    *buf = f->input + offset;
    return size;
}

void qemu_put_be64(QEMUFile *f, uint64_t word)
{
    f->queued += sizeof(word);
}

int qemu_fflush(QEMUFile *f)
{
    f->flushes++;
    f->sent += f->queued;
    f->queued = 0;
    return 0;
}

/* Whether a page goes out with @there bytes behind its request */
static bool sends(unsigned type, unsigned length, size_t there)
{
    QEMUFile pages = { .queued = 4 * KIB };
    QEMUFile requests = { .there = there };

    stw_be_p(requests.input, type);
    stw_be_p(requests.input + 2, length);
    postcopy_answer_end(&pages, &requests, type & 1);
    g_assert_cmpuint(requests.flushes, ==, 0);
    g_assert_cmpuint(pages.flushes, <=, 1);
    return pages.flushes;
}

static void test_last(void)
{
    g_assert_true(sends(POSTCOPY_WIRE_REQ_PAGES, REQUEST, 0));
}

static void test_follows(void)
{
    size_t whole = POSTCOPY_WIRE_HEADER + REQUEST;

    g_assert_false(sends(POSTCOPY_WIRE_REQ_PAGES, REQUEST, whole));
    g_assert_false(sends(POSTCOPY_WIRE_REQ_PAGES, REQUEST, whole + 1));
    g_assert_false(sends(POSTCOPY_WIRE_REQ_PAGES_ID, REQUEST + 7, whole + 7));
}

static void test_part(void)
{
    size_t there;

    for (there = 1; there < POSTCOPY_WIRE_HEADER + REQUEST; there++) {
        g_assert_true(sends(POSTCOPY_WIRE_REQ_PAGES, REQUEST, there));
    }
    /* The name is missing. */
    g_assert_true(sends(POSTCOPY_WIRE_REQ_PAGES_ID, REQUEST + 7,
                        POSTCOPY_WIRE_HEADER + REQUEST + 6));
    /* More than there can be */
    g_assert_true(sends(POSTCOPY_WIRE_REQ_PAGES, UINT16_MAX, 64));
}

static void test_others(void)
{
    unsigned type;

    for (type = 0; type < 16; type++) {
        if (type != POSTCOPY_WIRE_REQ_PAGES &&
            type != POSTCOPY_WIRE_REQ_PAGES_ID) {
            g_assert_true(sends(type, REQUEST, 32));
        }
    }
}

/* Whether @queued bytes go out although a request follows */
static bool sends_much(size_t queued)
{
    QEMUFile pages = { .queued = queued };
    QEMUFile requests = { .there = POSTCOPY_WIRE_HEADER + REQUEST };

    stw_be_p(requests.input, POSTCOPY_WIRE_REQ_PAGES);
    stw_be_p(requests.input + 2, REQUEST);
    postcopy_answer_end(&pages, &requests, true);
    return pages.flushes;
}

static void test_much(void)
{
    g_assert_false(sends_much(0));
    g_assert_false(sends_much(4 * KIB));
    g_assert_false(sends_much(32 * KIB - 1));
    g_assert_true(sends_much(32 * KIB));
    g_assert_true(sends_much(2048 * KIB));
}

/* A page that waits for others to come goes with the word. */
static void test_all(void)
{
    QEMUFile pages = { .queued = 4 * KIB };

    postcopy_answer_last(&pages, 16);
    g_assert_cmpuint(pages.flushes, ==, 1);
    g_assert_cmpuint(pages.sent, ==, 4 * KIB + 8);
    g_assert_cmpuint(pages.queued, ==, 0);
}

int main(int argc, char **argv)
{
    unit_init(&argc, &argv, 60);
    unit_add("/answer/no-request-follows/sent", test_last);
    unit_add("/answer/request-follows/kept", test_follows);
    unit_add("/answer/part-of-a-request-follows/sent", test_part);
    unit_add("/answer/another-message-follows/sent", test_others);
    unit_add("/answer/much-to-send/sent", test_much);
    unit_add("/answer/all-has-been-sent/said", test_all);
    return g_test_run();
}
