/*
 * The machine around the migration code: RAM blocks, memslots, userfaultfd
 *
 * Stands for system/physmem.c, accel/kvm/kvm-all.c, the kernel's KVM and its
 * userfaultfd, as far as the code under test asks them.  What it never calls is
 * not linked at all: the linker leaves such symbols at address 0, and a call
 * would crash.
 *
 * Threads      the main thread changes things while vCPUs sleep or are at rest.
 *              vCPUs read memslots and place discarded pages.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/userfaultfd.h>
#include "qemu/bitmap.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "qemu/timer.h"
#include "exec/page-vary.h"
#include "hw/boards.h"
#include "migration/cpr.h"
#include "migration/multifd.h"
#include "monitor/monitor.h"
#include "system/kvm.h"
#include "system/runstate.h"
#include "kvm-userfault-abi.h"
#include "kvm-userfault.h"
#include "migration/yank_functions.h"
#include "fuzz.h"
#include "machine.h"
#include "peek.h"
#include "vcpu.h"

/* Data that the code under test reads */
TargetPageBits target_page = {
    .decided = true, .bits = PAGE_BITS, .mask = -1ull << PAGE_BITS,
};
RAMList ram_list;
KVMState *kvm_state;
bool kvm_allowed = true;
MachineState *current_machine;

RAMBlock machine_block[BLOCKS];
MachineUffd machine_uffd;
__thread bool machine_is_main;

static const struct {
    const char *name;
    unsigned page_size, pages, here;
} layout[BLOCKS] = {
    [BLOCK_RAM] = { "pc.ram", 1, 131, 131 },
    [BLOCK_SHRUNK] = { "/rom@etc/acpi/tables", 1, 20, 24 },
    [BLOCK_HUGE] = { "huge", 16, 5 * 16, 5 * 16 },
    [BLOCK_SPARSE] = { "virtio-mem", 1, 40, 40 },
};

MachineSlot machine_slot[MACHINE_SLOTS] = {
    { 0, 0, BLOCK_RAM, 0, 70 },
    { 0, 0x100000, BLOCK_RAM, 70, 61 },
    { 0, 0x200000, BLOCK_SHRUNK, 0, 24 },
    { 0, 0x300000, BLOCK_HUGE, 3, 77 },
    { 0, 0x400000, BLOCK_SPARSE, 0, 40 },
    /* The address space of SMM sees the first one, too. */
    { 1, 0, BLOCK_RAM, 0, 131 },
};

static KVMSlot kvm_slot[MACHINE_SLOTS];
static KVMMemoryListener listener[2];
static struct KVMAs address_space[2];
static MemoryRegion region[BLOCKS];

