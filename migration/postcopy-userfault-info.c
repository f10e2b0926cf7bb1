/*
 * The postcopy userfault service's policy and statistics, for QMP and HMP
 *
 * Threads      BQL holders; vCPUs and loaders may be counting meanwhile, so a
 *              report is not of one moment.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-types-migration.h"
#include "qapi/qapi-visit-common.h"
#include "system/kvm-userfault.h"
#include "postcopy-userfault-int.h"

static PostcopyUserfaultLatency *latency_to_qapi(const PostcopyLatency *l)
{
    PostcopyUserfaultLatency *info = g_new0(PostcopyUserfaultLatency, 1);
    uint64List **tail = &info->distribution;
    int i, last = POSTCOPY_LATENCY_BUCKETS - 1;

    info->count = l->count;
    info->total_ns = l->total_ns;
    info->max_ns = l->max_ns;
    while (last >= 0 && !l->bucket[last]) {
        last--;
    }
    for (i = 0; i <= last; i++) {
        QAPI_LIST_APPEND(tail, l->bucket[i]);
    }
    return info;
}

static void print_latency(Monitor *mon, const char *name,
                          const PostcopyUserfaultLatency *l)
{
    const uint64List *item;
    int i = 0;

    if (!l->count) {
        return;
    }
    monitor_printf(mon, "postcopy userfault %s: mean %" PRIu64 " us, max %"
                   PRIu64 " us, %" PRIu64 " faults\n", name,
                   l->total_ns / l->count / 1000, l->max_ns / 1000, l->count);
    for (item = l->distribution; item; item = item->next, i++) {
        if (item->value) {
            monitor_printf(mon, "  from %" PRIu64 " ns: %" PRIu64 "\n",
                           UINT64_C(1) << i, item->value);
        }
    }
}

void postcopy_userfault_hmp_info(Monitor *mon, const MigrationInfo *info)
{
    const PostcopyUserfaultInfo *u = info->postcopy_userfault;

    if (!u) {
        return;
    }
    monitor_printf(mon, "postcopy userfault: %s%s%s%s\n",
                   PostcopyUserfaultStatus_str(u->status),
                   u->reason ? " (" : "", u->reason ?: "",
                   u->reason ? ")" : "");
    monitor_printf(mon, "postcopy userfault pages: vcpu %" PRIu64
                   ", readahead %" PRIu64 ", userfaultfd %" PRIu64
                   ", background %" PRIu64 "\n",
                   u->pages_vcpu, u->pages_readahead, u->pages_userfaultfd,
                   u->pages_background);
    monitor_printf(mon, "postcopy userfault exits: %" PRIu64
                   " (already present %" PRIu64 ", spurious %" PRIu64
                   ", discarded %" PRIu64 ")\n", u->exits, u->already_present,
                   u->spurious, u->discarded);
    monitor_printf(mon, "postcopy userfault requests: %" PRIu64 " in %" PRIu64
                   " writes by %u channels (handed off %" PRIu64 ", resent %"
                   PRIu64 ")\n", u->requests, u->flushes, u->urgent_channels,
                   u->handoffs, u->resent);
    monitor_printf(mon, "postcopy userfault readahead: %" PRIu64 " pages in %"
                   PRIu64 " requests (used %" PRIu64 ", dropped %" PRIu64
                   ")\n", u->readahead_pages, u->readahead_requests,
                   u->readahead_used, u->readahead_dropped);
    monitor_printf(mon, "postcopy userfault waits: %" PRIu64 " (broken %"
                   PRIu64 ")\n", u->waits, u->waits_broken);
    print_latency(mon, "vcpu latency", u->latency);
    print_latency(mon, "userfaultfd latency", u->userfaultfd_latency);
}

bool postcopy_userfault_check(Error **errp)
{
    ERRP_GUARD();

    if (postcopy_userfault.policy != ON_OFF_AUTO_ON) {
        return true; /* the accelerator has checked its own property */
    }
    if (!kvm_userfault_supported(errp)) {
        error_prepend(errp, "migration.postcopy-userfault=on: ");
        error_append_hint(errp, "Use postcopy-userfault=auto to fall back to "
                          "userfaultfd on such a host.\n");
        return false;
    }
    return true;
}

void postcopy_userfault_no_userfaultfd(Error **errp, int error)
{
    const char *cure = "";

    if (error == EPERM || error == EACCES) {
        cure = "; QEMU's user needs read and write access to /dev/userfaultfd";
    } else if (error == ENOSYS) {
        cure = "; the host's kernel is built without userfaultfd";
    }
    error_setg(errp, "Userfaultfd not available: %s%s", strerror(error), cure);
}

static void get_policy(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    visit_type_OnOffAuto(v, name, &postcopy_userfault.policy, errp);
}

static void set_policy(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    visit_type_OnOffAuto(v, name, &postcopy_userfault.policy, errp);
}

static void get_readahead(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    visit_type_uint32(v, name, &postcopy_userfault.readahead, errp);
}

static void set_readahead(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    uint32_t pages;

    if (!visit_type_uint32(v, name, &pages, errp)) {
        return;
    }
    if (pages > POSTCOPY_READAHEAD_MAX) {
        error_setg(errp, "Parameter '%s' expects a number of pages from 0 to "
                   "%d", name, POSTCOPY_READAHEAD_MAX);
        return;
    }
    postcopy_userfault.readahead = pages;
}

