/*
 * KVM userfault: memslots, their bitmaps, and the exits
 *
 * Threads      BQL holders start, stop and change memslots.  vCPU threads
 *              bring exits here.  Loader threads announce present pages.
 * Owns         the map of armed memslots and their bitmaps, from
 *              kvm_userfault_start() to kvm_userfault_stop(), and for an RCU
 *              grace period longer.
 * Locks        changes: the BQL, and the slots lock where a memslot changes.
 *              Readers: RCU, for the look-up alone, never while waiting.
 * Orderings    of a memslot made while pages arrive:
 *
 *                kvm_userfault_set_region()     kvm_userfault_pages_present()
 *                publish the view, all absent   (page is in "present")
 *                full barrier                   full barrier
 *                load "present", clear bits     read the map, clear bits
 *
 *              One of the two clears the bit.  Otherwise it would stay set on
 *              a page that is present, and the vCPU would exit for ever (it
 *              would still get on: each such exit clears the bit again).
 * Failure      a memslot made meanwhile for whose bitmap there is no memory
 *              is left to userfaultfd, which serves everybody.  One that KVM
 *              has no memory to make anew without a bitmap keeps it, clear.
 *
 * KVM reads a bitmap until KVM_SET_USER_MEMORY_REGION2 has returned for the
 * slot without the flag; it is freed after that.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-common.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "hw/core/cpu.h"
#include "system/userfault-headers.h"
#include "hw/qdev-core.h"
#include "trace.h"
#include "kvm-userfault-abi.h"
#include "kvm-userfault.h"
#include "userfault-map.h"
#include "userfault-prefault.h"

static struct {
    /* Set once, before the machine exists */
    OnOffAuto policy;
    /* Set once, by the first kvm_userfault_supported(), under the BQL */
    bool probed;
    bool supported;
    char *reason;
    /* Set by kvm_userfault_start(), under the BQL */
    const KVMUserfaultOps *ops;
    void *opaque;
    /* Written under the BQL, read by all */
    bool active;
    UserfaultMap *map;
} userfault = {
    .policy = ON_OFF_AUTO_AUTO,
};

/* The calling vCPU's; see qemu/park.h. */
static __thread QemuPark vcpu_park;

/* What an RCU grace period must pass for */
typedef struct Retired {
    struct rcu_head rcu;
    UserfaultMap *map;
    UserfaultView **view;
    unsigned nr;
} Retired;

static void retired_free(Retired *r)
{
    unsigned i;

    for (i = 0; i < r->nr; i++) {
        userfault_view_free(r->view[i]);
    }
    g_free(r->view);
    g_free(r->map);
    g_free(r);
}

/* Free @old, and @nr views of which it is the last map, in a while. */
static void retire(UserfaultMap *old, UserfaultView **view, unsigned nr)
{
    Retired *r = g_new0(Retired, 1);

    r->map = old;
    r->view = nr ? g_memdup2(view, nr * sizeof(*view)) : NULL;
    r->nr = nr;
    call_rcu(r, retired_free, rcu);
}

static void publish(UserfaultMap *map)
{
    qatomic_rcu_set(&userfault.map, map);
}

static int change_slot(KVMState *s, int type, const void *region)
{
    int ret;

    userfault_prefault_pause();
    ret = kvm_vm_ioctl(s, type, region);
    userfault_prefault_resume();
    return ret;
}

static int set_region(KVMState *s,
                      const struct kvm_userspace_memory_region2 *mem,
                      const UserfaultView *view)
{
    KVMUserfaultRegion region = {
        .slot = mem->slot,
        .flags = mem->flags,
        .guest_phys_addr = mem->guest_phys_addr,
        .memory_size = mem->memory_size,
        .userspace_addr = mem->userspace_addr,
    };

    if (mem->flags & KVM_MEM_GUEST_MEMFD) {
        region.guest_memfd = mem->guest_memfd;
        region.guest_memfd_offset = mem->guest_memfd_offset;
    }
    if (view) {
        region.flags |= KVM_MEM_USERFAULT;
        region.userfault_bitmap = (uintptr_t)view->bitmap;
    }
    return change_slot(s, KVM_SET_USER_MEMORY_REGION2, &region);
}

