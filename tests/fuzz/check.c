/*
 * What must hold on the destination, whatever the source does
 *
 * Called by the main thread when every vCPU is at rest or asleep, so nothing
 * is on its way: a page that is there has nobody who waits for it, and a page
 * that somebody waits for has been asked for.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "qemu/bitmap.h"
#include "qemu/bswap.h"
#include "qapi/qapi-types-migration.h"
#include "migration/options.h"
#include "migration/ram.h"
#include "migration/postcopy-userfault-int.h"
#include "system/kvm-userfault.h"
#include "destination.h"
#include "fuzz.h"
#include "vcpu.h"

#define MESSAGE_RESUME_ACK 6
/* Pages in one request, and requests in one write but for one of each vCPU */
#define LONGEST_REQUEST 8

static PostcopyUserfault *service = &postcopy_userfault;

static PostcopyBlock *block_of(const RAMBlock *rb)
{
    return g_hash_table_lookup(service->blocks, rb);
}

static unsigned host_pages(const RAMBlock *rb)
{
    return rb->postcopy_length / rb->page_size;
}

static bool is_present(const RAMBlock *rb, unsigned host_page)
{
    return test_bit(host_page * (rb->page_size / PAGE_BYTES), rb->receivedmap);
}

static bool is_claimed(const RAMBlock *rb, unsigned host_page)
{
    return postcopy_request_claimed(&block_of(rb)->map,
                                    host_page * rb->page_size);
}

/* By one that has come to it */
static bool may_be_asked_for_again(const RAMBlock *rb, unsigned host_page)
{
    return migrate_postcopy_preempt() &&
           postcopy_request_is_ahead(&block_of(rb)->map,
                                     host_page * rb->page_size);
}

/* ------------------------------------------------------------------------- */
/* What went over the wire */

static void asked_for(Wire *w, RAMBlock *rb, uint64_t offset, uint64_t length)
{
    unsigned n = machine_block_number(rb);
    uint64_t page = offset / rb->page_size, count = length / rb->page_size;

    fuzz_check(count && !(offset % rb->page_size) &&
               !(length % rb->page_size) && count <= LONGEST_REQUEST &&
               page + count <= host_pages(rb),
               "asked for 0x%" PRIx64 " bytes at 0x%" PRIx64 " of %s", length,
               offset, rb->idstr);
    if (count == 1) {
        w->alone[n][page] = true;
    }
    for (; count--; page++) {
        fuzz_check(!w->asked[n][page]++ || may_be_asked_for_again(rb, page),
                   "page %" PRIu64 " of %s was asked for twice", page,
                   rb->idstr);
        fuzz_check(is_claimed(rb, page), "page %" PRIu64 " of %s was asked for "
                   "and not claimed", page, rb->idstr);
    }
}

static void request(Wire *w, unsigned type, const uint8_t *body,
                    unsigned length)
{
    char name[256];

    if (type == POSTCOPY_WIRE_REQ_PAGES_ID) {
        fuzz_check(length > 13 && length == 13 + body[12],
                   "a request is %u bytes long", length);
        memcpy(name, body + 13, body[12]);
        name[body[12]] = 0;
        w->last = qemu_ram_block_by_name(name);
    } else {
        fuzz_check(length == 12, "a request is %u bytes long", length);
    }
    fuzz_check(w->last, "a request has no block");
    asked_for(w, w->last, ldq_be_p(body), ldl_be_p(body + 8));
}

/* Returns the length of the message. */
static unsigned message(Wire *w, const uint8_t *from, unsigned left)
{
    unsigned type, length;

    fuzz_check(left >= 4, "a message is cut off");
    type = lduw_be_p(from);
    length = lduw_be_p(from + 2);
    fuzz_check(left >= 4 + length, "a message is cut off");
    if (type == MESSAGE_RESUME_ACK) {
        w->acks++;
    } else {
        fuzz_check(type == POSTCOPY_WIRE_REQ_PAGES_ID ||
                   type == POSTCOPY_WIRE_REQ_PAGES, "message of type %u", type);
        request(w, type, from + 4, length);
    }
    return 4 + length;
}

static void check_wire(Destination *d)
{
    GByteArray *written;
    unsigned done = 0;

    if (!d->main) {
        fuzz_check(!service->channel[0].open, "vCPUs may send to nobody");
        return;
    }
    written = d->main->written;
    while (done < written->len) {
        done += message(&d->wire, written->data + done, written->len - done);
    }
    g_byte_array_set_size(written, 0);
}

/* ------------------------------------------------------------------------- */
/* Memslots */

static void check_slot(const MachineSlot *s)
{
    const RAMBlock *rb = &machine_block[s->block];
    unsigned i;

    for (i = 0; i < s->pages; i++) {
        unsigned page = s->first + i;
        bool absent = page < machine_pages(rb) &&
                      !test_bit(page, rb->receivedmap);

        fuzz_check(machine_slot_armed(s, i) == absent,
                   "page %u of %s is %s, its bit at 0x%" PRIx64 " is %s", page,
                   rb->idstr, absent ? "absent" : "there", s->gpa,
                   absent ? "clear" : "set");
    }
}

/* ------------------------------------------------------------------------- */
/* vCPUs */

bool check_event(const Destination *d)
{
    struct pollfd pfd = { .fd = d->mis->userfault_event_fd, .events = POLLIN };

    return poll(&pfd, 1, 0) == 1;
}

