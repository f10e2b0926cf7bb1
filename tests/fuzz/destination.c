/*
 * What can a hostile source do to the destination?
 *
 * The input is a list of steps: the stream brings pages, in any order and of
 * any form, or bytes that are none; the connection breaks and recovers; and
 * meanwhile vCPUs and devices touch pages, are kicked, and memslots come and
 * go.  The loader is QEMU's ram.c and postcopy-ram.c, the recovery that of
 * savevm.c; this file is the thread that loads, the fault thread and the main
 * thread in one.  check.c says what must hold after each step.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/eventfd.h>
#include "qapi/error.h"
#include "qemu/rcu.h"
#include "qemu/timer.h"
#include "migration/migration.h"
#include "migration/postcopy-ram.h"
#include "migration/postcopy-userfault-int.h"
#include "migration/options.h"
#include "migration/qemu-file.h"
#include "migration/ram.h"
#include "destination.h"
#include "fuzz.h"
#include "peek.h"
#include "stream.h"
#include "vcpu.h"

/* Steps of one input; the stream of one is at most some huge pages. */
#define STEPS 400

static Destination dest;
static FuzzInput *input;
static unsigned steps;

/* ------------------------------------------------------------------------- */
/* Recovery */

static bool is_paused(void)
{
    return postcopy_is_paused(dest.mis->state);
}

static void step_paused(void);

/* Called where postcopy_pause_incoming() waits for another connection */
static void while_paused(void)
{
    dest.main = NULL;
    check_settled(&dest);
    while (is_paused()) {
        if (!input->left || !steps) {
            stream_connect(&dest);
            peek_try_recover();
            break;
        }
        step_paused();
        vcpus_settle();
        check_settled(&dest);
    }
}

static void break_connection(void)
{
    peek_pause_incoming(dest.mis, while_paused);
}

/* MIG_CMD_POSTCOPY_RESUME, and whether the preempt channel came before */
static void resume(bool preempt_comes)
{
    MigrationIncomingState *mis = dest.mis;
    bool recovers = mis->state == MIGRATION_STATUS_POSTCOPY_RECOVER;
    int ret;

    if (recovers && migrate_postcopy_preempt() && preempt_comes &&
        !mis->postcopy_qemufile_dst) {
        stream_connect_preempt(&dest);
    }
    ret = peek_handle_resume(mis);
    if (!recovers) {
        fuzz_check(!ret, "a resume that nobody waits for fails");
        return;
    }
    check_resumed(&dest);
    fuzz_check(ret || !migrate_postcopy_preempt() || mis->postcopy_qemufile_dst,
               "a resume goes on without the preempt channel");
    while (!qemu_sem_timedwait(&mis->postcopy_pause_sem_fault, 0)) {
        dest.fault_thread_waits = false;
    }
    if (ret) {
        break_connection();
    }
}

/* ------------------------------------------------------------------------- */
/* The loaders */

/* Have the loader of a channel read what was put. */
static void load(unsigned channel)
{
    MigrationIncomingState *mis = dest.mis;
    QEMUFile *f = mis->from_src_file;
    QEMUFile *fast = mis->postcopy_qemufile_dst;
    int ret;

    if (channel == RAM_CHANNEL_POSTCOPY) {
        /* Its loader stops at an error; the main one breaks the rest. */
        if (fast && !qemu_file_get_error(fast)) {
            ret = ram_load_postcopy(fast, channel);
            if (ret) {
                qemu_file_set_error(fast, ret);
            }
        }
        return;
    }
    ret = qemu_file_get_error_obj_any(f, fast, NULL);
    if (!ret) {
        ret = ram_load_postcopy(f, channel);
    }
    if (ret) {
        vcpus_settle();
        break_connection();
    }
}

static unsigned channel_of(bool fast)
{
    return fast && dest.mis->postcopy_qemufile_dst ? RAM_CHANNEL_POSTCOPY
                                                   : RAM_CHANNEL_PRECOPY;
}

/* Returns the channel on which the pages come. */
static unsigned put_pages(void)
{
    static const unsigned counts[] = { 1, 2, 16, 64 };
    uint8_t form = fuzz_byte(input);
    const RAMBlock *rb = &machine_block[form & 3];
    unsigned page = fuzz_byte(input), n = counts[form >> 6];
    unsigned flags = form & 4 ? RAM_SAVE_FLAG_ZERO : RAM_SAVE_FLAG_PAGE;

    stream_begin();
    while (n--) {
        stream_put_page(rb, page++, flags);
        if (form & 8) {
            flags |= RAM_SAVE_FLAG_CONTINUE;
        }
    }
    if (!(form & 16)) {
        stream_put_end();
    }
    return channel_of(form & 32);
}

static void step_pages(void)
{
    load(put_pages());
}