static void get_channels(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    visit_type_uint32(v, name, &postcopy_urgent_channels, errp);
}

static void set_channels(Object *obj, Visitor *v, const char *name,
                         void *opaque, Error **errp)
{
    uint32_t channels;

    if (!visit_type_uint32(v, name, &channels, errp)) {
        return;
    }
    if (channels < 1 || channels > POSTCOPY_URGENT_MAX) {
        error_setg(errp, "Parameter '%s' expects a number of channels from 1 to "
                   "%d", name, POSTCOPY_URGENT_MAX);
        return;
    }
    postcopy_urgent_channels = channels;
}

void postcopy_userfault_class_init(ObjectClass *klass)
{
    object_class_property_add(klass, "postcopy-userfault", "OnOffAuto",
                              get_policy, set_policy, NULL, NULL);
    object_class_property_set_description(klass, "postcopy-userfault",
        "Serve vCPU page faults of incoming postcopy by exits from KVM; on or "
        "off has precedence over the accelerator's userfault property");
    object_class_property_add(klass, "postcopy-userfault-readahead", "uint32",
                              get_readahead, set_readahead, NULL, NULL);
    object_class_property_set_description(klass, "postcopy-userfault-readahead",
        "Pages that incoming postcopy asks for ahead of a vCPU that walks "
        "memory, at most; 0 for none");
    object_class_property_add(klass, "postcopy-urgent-channels", "uint32",
                              get_channels, set_channels, NULL, NULL);
    object_class_property_set_description(klass, "postcopy-urgent-channels",
        "Connections for the pages that somebody waits for, with postcopy-preempt "
        "and KVM userfault, if the other side agrees; the smaller number counts");
}

static void sum_vcpus(const PostcopyUserfault *u, PostcopyVcpuStats *sum)
{
    unsigned i;

    for (i = 0; i < u->nr_vcpus; i++) {
        PostcopyVcpuStats *s = &u->vcpu[i].stats;

        sum->exits += qatomic_read_u64(&s->exits);
        sum->already_present += qatomic_read_u64(&s->already_present);
        sum->spurious += qatomic_read_u64(&s->spurious);
        sum->discarded += qatomic_read_u64(&s->discarded);
        sum->requests += qatomic_read_u64(&s->requests);
        sum->waits += qatomic_read_u64(&s->waits);
        sum->waits_broken += qatomic_read_u64(&s->waits_broken);
        sum->readahead_pages += qatomic_read_u64(&s->readahead_pages);
        sum->readahead_requests += qatomic_read_u64(&s->readahead_requests);
        sum->readahead_used += qatomic_read_u64(&s->readahead_used);
        sum->readahead_dropped += qatomic_read_u64(&s->readahead_dropped);
        postcopy_latency_merge(&sum->latency, &s->latency);
    }
}

static uint64_t sum_flushes(const PostcopyUserfault *u)
{
    uint64_t sum = 0;
    unsigned i;

    for (i = 0; i < u->max_channels; i++) {
        sum += qatomic_read_u64(&u->channel[i].flushes);
    }
    return sum;
}

void postcopy_userfault_fill_info(MigrationInfo *info)
{
    PostcopyUserfault *u = &postcopy_userfault;
    PostcopyVcpuStats vcpus = { 0 };
    PostcopyLatency uffd = { 0 };
    PostcopyUserfaultInfo *i;

    if (!u->ever) {
        return;
    }
    sum_vcpus(u, &vcpus);
    i = info->postcopy_userfault = g_new0(PostcopyUserfaultInfo, 1);
    i->status = qatomic_read(&u->status);
    i->reason = g_strdup(u->reason);
    i->exits = vcpus.exits;
    i->requests = vcpus.requests;
    i->already_present = vcpus.already_present;
    i->spurious = vcpus.spurious;
    i->discarded = vcpus.discarded;
    i->waits = vcpus.waits;
    i->waits_broken = vcpus.waits_broken;
    i->readahead_pages = vcpus.readahead_pages;
    i->readahead_requests = vcpus.readahead_requests +
                            qatomic_read_u64(&u->stats.readahead_again);
    i->readahead_used = vcpus.readahead_used;
    i->readahead_dropped = vcpus.readahead_dropped;
    i->latency = latency_to_qapi(&vcpus.latency);
    i->flushes = sum_flushes(u);
    i->urgent_channels = qatomic_read(&u->most_channels);
    i->resent = qatomic_read_u64(&u->stats.resent);
    i->handoffs = qatomic_read(&u->stats.handoffs);
    i->pages_vcpu = qatomic_read_u64(&u->stats.pages_vcpu);
    i->pages_readahead = qatomic_read_u64(&u->stats.pages_readahead);
    i->pages_userfaultfd = qatomic_read_u64(&u->stats.pages_userfaultfd);
    i->pages_background = qatomic_read_u64(&u->stats.pages_background);
    postcopy_latency_merge(&uffd, &u->stats.uffd_latency);
    i->userfaultfd_latency = latency_to_qapi(&uffd);
}