/* Make and publish the view of a slot.  NULL: not ours, or no memory. */
static UserfaultView *add_view(const KVMSlot *slot, uint32_t number)
{
    KVMUserfaultBlock block;
    UserfaultView *view, *like;
    UserfaultMap *old = userfault.map;
    ram_addr_t offset;
    RAMBlock *rb;

    WITH_RCU_READ_LOCK_GUARD() {
        rb = qemu_ram_block_from_host(slot->ram, false, &offset);
    }
    if (!rb || !userfault.ops->block(userfault.opaque, rb, &block)) {
        return NULL;
    }
    like = userfault_map_find_like(old, rb, offset, slot->memory_size);
    view = like ? userfault_view_share(like, number, slot->start_addr)
                : userfault_view_new(number, slot->start_addr,
                                     slot->memory_size, rb, offset,
                                     block.cookie, qemu_real_host_page_size());
    if (!view) {
        warn_report("KVM userfault: no memory for the bitmap of memslot %u, "
                    "it is served by userfaultfd", number);
        return NULL;
    }
    publish(userfault_map_add(old, view));
    if (old) {
        retire(old, NULL, 0);
    }
    if (!like) {
        userfault_view_load(view, block.present, block.length);
    }
    trace_kvm_userfault_slot_add(number, slot->start_addr, slot->memory_size,
                                 rb->idstr, offset);
    return view;
}

static void drop_view(UserfaultView *view)
{
    UserfaultMap *old = userfault.map;

    trace_kvm_userfault_slot_remove(view->slot);
    publish(userfault_map_remove(old, view));
    retire(old, &view, 1);
}

int kvm_userfault_set_region(KVMState *s, const KVMSlot *slot,
                             const struct kvm_userspace_memory_region2 *mem,
                             bool region2)
{
    UserfaultView *view;
    int ret;

    if (!userfault.active) {
        return region2 ? set_region(s, mem, NULL)
                       : change_slot(s, KVM_SET_USER_MEMORY_REGION, mem);
    }

    assert(bql_locked());
    view = userfault_map_find_slot(userfault.map, mem->slot);
    if (!mem->memory_size) {
        ret = set_region(s, mem, NULL);
        if (!ret && view) {
            drop_view(view);
        }
        return ret;
    }
    if (!view) {
        view = add_view(slot, mem->slot);
    }
    return set_region(s, mem, view);
}

/* As kvm_set_user_memory_region() would, for a slot that is there already. */
static int rearm_slot(KVMState *s, const KVMSlot *slot, uint32_t number,
                      const UserfaultView *view)
{
    struct kvm_userspace_memory_region2 mem = {
        .slot = number,
        .flags = slot->flags,
        .guest_phys_addr = slot->start_addr,
        .memory_size = slot->memory_size,
        .userspace_addr = (uintptr_t)slot->ram,
        .guest_memfd = slot->guest_memfd,
        .guest_memfd_offset = slot->guest_memfd_offset,
    };

    return set_region(s, &mem, view);
}

/* Call @fn for each slot in use until it fails.  Returns its result. */
static int for_each_slot(KVMState *s,
                         int (*fn)(KVMState *s, const KVMSlot *slot,
                                   uint32_t number))
{
    int as_id, ret = 0;
    unsigned i;

    for (as_id = 0; as_id < s->nr_as && !ret; as_id++) {
        KVMMemoryListener *kml = s->as[as_id].ml;

        for (i = 0; kml && i < kml->nr_slots_allocated && !ret; i++) {
            if (kml->slots[i].memory_size) {
                ret = fn(s, &kml->slots[i],
                         kml->slots[i].slot | (uint32_t)as_id << 16);
            }
        }
    }
    return ret;
}