void fuzz_fail(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    fputs("FINDING: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}

/* ------------------------------------------------------------------------- */
/* RAM */

static void make_block(RAMBlock *rb, unsigned i, bool destination)
{
    *rb = (RAMBlock) {
        .mr = &region[i],
        .page_size = layout[i].page_size * PAGE_BYTES,
        .used_length = layout[i].here * PAGE_BYTES,
        .max_length = layout[i].here * PAGE_BYTES,
        .postcopy_length = layout[i].pages * PAGE_BYTES,
        .fd = -1,
    };
    if (!destination) {
        rb->used_length = rb->postcopy_length;
    }
    pstrcpy(rb->idstr, sizeof(rb->idstr), layout[i].name);
    rb->host = qemu_memalign(rb->page_size, rb->max_length);
    memset(rb->host, 0, rb->max_length);
}

void machine_begin(bool destination, unsigned vcpus)
{
    unsigned i;

    current_machine->smp.max_cpus = current_machine->smp.cpus = vcpus;
    machine_uffd = (MachineUffd) { 0 };
    QLIST_INIT(&ram_list.blocks);
    for (i = BLOCKS; i-- > 0; ) {
        if (destination || i != BLOCK_SPARSE) {
            make_block(&machine_block[i], i, destination);
            QLIST_INSERT_HEAD(&ram_list.blocks, &machine_block[i], next);
        }
    }
    for (i = 0; destination && i < MACHINE_SLOTS; i++) {
        machine_slot_set(i, true);
    }
}

void machine_end(void)
{
    RAMBlock *rb;

    machine_grace_period();
    QLIST_FOREACH(rb, &ram_list.blocks, next) {
        g_clear_pointer(&rb->receivedmap, g_free);
        g_clear_pointer(&rb->bmap, g_free);
        g_clear_pointer(&rb->clear_bmap, g_free);
        qemu_vfree(rb->host);
    }
    QLIST_INIT(&ram_list.blocks);
}

bool machine_discarded(const RAMBlock *rb, uint64_t offset)
{
    return rb == &machine_block[BLOCK_SPARSE] && (offset >> PAGE_BITS & 4);
}

RAMBlock *qemu_ram_block_by_name(const char *name)
{
    RAMBlock *rb;

    QLIST_FOREACH(rb, &ram_list.blocks, next) {
        if (!strcmp(rb->idstr, name)) {
            return rb;
        }
    }
    return NULL;
}

RAMBlock *qemu_ram_block_from_host(void *ptr, bool round, ram_addr_t *offset)
{
    RAMBlock *rb;

    QLIST_FOREACH(rb, &ram_list.blocks, next) {
        if ((uint8_t *)ptr - rb->host < rb->max_length) {
            *offset = (uint8_t *)ptr - rb->host;
            if (round) {
                *offset &= -(ram_addr_t)PAGE_BYTES;
            }
            return rb;
        }
    }
    return NULL;
}

ram_addr_t qemu_ram_block_host_offset(RAMBlock *rb, void *host)
{
    return (uint8_t *)host - rb->host;
}

size_t qemu_ram_pagesize(RAMBlock *rb)
{
    return rb->page_size;
}

size_t qemu_ram_pagesize_largest(void)
{
    return machine_block[BLOCK_HUGE].page_size;
}

const char *qemu_ram_get_idstr(RAMBlock *rb)
{
    return rb->idstr;
}

bool qemu_ram_is_migratable(RAMBlock *rb)
{
    return true;
}

bool qemu_ram_is_shared(RAMBlock *rb)
{
    return false;
}

bool qemu_ram_is_named_file(RAMBlock *rb)
{
    return false;
}

bool qemu_ram_is_uf_zeroable(RAMBlock *rb)
{
    return rb->page_size == PAGE_BYTES;
}

void memory_region_ref(MemoryRegion *mr)
{
}

void memory_region_unref(MemoryRegion *mr)
{
}

void memory_region_clear_dirty_bitmap(MemoryRegion *mr, hwaddr start,
                                      hwaddr len)
{
    RAMBlock *rb = &machine_block[mr - region];

    fuzz_check(start < rb->max_length, "dirty bitmap cleared at %" PRIx64
               " of %s", start, rb->idstr);
}

/* A manager is only handed back to the function after this. */
RamDiscardManager *memory_region_get_ram_discard_manager(MemoryRegion *mr)
{
    return mr == &region[BLOCK_SPARSE] ? (RamDiscardManager *)mr : NULL;
}

bool ram_discard_manager_is_populated(const RamDiscardManager *rdm,
                                      const MemoryRegionSection *section)
{
    return !machine_discarded(&machine_block[BLOCK_SPARSE],
                              section->offset_within_region);
}

/* ------------------------------------------------------------------------- */
/* KVM */

bool kvm_userfault_probe(int kvm_fd, Error **errp)
{
    return true;
}

int kvm_vm_check_extension(KVMState *s, unsigned int extension)
{
    return extension == KVM_CAP_PRE_FAULT_MEMORY;
}

/* KVM_SET_USER_MEMORY_REGION2 is all that is asked for. */
int kvm_vm_ioctl(KVMState *s, unsigned long type, ...)
{
    const KVMUserfaultRegion *r;
    va_list ap;
    unsigned i;

    va_start(ap, type);
    r = va_arg(ap, void *);
    va_end(ap);
    for (i = 0; i < MACHINE_SLOTS; i++) {
        MachineSlot *slot = &machine_slot[i];

        if ((kvm_slot[i].slot | slot->as << 16) == r->slot) {
            slot->there = r->memory_size;
            slot->bitmap = NULL;
            if (r->flags & KVM_MEM_USERFAULT) {
                slot->bitmap = (void *)(uintptr_t)r->userfault_bitmap;
            }
            return 0;
        }
    }
    fuzz_fail("no memslot 0x%x", r->slot);
}

void machine_slot_set(unsigned number, bool there)
{
    MachineSlot *slot = &machine_slot[number];
    KVMSlot *k = &kvm_slot[number];
    struct kvm_userspace_memory_region2 mem;

    k->start_addr = slot->gpa;
    k->memory_size = there ? slot->pages * PAGE_BYTES : 0;
    k->ram = machine_block[slot->block].host + slot->first * PAGE_BYTES;
    mem = (struct kvm_userspace_memory_region2) {
        .slot = k->slot | slot->as << 16,
        .guest_phys_addr = k->start_addr,
        .memory_size = k->memory_size,
        .userspace_addr = (uintptr_t)k->ram,
    };
    kvm_userfault_set_region(kvm_state, k, &mem, true);
}

const MachineSlot *machine_slot_at(unsigned as, uint64_t gpa)
{
    unsigned i;

    for (i = 0; i < MACHINE_SLOTS; i++) {
        const MachineSlot *slot = &machine_slot[i];

        if (slot->there && slot->as == as &&
            gpa - slot->gpa < slot->pages * PAGE_BYTES) {
            return slot;
        }
    }
    return NULL;
}

/* ------------------------------------------------------------------------- */
/* userfaultfd: what arrives is copied, and a second time is refused */

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);

static int place(uint64_t to, const void *from, uint64_t length)
{
    RAMBlock *rb;
    ram_addr_t offset;

    rb = qemu_ram_block_from_host((void *)(uintptr_t)to, false, &offset);
    fuzz_check(rb && !(offset % rb->page_size) && length == rb->page_size &&
               offset + length <= rb->postcopy_length,
               "placed %" PRIu64 " bytes outside of a page", length);
    if (machine_uffd.error) {
        errno = machine_uffd.error;
        machine_uffd.error = 0;
        /* The others are tried again. */
        if (errno != EAGAIN && errno != ENOMEM) {
            machine_uffd.vcpu_errors += !machine_is_main && !vcpu_has_page();
        }
        return -1;
    }
    if (test_bit(offset >> PAGE_BITS, rb->receivedmap)) {
        errno = EEXIST;
        return -1;
    }
    if (from) {
        memcpy(rb->host + offset, from, length);
    }
    qatomic_inc(&machine_uffd.placed);
    if (vcpu_has_page()) {
        qatomic_inc(&machine_uffd.placed_given);
    }
    return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
    va_list ap;
    void *arg;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);
    if (fd == MACHINE_UFFD && request == UFFDIO_COPY) {
        struct uffdio_copy *copy = arg;

        return place(copy->dst, (void *)(uintptr_t)copy->src, copy->len);
    }
    if (fd == MACHINE_UFFD && request == UFFDIO_ZEROPAGE) {
        struct uffdio_zeropage *zero = arg;

        return place(zero->range.start, NULL, zero->range.len);
    }
    if (request == KVM_PRE_FAULT_MEMORY) {
        return vcpu_prefault(fd, arg);
    }
    return __real_ioctl(fd, request, arg);
}