static void step_garbage(void)
{
    uint8_t form = fuzz_byte(input);
    const uint8_t *bytes;
    size_t n = fuzz_bytes(input, form & 63, &bytes);

    stream_begin();
    stream_put(bytes, n);
    load(channel_of(form & 64));
}

/* ------------------------------------------------------------------------- */
/* Who needs pages */

static void start_touch(uint8_t which, uint8_t page)
{
    const MachineSlot *slot = &machine_slot[which / 4 % MACHINE_SLOTS];

    vcpu_touch(which % 4 % VCPUS, slot->as,
               slot->gpa + page % slot->pages * PAGE_BYTES + 8);
}

static void step_touch(void)
{
    uint8_t which = fuzz_byte(input);

    start_touch(which, fuzz_byte(input));
}

/* A vCPU that is kicked at each page, but for the last one */
static void step_walk(void)
{
    uint8_t which = fuzz_byte(input), page = fuzz_byte(input);
    int8_t stride = fuzz_byte(input);
    uint64_t offset;
    unsigned n;

    for (n = 0; n < 8; n++) {
        start_touch(which, page);
        vcpus_settle();
        if (n < 7 && vcpu_page(which % 4 % VCPUS, &offset)) {
            vcpu_kick(which % 4 % VCPUS);
            vcpus_settle();
        }
        page += stride;
    }
}

static void step_kick(void)
{
    vcpu_kick(fuzz_byte(input) % VCPUS);
}

/* The fault thread, for a page of a device */
static void step_device(void)
{
    RAMBlock *rb = &machine_block[fuzz_byte(input) % BLOCKS];
    uint64_t offset = fuzz_byte(input) % machine_pages(rb) * PAGE_BYTES;
    PostcopyBlock *b = g_hash_table_lookup(postcopy_userfault.blocks, rb);
    bool claimed;

    if (dest.fault_thread_waits) {
        return;
    }
    if (!dest.mis->to_src_file) {
        dest.fault_thread_waits = true;
        return;
    }
    offset = QEMU_ALIGN_DOWN(offset, rb->page_size);
    claimed = postcopy_request_claimed(&b->map, offset);
    if (peek_request_page(dest.mis, rb, offset)) {
        dest.fault_thread_waits = true;
    }
    dest.device_claims += !claimed &&
                          postcopy_request_claimed(&b->map, offset);
}

/* The fault thread, when it has been notified */
static void step_flush(void)
{
    eventfd_t value;

    if (dest.fault_thread_waits || !check_event(&dest)) {
        return;
    }
    if (!dest.mis->to_src_file) {
        dest.fault_thread_waits = true;
        return;
    }
    eventfd_read(dest.mis->userfault_event_fd, &value);
    if (postcopy_userfault_flush(dest.mis)) {
        dest.fault_thread_waits = true;
    }
}

/* All vCPUs that can, and a loader, at the same time */
static void step_together(void)
{
    uint8_t which = fuzz_byte(input), page = fuzz_byte(input);
    unsigned channel, i;

    channel = put_pages();
    for (i = 0; i < VCPUS; i++) {
        start_touch((which & ~3) + i, page);
    }
    load(channel);
}

static void step_slot(void)
{
    uint8_t which = fuzz_byte(input);

    machine_slot_set(which % MACHINE_SLOTS, which & 128);
    machine_grace_period();
}

/* The preempt channel may come now, later (step_resume), or never. */
static void step_recover(void)
{
    stream_connect(&dest);
    if (migrate_postcopy_preempt() && (fuzz_byte(input) & 1)) {
        stream_connect_preempt(&dest);
    }
    peek_try_recover();
}

static void step_resume(void)
{
    resume(!(fuzz_byte(input) & 1));
}

static void step_full(void)
{
    fuzz_channel_fill(dest.main, fuzz_byte(input) & 1);
}

static void step_uffd_error(void)
{
    static const int errors[] = { ENOMEM, ENOENT, EAGAIN, EFAULT };

    machine_uffd.error = errors[fuzz_byte(input) % ARRAY_SIZE(errors)];
}

static void step_writes_fail(void)
{
    dest.main->broken = true;
}

static const struct {
    void (*run)(void);
    bool paused;                /* possible without a connection */
} step[] = {
    { step_pages }, { step_touch, true }, { step_kick, true },
    { step_device, true }, { step_flush, true }, { step_garbage },
    { break_connection }, { step_resume }, { step_slot, true },
    { step_together }, { step_full }, { step_uffd_error, true },
    { step_writes_fail }, { step_walk, true }, { step_recover },
};

static unsigned next_step(void)
{
    steps--;
    return fuzz_byte(input) % ARRAY_SIZE(step);
}

static void step_paused(void)
{
    unsigned i = next_step();

    if (step[i].paused || step[i].run == step_recover) {
        step[i].run();
    }
}

