/*
 * What can a hostile destination do to the source?
 *
 * The input is a list of messages on the return path, good ones and garbled
 * ones, read by QEMU's own thread for it (migration.c, ram.c).  Between them
 * the background stream sends pages, and the state of the migration changes as
 * the main thread would change it.  Of the project is when pages are sent
 * (postcopy-answer.c) and which of those that nobody has asked for are next
 * (postcopy-order.c); and its destination asks for ranges of pages, which
 * QEMU's never did.
 *
 * The messages may instead be those on a further channel for urgent pages, read
 * by the project's own thread for it (postcopy-urgent-out.c).
 *
 * Left out, as they need the other threads of the source for real: its
 * migration thread, which recovers, and the connections of the preempt channel
 * and of further ones, which are there from the beginning.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bitmap.h"
#include "qemu/bswap.h"
#include "qemu/rcu.h"
#include "migration/migration.h"
#include "migration/migration-stats.h"
#include "migration/options.h"
#include "migration/qemu-file.h"
#include "migration/ram.h"
#include "channel.h"
#include "fuzz.h"
#include "machine.h"
#include "peek.h"

/* Of migration.c */
enum { SHUT = 1, PONG, REQ_PAGES_ID, REQ_PAGES, RECV_BITMAP, RESUME_ACK,
       SWITCHOVER_ACK };

#define STEPS 500
#define BITMAP_END 0x0123456789abcdefull

static MigrationState *ms;
static FuzzInput *input;
static unsigned steps;
static FuzzChannel *background, *urgent;
static bool further;            /* messages are those on a further channel */
static bool counted;            /* the number of dirty pages is right */
static GByteArray *pending;     /* for the thread that reads */

/* ------------------------------------------------------------------------- */
/* Messages */

static void put(const void *bytes, size_t n)
{
    g_byte_array_append(pending, bytes, n);
}

static void put_be(uint64_t value, unsigned bytes)
{
    uint64_t be = cpu_to_be64(value);

    put((uint8_t *)&be + 8 - bytes, bytes);
}

static void put_header(unsigned type, unsigned length)
{
    put_be(type, 2);
    put_be(length, 2);
}

static void put_request(uint64_t start, uint32_t length, const char *name)
{
    unsigned n = name ? strlen(name) : 0;

    put_header(name ? REQ_PAGES_ID : REQ_PAGES, 12 + (name ? 1 + n : 0));
    put_be(start, 8);
    put_be(length, 4);
    if (name) {
        put_be(n, 1);
        put(name, n);
    }
}

/* Of a block, or of none, as long as can be, or of the one before (NULL) */
static const char *name_of(uint8_t form)
{
    static char longest[256];

    memset(longest, 'x', sizeof(longest) - 1);
    form %= BLOCKS + 3;
    return form < BLOCKS ? machine_block[form].idstr :
           form == BLOCKS ? "nothing" : form == BLOCKS + 1 ? longest : NULL;
}

static void step_request(void)
{
    const char *name = name_of(fuzz_byte(input));
    uint64_t page = fuzz_byte(input);

    put_request(page * PAGE_BYTES, fuzz_byte(input) % 20 * PAGE_BYTES, name);
}

/* Anywhere at all, and of any length */
static void step_wild_request(void)
{
    const char *name = name_of(fuzz_byte(input));
    uint8_t form = fuzz_byte(input);
    const uint8_t *bytes;
    uint64_t start = 0;
    uint32_t length = 0;

    if (fuzz_bytes(input, 12, &bytes) == 12) {
        start = ldq_be_p(bytes);
        length = ldl_be_p(bytes + 8);
    }
    if (form & 1) {
        start &= -(uint64_t)PAGE_BYTES;
        length &= -PAGE_BYTES;
    }
    put_request(start, length, name);
}

static void step_bitmap(void)
{
    uint8_t form = fuzz_byte(input);
    const char *name = name_of(form & 7) ?: "";
    const RAMBlock *rb = qemu_ram_block_by_name(name);
    unsigned bytes = rb ? ROUND_UP(machine_pages(rb), 64) / 8 : 8;
    unsigned n = strlen(name), i;

    put_header(RECV_BITMAP, 1 + n);
    put_be(n, 1);
    put(name, n);
    put_be(bytes + (form >> 3 & 1), 8);
    for (i = 0; i < bytes; i++) {
        put_be(fuzz_byte(input), 1);
    }
    put_be(BITMAP_END + (form >> 4 & 1), 8);
    counted = false;
}

static void step_small_message(void)
{
    uint8_t form = fuzz_byte(input);

    switch (form & 3) {
    case 0:
        put_header(RESUME_ACK, 4);
        put_be(MIGRATION_RESUME_ACK_VALUE + (form >> 2 & 1), 4);
        break;
    case 1:
        put_header(PONG, 4);
        put_be(form, 4);
        break;
    case 2:
        put_header(SWITCHOVER_ACK, 0);
        break;
    case 3:
        put_header(SHUT, 4);
        put_be(form >> 2, 4);
        break;
    }
}

static void step_garbage(void)
{
    const uint8_t *bytes;
    size_t n = fuzz_bytes(input, fuzz_byte(input), &bytes);

    put(bytes, n);
}

static void step_cut(void)
{
    g_byte_array_set_size(pending, pending->len / 2);
}

/* ------------------------------------------------------------------------- */
/* The other threads */

static void recount(void)
{
    if (!counted) {
        peek_ram_recount();
        counted = true;
    }
}

static void step_background(void)
{
    unsigned n = fuzz_byte(input) % 16;

    recount();
    while (n-- && peek_ram_send(ms->to_dst_file)) {
        g_byte_array_set_size(background->written, 0);
    }
}