/* ------------------------------------------------------------------------- */
/* RCU: a grace period ends when the main thread says so */

static GSList *retired;         /* main thread only */

void __wrap_call_rcu1(struct rcu_head *head, RCUCBFunc *func);

void __wrap_call_rcu1(struct rcu_head *head, RCUCBFunc *func)
{
    fuzz_check(machine_is_main, "a vCPU frees by RCU");
    head->func = func;
    retired = g_slist_append(retired, head);
}

void machine_grace_period(void)
{
    while (retired) {
        struct rcu_head *head = retired->data;

        retired = g_slist_delete_link(retired, retired);
        head->func(head);
    }
}

/* ------------------------------------------------------------------------- */
/* Time passes only where somebody waits: for the preempt channel. */
int __real_qemu_sem_timedwait(QemuSemaphore *sem, int ms);
int __wrap_qemu_sem_timedwait(QemuSemaphore *sem, int ms);
int64_t __real_qemu_clock_get_ns(QEMUClockType type);
int64_t __wrap_qemu_clock_get_ns(QEMUClockType type);

static int64_t passed_ms;

int __wrap_qemu_sem_timedwait(QemuSemaphore *sem, int ms)
{
    passed_ms += ms;
    return __real_qemu_sem_timedwait(sem, 0);
}

int64_t __wrap_qemu_clock_get_ns(QEMUClockType type)
{
    return __real_qemu_clock_get_ns(type) + passed_ms * SCALE_MS;
}

/* ------------------------------------------------------------------------- */
/* The rest of QEMU */

bool bql_locked(void)
{
    return machine_is_main;
}

void bql_lock_impl(const char *file, int line)
{
    fuzz_fail("somebody waits for the BQL in %s:%d", file, line);
}

void bql_unlock(void)
{
}

void bql_block_unlock(bool increase)
{
}

/* Silent: messages are no findings. */
int error_vprintf(const char *fmt, va_list ap)
{
    return 0;
}

int error_vprintf_unless_qmp(const char *fmt, va_list ap)
{
    return 0;
}

Object *qdev_get_machine(void)
{
    return OBJECT(current_machine);
}

bool runstate_is_running(void)
{
    return true;
}

bool multifd_ram_sync_per_round(void)
{
    return false;
}

MigMode cpr_get_incoming_mode(void)
{
    return MIG_MODE_NONE;
}

void migration_ioc_unregister_yank_from_file(QEMUFile *file)
{
}

static const TypeInfo machine_type = {
    .name = TYPE_MACHINE,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(MachineState),
    .class_size = sizeof(MachineClass),
};

void machine_init(void)
{
    unsigned i;

    machine_is_main = true;
    type_register_static(&machine_type);
    module_call_init(MODULE_INIT_QOM);
    current_machine = MACHINE(object_new(TYPE_MACHINE));
    kvm_state = g_new0(KVMState, 1);
    kvm_state->nr_as = 2;
    kvm_state->as = address_space;
    for (i = 0; i < 2; i++) {
        unsigned first = i ? MACHINE_SLOTS - 1 : 0;

        address_space[i].ml = &listener[i];
        listener[i].slots = &kvm_slot[first];
        listener[i].nr_slots_allocated = i ? 1 : MACHINE_SLOTS - 1;
    }
    region[BLOCK_SPARSE].rdm = (RamDiscardManager *)&region[BLOCK_SPARSE];
    for (i = 0; i < MACHINE_SLOTS; i++) {
        kvm_slot[i].slot = machine_slot[i].as ? 0 : i;
        kvm_slot[i].as_id = machine_slot[i].as;
    }
    peek_migration_init();
}