static void check_sleeper(const Destination *d, unsigned vcpu)
{
    uint64_t offset;
    RAMBlock *rb = vcpu_page(vcpu, &offset);
    unsigned page;

    if (!rb) {
        return;
    }
    page = offset / rb->page_size;
    fuzz_check(!is_present(rb, page), "vCPU %u sleeps on page %u of %s, which "
               "is there", vcpu, page, rb->idstr);
    fuzz_check(is_claimed(rb, page), "vCPU %u sleeps on page %u of %s, which "
               "nobody has claimed", vcpu, page, rb->idstr);
    if (service->channel[0].open && !d->main->broken && !check_event(d)) {
        unsigned n = machine_block_number(rb);

        fuzz_check(d->wire.asked[n][page],
                   "vCPU %u sleeps on page %u of %s, which nobody has asked "
                   "for", vcpu, page, rb->idstr);
        fuzz_check(d->wire.alone[n][page] || !migrate_postcopy_preempt(),
                   "vCPU %u sleeps on page %u of %s, which may be left out",
                   vcpu, page, rb->idstr);
    }
}

/* ------------------------------------------------------------------------- */
/* Counters */

static void check_vcpu_counters(unsigned vcpu, uint64_t *outcomes)
{
    const PostcopyVcpuStats *s = &service->vcpu[vcpu].stats;

    fuzz_check(s->readahead_used + s->readahead_dropped <= s->readahead_pages &&
               s->readahead_requests <= s->readahead_pages + s->waits &&
               s->waits_broken <= s->waits && s->requests <= s->waits,
               "counters of vCPU %u", vcpu);
    *outcomes += s->already_present + s->spurious + s->discarded +
                 s->waits_broken + s->latency.count;
}

static uint64_t claimed_pages(void)
{
    uint64_t n = 0;
    RAMBlock *rb;
    unsigned i;

    QLIST_FOREACH(rb, &ram_list.blocks, next) {
        for (i = 0; i < host_pages(rb); i++) {
            n += is_claimed(rb, i);
        }
    }
    return n;
}

static void check_counters(const Destination *d)
{
    const PostcopyServiceStats *s = &service->stats;
    uint64_t exits = 0, outcomes = 0, claims = d->device_claims;
    unsigned i;

    for (i = 0; i < VCPUS; i++) {
        exits += service->vcpu[i].stats.exits;
        claims += service->vcpu[i].stats.requests +
                  service->vcpu[i].stats.readahead_pages;
        check_vcpu_counters(i, &outcomes);
    }
    fuzz_check(exits == outcomes + vcpus_asleep() - machine_uffd.vcpu_errors,
               "%" PRIu64 " exits, %" PRIu64 " outcomes", exits, outcomes);
    fuzz_check(claims == claimed_pages(), "%" PRIu64 " pages claimed, %"
               PRIu64 " counted", claimed_pages(), claims);
    fuzz_check(s->pages_vcpu + s->pages_readahead + s->pages_userfaultfd +
               s->pages_background == machine_uffd.placed,
               "%u pages placed, others counted", machine_uffd.placed);
    fuzz_check(s->pages_vcpu + s->pages_readahead >= machine_uffd.placed_given,
               "%u pages given to vCPUs, fewer counted for them",
               machine_uffd.placed_given);
}

/* ------------------------------------------------------------------------- */

void check_settled(Destination *d)
{
    unsigned i;

    check_wire(d);
    fuzz_check(!vcpu_missed_exits(), "a vCPU went on to an absent page");
    for (i = 0; i < MACHINE_SLOTS; i++) {
        if (machine_slot[i].there) {
            check_slot(&machine_slot[i]);
        }
    }
    for (i = 0; i < VCPUS; i++) {
        check_sleeper(d, i);
    }
    check_counters(d);
}

void check_resumed(Destination *d)
{
    RAMBlock *rb;
    unsigned i;

    check_wire(d);
    if (d->main->broken) {
        return;
    }
    fuzz_check(d->wire.acks == 1, "%u acknowledgements", d->wire.acks);
    QLIST_FOREACH(rb, &ram_list.blocks, next) {
        for (i = 0; i < host_pages(rb); i++) {
            bool wanted = is_claimed(rb, i) && !is_present(rb, i);

            fuzz_check(d->wire.asked[machine_block_number(rb)][i] == wanted,
                       "page %u of %s is %s, and was %sasked for anew", i,
                       rb->idstr, wanted ? "wanted" : "not wanted",
                       wanted ? "not " : "");
        }
    }
}

unsigned check_outstanding(void)
{
    unsigned i, n = 0;
    RAMBlock *rb;

    QLIST_FOREACH(rb, &ram_list.blocks, next) {
        for (i = 0; i < host_pages(rb); i++) {
            n += is_claimed(rb, i) && !is_present(rb, i);
        }
    }
    return n;
}

void check_stopped(Destination *d)
{
    unsigned i;

    fuzz_check(!vcpus_asleep(), "a vCPU sleeps after the end");
    /* From here on they would be served by userfaultfd. */
    vcpu_missed_exits();
    fuzz_check(!kvm_userfault_active() && !service->running &&
               service->status == POSTCOPY_USERFAULT_STATUS_FINISHED,
               "the service has not ended");
    for (i = 0; i < MACHINE_SLOTS; i++) {
        fuzz_check(!machine_slot[i].bitmap, "memslot %u keeps its bitmap", i);
    }
}
