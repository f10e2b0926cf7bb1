/*
 * Is a page placed in spite of errors that pass, and is it said if it is not?
 *
 * The kernel's part is played here: userfaultfd of one page.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <linux/userfaultfd.h>
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "postcopy-place.h"
#include "unit.h"

#define UFFD 7
#define SIZE 4096

static uint8_t page[SIZE], other[SIZE];

static struct {
    int error;              /* of the next ... */
    unsigned failures;      /* ... so many times */
    int wake_error;
    bool there;             /* the page is */
    unsigned calls, wakes, reports;
} uffd;

/* --- what the file needs of QEMU -------------------------------------------- */

void error_report(const char *format, ...)
{
    uffd.reports++;
}

bool buffer_is_zero_ool(const void *buffer, size_t length)
{
    const uint8_t *byte = buffer;

    while (length && !*byte) {
        byte++;
        length--;
    }
    return !length;
}

/* --- the kernel ------------------------------------------------------------- */

int __wrap_ioctl(int fd, unsigned long request, ...);

static int place(uint64_t to, uint64_t from, uint64_t length)
{
    g_assert_cmphex(to, ==, (uintptr_t)page);
    g_assert_cmpuint(length, ==, SIZE);
    uffd.calls++;
    if (uffd.failures) {
        uffd.failures--;
        errno = uffd.error;
        return -1;
    }
    if (uffd.there) {
        errno = EEXIST;
        return -1;
    }
    if (from) {
        memcpy(page, (void *)(uintptr_t)from, SIZE);
    } else {
        memset(page, 0, SIZE);
    }
    uffd.there = true;
    return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
    struct uffdio_copy *copy;
    struct uffdio_zeropage *zero;
    struct uffdio_range *range;
    va_list ap;
    void *arg;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);
    g_assert_cmpint(fd, ==, UFFD);
    switch (request) {
    case UFFDIO_COPY:
        copy = arg;
        g_assert_cmpuint(copy->mode, ==, 0);
        return place(copy->dst, copy->src, copy->len);
    case UFFDIO_ZEROPAGE:
        zero = arg;
        g_assert_cmpuint(zero->mode, ==, 0);
        return place(zero->range.start, 0, zero->range.len);
    case UFFDIO_WAKE:
        range = arg;
        g_assert_cmphex(range->start, ==, (uintptr_t)page);
        g_assert_cmpuint(range->len, ==, SIZE);
        uffd.wakes++;
        errno = uffd.wake_error;
        return errno ? -1 : 0;
    default:
        g_assert_not_reached();
    }
}

/* --- tests ------------------------------------------------------------------ */

static void begin(int error, unsigned failures)
{
    memset(&uffd, 0, sizeof(uffd));
    uffd.error = error;
    uffd.failures = failures;
    memset(page, 0x55, SIZE);
    memset(other, 0xaa, SIZE);
}

static void check_placed(const uint8_t *from)
{
    static const uint8_t zeroes[SIZE];

    g_assert_true(uffd.there);
    g_assert_cmpmem(page, SIZE, from ?: zeroes, SIZE);
    g_assert_cmpuint(uffd.reports, ==, 0);
}

static const void *const contents[] = { other, NULL };

static void test_good(void)
{
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(contents); i++) {
        begin(0, 0);
        g_assert_cmpint(postcopy_place(UFFD, page, contents[i], SIZE, false),
                        ==, 0);
        check_placed(contents[i]);
        g_assert_cmpuint(uffd.calls, ==, 1);
        g_assert_cmpuint(uffd.wakes, ==, 0);
    }
}

static void test_passes(void)
{
    static const int errors[] = { ENOMEM, EAGAIN, EINTR };
    unsigned i, k;

    for (i = 0; i < ARRAY_SIZE(errors); i++) {
        for (k = 0; k < ARRAY_SIZE(contents); k++) {
            begin(errors[i], 20);
            g_assert_cmpint(
                postcopy_place(UFFD, page, contents[k], SIZE, false), ==, 0);
            check_placed(contents[k]);
            g_assert_cmpuint(uffd.calls, ==, 21);
        }
    }
}

static void test_stays(void)
{
    begin(ENOMEM, UINT_MAX);
    g_assert_cmpint(postcopy_place(UFFD, page, other, SIZE, false), ==,
                    -ENOMEM);
    g_assert_cmpuint(uffd.calls, >, 100);
    g_assert_cmpuint(uffd.reports, ==, 1);
}

static void test_other(void)
{
    static const int errors[] = { EFAULT, ENOENT, ESRCH, EINVAL };
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(errors); i++) {
        begin(errors[i], 1);
        g_assert_cmpint(postcopy_place(UFFD, page, other, SIZE, false), ==,
                        -errors[i]);
        g_assert_cmpuint(uffd.calls, ==, 1);
        g_assert_cmpuint(uffd.reports, ==, 1);
        g_assert_false(uffd.there);
    }
}

static void begin_existing(const void *from)
{
    begin(0, 0);
    uffd.there = true;
    if (from) {
        memcpy(page, from, SIZE);
    } else {
        memset(page, 0, SIZE);
    }
}

static void test_same(void)
{
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(contents); i++) {
        begin_existing(contents[i]);
        g_assert_cmpint(postcopy_place(UFFD, page, contents[i], SIZE, false),
                        ==, 0);
        check_placed(contents[i]);
        g_assert_cmpuint(uffd.wakes, ==, 1);
    }
}

static void test_other_content(void)
{
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(contents); i++) {
        begin_existing(contents[i]);
        page[SIZE - 1] ^= 1;
        g_assert_cmpint(postcopy_place(UFFD, page, contents[i], SIZE, false),
                        ==, -EEXIST);
        g_assert_cmpuint(uffd.reports, ==, 1);
    }
}

static void test_twice(void)
{
    begin_existing(other);
    g_assert_cmpint(postcopy_place(UFFD, page, other, SIZE, true), ==, -EEXIST);
    g_assert_cmpuint(uffd.reports, ==, 1);
}

static void test_no_wake(void)
{
    begin_existing(other);
    uffd.wake_error = EINVAL;
    g_assert_cmpint(postcopy_place(UFFD, page, other, SIZE, false), ==, -EINVAL);
    g_assert_cmpuint(uffd.reports, ==, 1);
}

int main(int argc, char **argv)
{
    unit_init(&argc, &argv, 120);
    unit_add("/place/good/placed", test_good);
    unit_add("/place/error-that-passes/placed", test_passes);
    unit_add("/place/no-memory-for-long/error", test_stays);
    unit_add("/place/other-error/error-at-once", test_other);
    unit_add("/place/same-page-is-there/woken", test_same);
    unit_add("/place/other-page-is-there/error", test_other_content);
    unit_add("/place/sent-twice/error", test_twice);
    unit_add("/place/cannot-wake/error", test_no_wake);
    return g_test_run();
}