/* The background stream has let go of the bitmap, and is at this page. */
static void step_sending(void)
{
    RAMBlock *rb = &machine_block[fuzz_byte(input) % BLOCK_SPARSE];

    peek_urgent_sending(rb, fuzz_byte(input) % machine_pages(rb));
}

static void step_state(void)
{
    static const MigrationStatus states[] = {
        MIGRATION_STATUS_POSTCOPY_ACTIVE, MIGRATION_STATUS_POSTCOPY_PAUSED,
        MIGRATION_STATUS_POSTCOPY_RECOVER, MIGRATION_STATUS_POSTCOPY_RECOVER,
    };

    ms->state = states[fuzz_byte(input) % ARRAY_SIZE(states)];
}

static void (*const step[])(void) = {
    step_request, step_wild_request, step_bitmap, step_small_message,
    step_garbage, step_cut, step_background, step_sending, step_state,
};

/* ------------------------------------------------------------------------- */
/* What the thread reads: it asks when it has done all that was there. */

static void check(void)
{
    QEMUFile *pages = ms->postcopy_qemufile_src;

    peek_ram_check(counted);
    /* Whoever waits for a page has it, or the source waits for nothing. */
    g_assert(!qemu_file_queued(pages) || qemu_file_get_error(pages));
    g_byte_array_set_size(urgent->written, 0);
}

static size_t more(void *opaque, uint8_t *buffer, size_t size)
{
    size_t n;

    check();
    while (!pending->len && input->left && steps) {
        steps--;
        step[fuzz_byte(input) % ARRAY_SIZE(step)]();
        check();
    }
    n = MIN(size, pending->len);
    if (n) {
        memcpy(buffer, pending->data, n);
        g_byte_array_remove_range(pending, 0, n);
    }
    return n;
}

/*
 * QEMU 10.0 checks the last byte of a request alone, and has sign-extended its
 * length before.  So a destination can have the source read outside of a
 * bitmap, loop for ever, or end by an assertion.  Not this project's code:
 * refused here, so that the rest is reached.  With FUZZ_KNOWN set they pass.
 */
int __real_ram_save_queue_pages(const char *name, ram_addr_t start,
                                ram_addr_t len, Error **errp);
int __wrap_ram_save_queue_pages(const char *name, ram_addr_t start,
                                ram_addr_t len, Error **errp);

static bool known_flaw(const RAMBlock *rb, uint64_t start, uint64_t len)
{
    bool refused = start + len - 1 >= rb->used_length;
    bool outside = len > rb->used_length ||
                   start > rb->used_length - MAX(len, 1);

    return !refused &&
           (outside || (migrate_postcopy_preempt() && len % rb->page_size));
}

int __wrap_ram_save_queue_pages(const char *name, ram_addr_t start,
                                ram_addr_t len, Error **errp)
{
    const RAMBlock *rb = name ? qemu_ram_block_by_name(name)
                              : peek_ram_last_requested();

    if (rb && known_flaw(rb, start, len) && !getenv("FUZZ_KNOWN")) {
        error_setg(errp, "refused");
        return -1;
    }
    if (__real_ram_save_queue_pages(name, start, len, errp)) {
        return -1;
    }
    if (migrate_postcopy_preempt() && migration_in_postcopy()) {
        peek_ram_answered(start, len);
    }
    return 0;
}

/* ------------------------------------------------------------------------- */

static QEMUFile *output(FuzzChannel **c)
{
    QEMUFile *f;

    *c = fuzz_channel_new(NULL, NULL);
    f = qemu_file_new_output(QIO_CHANNEL(*c));
    object_unref(OBJECT(*c));
    return f;
}

static void begin(uint8_t form)
{
    ms = migrate_get_current();
    ms->capabilities[MIGRATION_CAPABILITY_POSTCOPY_PREEMPT] = form & 1;
    further = (form & 3) == 3;
    ms->state = MIGRATION_STATUS_POSTCOPY_ACTIVE;
    /* The rate is not measured. */
    ms->iteration_start_time = INT64_MAX / 2;
    ms->to_dst_file = output(&background);
    ms->postcopy_qemufile_src = output(&urgent);
    peek_ram_begin();
    counted = true;
}

/* One connection; its end is a message that is refused, or is cut off. */
static void connection(void)
{
    FuzzChannel *c = fuzz_channel_new(more, NULL);
    QEMUFile *f = qemu_file_new_input(QIO_CHANNEL(c));

    object_unref(OBJECT(c));
    if (further) {
        peek_urgent_answer(f, ms->postcopy_qemufile_src);
    } else {
        ms->rp_state.from_dst_file = f;
        peek_return_path(ms);
        ms->rp_state.from_dst_file = NULL;
    }
    check();
    qemu_fclose(f);
    g_byte_array_set_size(pending, 0);
    g_clear_pointer(&ms->error, error_free);
    recount();
}

static void drain(QemuSemaphore *sem)
{
    while (!qemu_sem_timedwait(sem, 0)) {
        continue;
    }
}

static void end(void)
{
    peek_ram_end();
    qemu_fclose(ms->to_dst_file);
    qemu_fclose(ms->postcopy_qemufile_src);
    drain(&ms->rate_limit_sem);
    drain(&ms->rp_state.rp_sem);
    drain(&ms->rp_state.rp_pong_acks);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    machine_init();
    fuzz_channel_init();
    pending = g_byte_array_new();
    rcu_register_thread();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FuzzInput in = { data, size };

    input = &in;
    steps = STEPS;
    machine_begin(false, 1);
    begin(fuzz_byte(&in));
    while (in.left && steps) {
        connection();
    }
    end();
    machine_end();
    return 0;
}