static int start_slot(KVMState *s, const KVMSlot *slot, uint32_t number)
{
    UserfaultView *view = add_view(slot, number);
    int ret;

    if (!view) {
        return 0;
    }
    ret = rearm_slot(s, slot, number, view);
    if (ret) {
        drop_view(view);
    }
    return ret;
}

/* Times that KVM is asked to give a bitmap back, 2 ms apart */
#define STOP_TRIES 50

/*
 * KVM goes on reading the bitmap of @view, which therefore is never freed.
 * With all bits clear it lets vCPUs access every page.
 */
static void abandon_view(UserfaultView *view, int error)
{
    UserfaultMap *old = userfault.map;

    userfault_view_clear(view, view->block, view->block_offset, view->size);
    publish(userfault_map_remove(old, view));
    retire(old, NULL, 0);
    warn_report("KVM userfault: memslot %u keeps its bitmap, and is mapped by "
                "small pages only: %s", view->slot, strerror(error));
}

static int stop_slot(KVMState *s, const KVMSlot *slot, uint32_t number)
{
    UserfaultView *view = userfault_map_find_slot(userfault.map, number);
    unsigned tries = 0;
    int ret;

    if (view) {
        /* The slot exists and only loses a flag, but KVM makes it anew. */
        ret = rearm_slot(s, slot, number, NULL);
        while (ret == -ENOMEM && ++tries < STOP_TRIES) {
            g_usleep(2000);
            ret = rearm_slot(s, slot, number, NULL);
        }
        if (ret) {
            abandon_view(view, -ret);
        }
    }
    return 0;
}

bool kvm_userfault_start(const KVMUserfaultOps *ops, void *opaque,
                         Error **errp)
{
    int ret;

    assert(bql_locked() && !userfault.active);
    if (!kvm_userfault_supported(errp)) {
        return false;
    }
    userfault.ops = ops;
    userfault.opaque = opaque;
    userfault_prefault_init(kvm_state);
    qatomic_set(&userfault.active, true);
    ret = for_each_slot(kvm_state, start_slot);
    if (ret) {
        kvm_userfault_stop();
        error_setg_errno(errp, -ret, "cannot switch KVM userfault on");
        return false;
    }
    trace_kvm_userfault_start(userfault.map ? userfault.map->nr : 0);
    return true;
}

void kvm_userfault_stop(void)
{
    UserfaultMap *old;

    assert(bql_locked());
    if (!userfault.active) {
        return;
    }
    for_each_slot(kvm_state, stop_slot);
    qatomic_set(&userfault.active, false);
    old = userfault.map;
    publish(NULL);
    if (old) {
        retire(old, old->view, old->nr);
    }
    trace_kvm_userfault_stop();
}

bool kvm_userfault_active(void)
{
    return qatomic_read(&userfault.active);
}

void kvm_userfault_pages_present(RAMBlock *rb, uint64_t offset,
                                 uint64_t length)
{
    /* Pairs with the one in userfault_view_load(). */
    smp_mb();
    RCU_READ_LOCK_GUARD();
    userfault_map_clear(qatomic_rcu_read(&userfault.map), rb, offset, length);
}

bool kvm_userfault_is_exit(const struct kvm_run *run)
{
    return run->memory_fault.flags & KVM_MEMORY_EXIT_FLAG_USERFAULT;
}

/*
 * Find the page of an exit.  False: no armed memslot has it any more, so the
 * vCPU just tries again.
 */
static bool find_page(unsigned as_id, uint64_t gpa, void **cookie,
                      uint64_t *offset, uint64_t *left)
{
    UserfaultView *view;

    RCU_READ_LOCK_GUARD();
    view = userfault_map_find(qatomic_rcu_read(&userfault.map), as_id, gpa);
    if (!view) {
        return false;
    }
    *cookie = view->cookie;
    *offset = view->block_offset + (gpa - view->gpa);
    *left = view->size - (gpa - view->gpa);
    return true;
}