static void run_steps(void)
{
    steps = STEPS;
    while (input->left && steps) {
        unsigned i = next_step();

        if (step[i].run != step_recover) {
            step[i].run();
        }
        vcpus_settle();
        check_settled(&dest);
    }
}

/* ------------------------------------------------------------------------- */
/* Begin and end */

static void begin(uint8_t form)
{
    static const unsigned readahead[] = { 32, 0, 64, 5 };
    MigrationIncomingState *mis = migration_incoming_get_current();
    bool *capability = migrate_get_current()->capabilities;

    capability[MIGRATION_CAPABILITY_POSTCOPY_PREEMPT] = form & 1;
    postcopy_userfault.policy = ON_OFF_AUTO_ON;
    postcopy_userfault.readahead = readahead[form >> 1 & 3];
    dest = (Destination) { .mis = mis };
    mis->state = MIGRATION_STATUS_POSTCOPY_ACTIVE;
    postcopy_state_set(POSTCOPY_INCOMING_RUNNING);
    mis->userfault_fd = MACHINE_UFFD;
    mis->userfault_event_fd = eventfd(0, EFD_CLOEXEC);
    mis->largest_page_size = qemu_ram_pagesize_largest();
    peek_received_maps();
    stream_connect(&dest);
    mis->to_src_file = qemu_file_get_return_path(mis->from_src_file);
    peek_temp_pages_setup(mis);
    if (form & 1) {
        stream_connect_preempt(&dest);
        qemu_sem_wait(&mis->postcopy_qemufile_dst_done);
    }
    postcopy_userfault_start(mis);
    fuzz_check(postcopy_userfault.serving, "the service does not start");
}

/* The source sends what is missing: nobody may be left asleep. */
static void place_all(void)
{
    RAMBlock *rb;
    unsigned page;

    /* What garbage is left in the buffers goes with the connection. */
    break_connection();
    resume(true);
    machine_uffd.error = 0;
    stream_begin();
    QLIST_FOREACH(rb, &ram_list.blocks, next) {
        for (page = 0; page < machine_pages(rb); page++) {
            if (!test_bit(page, rb->receivedmap)) {
                stream_put_page(rb, page, RAM_SAVE_FLAG_PAGE);
            }
        }
    }
    stream_put_end();
    load(RAM_CHANNEL_PRECOPY);
    vcpus_settle();
    check_settled(&dest);
    fuzz_check(!vcpus_asleep(), "a vCPU sleeps though all pages are there");
}

/* vCPUs of a migration that has failed can still be kicked. */
static void fail(void)
{
    unsigned i;

    dest.mis->state = MIGRATION_STATUS_FAILED;
    postcopy_userfault_stop(dest.mis);
    for (i = 0; i < VCPUS; i++) {
        vcpu_kick(i);
    }
    vcpus_settle();
    fuzz_check(!vcpus_asleep(), "a vCPU of a failed migration sleeps on");
    dest.mis->state = MIGRATION_STATUS_POSTCOPY_ACTIVE;
}

static void finish(uint8_t form)
{
    MigrationIncomingState *mis = dest.mis;
    unsigned outstanding;

    switch (form >> 3 & 3) {
    case 0:
    case 1:
        place_all();
        break;
    case 2:
        fail();
        break;
    }
    outstanding = check_outstanding();
    postcopy_userfault_account(mis);
    fuzz_check(mis->page_requested_count == outstanding,
               "%u pages are outstanding, %d are counted", outstanding,
               mis->page_requested_count);
    postcopy_userfault_stop(mis);
    vcpus_settle();
    check_stopped(&dest);
}

static void end(void)
{
    MigrationIncomingState *mis = dest.mis;

    peek_forget_requests(mis);
    peek_temp_pages_cleanup(mis);
    qemu_fclose(mis->from_src_file);
    qemu_fclose(mis->to_src_file);
    if (mis->postcopy_qemufile_dst) {
        qemu_fclose(mis->postcopy_qemufile_dst);
        mis->postcopy_qemufile_dst = NULL;
    }
    while (!qemu_sem_timedwait(&mis->postcopy_qemufile_dst_done, 0)) {
        continue;
    }
    close(mis->userfault_event_fd);
    memset(mis->last_recv_block, 0, sizeof(mis->last_recv_block));
    mis->last_rb = NULL;
}

/* ------------------------------------------------------------------------- */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    machine_init();
    fuzz_channel_init();
    vcpus_init();
    stream_init();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FuzzInput in = { data, size };
    uint8_t form = fuzz_byte(&in);

    input = &in;
    machine_begin(true, VCPUS);
    begin(form);
    run_steps();
    finish(form);
    end();
    machine_end();
    return 0;
}