int kvm_userfault_handle_exit(CPUState *cpu, struct kvm_run *run,
                              MemTxAttrs attrs)
{
    /* On x86 "secure" means SMM, which has an address space of its own. */
    unsigned as_id = attrs.secure && kvm_state->nr_as > 1;
    uint64_t gpa = run->memory_fault.gpa;
    KVMUserfaultResult result;
    uint64_t offset, left, ahead = 0;
    void *cookie;

    qemu_park_reset(&vcpu_park);
    /* Kicked before the reset?  The handler sets this first. */
    if (qatomic_read(&run->immediate_exit)) {
        return EXCP_INTERRUPT;
    }
    if (!find_page(as_id, gpa, &cookie, &offset, &left)) {
        trace_kvm_userfault_stale_exit(cpu->cpu_index, gpa);
        return 0;
    }
    result = userfault.ops->fault(userfault.opaque, cpu->cpu_index, cookie,
                                  offset, &vcpu_park, &ahead);
    trace_kvm_userfault_exit(cpu->cpu_index, gpa, result);
    if (result == KVM_USERFAULT_PRESENT) {
        userfault_prefault(cpu, gpa, MIN(left, 1 + ahead));
    }
    return result == KVM_USERFAULT_INTERRUPTED ? EXCP_INTERRUPT : 0;
}

void kvm_userfault_kick(void)
{
    qemu_park_kick(&vcpu_park);
}

bool kvm_userfault_supported(Error **errp)
{
    Error *err = NULL;

    if (!kvm_enabled()) {
        error_setg(errp, "the accelerator is not KVM");
        return false;
    }
    if (!userfault.probed) {
        userfault.probed = true;
        userfault.supported = kvm_userfault_probe(kvm_state->fd, &err);
        if (err) {
            userfault.reason = g_strdup(error_get_pretty(err));
            error_free(err);
        }
        trace_kvm_userfault_probe(userfault.supported,
                                  userfault.reason ?: "");
    }
    if (!userfault.supported) {
        error_setg(errp, "%s", userfault.reason);
    }
    return userfault.supported;
}

int kvm_userfault_init(KVMState *s)
{
    Error *err = NULL;

    /* Where management finds the properties. */
    object_property_add_child(qdev_get_machine(), "kvm-accel", OBJECT(s));
    if (userfault.policy != ON_OFF_AUTO_ON) {
        return 0; /* tried when postcopy needs it */
    }
    if (!kvm_userfault_probe(s->fd, &err)) {
        error_reportf_err(err, "userfault=on: ");
        error_printf("Use userfault=auto to fall back to userfaultfd on such "
                     "a host.\n");
        return -ENOTSUP;
    }
    userfault.probed = userfault.supported = true;
    return 0;
}

OnOffAuto kvm_userfault_policy(void)
{
    return userfault.policy;
}

static void get_policy(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    visit_type_OnOffAuto(v, name, &userfault.policy, errp);
}

static void set_policy(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    OnOffAuto value;

    if (kvm_state) {
        error_setg(errp, "userfault cannot be changed after KVM is set up");
        return;
    }
    if (visit_type_OnOffAuto(v, name, &value, errp)) {
        userfault.policy = value;
    }
}

static bool get_supported(Object *obj, Error **errp)
{
    return kvm_userfault_supported(NULL);
}

static char *get_reason(Object *obj, Error **errp)
{
    kvm_userfault_supported(NULL);
    return g_strdup(userfault.reason ?: "");
}

void kvm_userfault_class_init(ObjectClass *oc)
{
    object_class_property_add(oc, "userfault", "OnOffAuto", get_policy,
                              set_policy, NULL, NULL);
    object_class_property_set_description(oc, "userfault",
        "Serve vCPU page faults of postcopy migration by exits from KVM "
        "(on|off|auto)");
    object_class_property_add_bool(oc, "userfault-supported", get_supported,
                                   NULL);
    object_class_property_set_description(oc, "userfault-supported",
        "Whether the host's KVM has userfault, found out by trying it");
    object_class_property_add_str(oc, "userfault-reason", get_reason, NULL);
    object_class_property_set_description(oc, "userfault-reason",
        "Why the host's KVM cannot do it; empty if it can");
}
