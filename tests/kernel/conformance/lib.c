/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine of the conformance programs.  Duties and failures: lib.h.
 *
 * Ordering: bit_clear() is a store-release, which KVM's read barrier after the
 * load of the bitmap pairs with; otherwise the guest could get a page as it was
 * before it was filled.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "lib.h"

/* Where the pieces of guest code begin, see guest_code[]. */
enum {
    CODE_READ = 0x1000,
    CODE_WRITE = 0x1010,
    CODE_EXEC = 0x1020,
    CODE_OUTS = 0x1030,
    CODE_LOOP = 0x1040,
    STACK_TOP = 0x2ff0,
    PAGE_DIR = 0x3000,
    PAGE_TABLE_0 = 0x4000,      /* 0 - 4 MiB */
    PAGE_TABLE_1 = 0x5000,      /* 4 - 8 MiB */
};

static const struct {
    unsigned at;
    uint8_t bytes[8];
} guest_code[] = {
    { CODE_READ,  { 0x8a, 0x03,             /* mov (%ebx), %al */
                    0xe6, DONE_PORT,        /* out %al, $DONE_PORT */
                    0xf4 } },               /* hlt */
    { CODE_WRITE, { 0x88, 0x03,             /* mov %al, (%ebx) */
                    0xe6, DONE_PORT, 0xf4 } },
    { CODE_EXEC,  { 0xff, 0xd3,             /* call *%ebx */
                    0xe6, DONE_PORT, 0xf4 } },
    { CODE_OUTS,  { 0x6e,                   /* outsb (%esi), (%dx) */
                    0xe6, DONE_PORT, 0xf4 } },
    { CODE_LOOP,  { 0x8a, 0x03,             /* mov (%ebx), %al */
                    0xff, 0x01,             /* incl (%ecx) */
                    0xeb, 0xfa } },         /* jmp back to the mov */
};

/* --- results ------------------------------------------------------------------ */

void fail_at(const char *file, int line, const char *cond, const char *fmt, ...)
{
    const char *base = strrchr(file, '/');
    va_list ap;

    printf("FAIL: %s:%d: ", base ? base + 1 : file, line);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf(" (wanted: %s)\n", cond);
    fflush(stdout);
    _exit(EXIT_FAIL);
}

void skip(const char *fmt, ...)
{
    va_list ap;

    printf("SKIP: ");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    fflush(stdout);
    _exit(EXIT_SKIP);
}

static void deadline(int sig)
{
    static const char text[] = "FAIL: deadline passed, something hangs\n";

    (void)sig;
    (void)!write(STDOUT_FILENO, text, sizeof(text) - 1);
    _exit(EXIT_FAIL);
}

const char *outcome_text(struct outcome o)
{
    static _Thread_local char text[160];

    switch (o.kind) {
    case DONE:
        snprintf(text, sizeof(text), "access done, value 0x%02x", o.value);
        break;
    case USERFAULT:
        snprintf(text, sizeof(text),
                 "userfault exit, gpa 0x%llx size 0x%llx flags 0x%llx",
                 (unsigned long long)o.fault.gpa,
                 (unsigned long long)o.fault.size,
                 (unsigned long long)o.fault.flags);
        break;
    case STRING_OUT:
        snprintf(text, sizeof(text), "string output, value 0x%02x", o.value);
        break;
    case OTHER:
        snprintf(text, sizeof(text), "KVM_RUN: %s, exit reason %u",
                 o.err ? strerror(-o.err) : "success", o.exit_reason);
        break;
    }
    return text;
}

/* --- machine ------------------------------------------------------------------- */

int vm_ioctl_raw(struct vm *vm, unsigned long request, void *arg)
{
    return ioctl(vm->fd, request, arg) < 0 ? -errno : 0;
}

int region2_raw(struct vm *vm, const struct region2 *region)
{
    return vm_ioctl_raw(vm, REGION2_IOCTL, (void *)region);
}

void *alloc_pages(unsigned long pages)
{
    void *mem = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    check(mem != MAP_FAILED, "%lu pages: %s", pages, strerror(errno));
    /* Small pages, unless a program asks for others. */
    madvise(mem, pages * PAGE, MADV_NOHUGEPAGE);
    return mem;
}

static void fill_page_tables(uint8_t *code)
{
    uint32_t *dir = (uint32_t *)(code + PAGE_DIR);
    uint32_t *table_0 = (uint32_t *)(code + PAGE_TABLE_0);
    uint32_t *table_1 = (uint32_t *)(code + PAGE_TABLE_1);
    const uint32_t present_writable = 3;

    dir[0] = PAGE_TABLE_0 | present_writable;
    dir[1] = PAGE_TABLE_1 | present_writable;
    for (uint32_t i = 0; i < 1024; i++) {
        table_0[i] = i << 12 | present_writable;
        table_1[i] = (1024 + i) << 12 | present_writable;
    }
}

static void add_code_slot(struct vm *vm)
{
    struct region2 region = {
        .slot = CODE_SLOT,
        .guest_phys_addr = CODE_GPA,
        .memory_size = CODE_SIZE,
    };
    int ret;

    vm->code = alloc_pages(CODE_SIZE / PAGE);
    region.userspace_addr = (uintptr_t)vm->code;
    for (size_t i = 0; i < sizeof(guest_code) / sizeof(guest_code[0]); i++) {
        memcpy(vm->code + guest_code[i].at, guest_code[i].bytes,
               sizeof(guest_code[i].bytes));
    }
    fill_page_tables(vm->code);

    ret = region2_raw(vm, &region);
    if (ret == -ENOTTY || ret == -EINVAL) {
        skip("kernel has no KVM_SET_USER_MEMORY_REGION2: %s", strerror(-ret));
    }
    check(!ret, "memslot of the code: %s", strerror(-ret));
}

void vm_create_typed(struct vm *vm, unsigned long type)
{
    memset(vm, 0, sizeof(*vm));
    signal(SIGALRM, deadline);
    alarm(DEADLINE_S);

    vm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (vm->kvm_fd < 0) {
        skip("no usable /dev/kvm: %s", strerror(errno));
    }
    vm->fd = ioctl(vm->kvm_fd, KVM_CREATE_VM, type);
    if (vm->fd < 0) {
        skip("KVM cannot create a VM of type %lu: %s", type, strerror(errno));
    }
    vm->run_size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    check(vm->run_size >= (int)sizeof(struct kvm_run), "KVM_GET_VCPU_MMAP_SIZE");
    /* Needed by processors that emulate protected mode without paging. */
    ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000UL);
    add_code_slot(vm);
}

void vm_create(struct vm *vm)
{
    vm_create_typed(vm, 0);
}

void vm_destroy(struct vm *vm)
{
    close(vm->fd);
    close(vm->kvm_fd);
    munmap(vm->code, CODE_SIZE);
}

long vm_stat(struct vm *vm, const char *name)
{
    struct kvm_stats_header header;
    uint8_t entry[sizeof(struct kvm_stats_desc) + 256];
    const struct kvm_stats_desc *desc = (const void *)entry;
    size_t entry_size;
    long value = -1;
    int fd = ioctl(vm->fd, KVM_GET_STATS_FD, NULL);

    if (fd < 0) {
        return -1;
    }
    check(pread(fd, &header, sizeof(header), 0) == sizeof(header), "statistics");
    entry_size = sizeof(*desc) + header.name_size;
    check(entry_size <= sizeof(entry), "statistics with long names");

    for (uint32_t i = 0; i < header.num_desc && value < 0; i++) {
        uint64_t v;

        check(pread(fd, entry, entry_size, header.desc_offset + i * entry_size)
              == (ssize_t)entry_size, "statistics");
        if (!strcmp(desc->name, name)) {
            check(pread(fd, &v, sizeof(v), header.data_offset + desc->offset)
                  == sizeof(v), "statistics");
            value = v;
        }
    }
    close(fd);
    return value;
}

/* --- subject ---------------------------------------------------------------------- */

void subject_init(struct subject *s, unsigned long pages)
{
    unsigned long longs = (pages + BITS_PER_LONG - 1) / BITS_PER_LONG;

    s->gpa = SUBJECT_GPA;
    s->slot = SUBJECT_SLOT;
    s->pages = pages;
    s->mem = alloc_pages(pages);
    s->bitmap = alloc_pages((longs * sizeof(long) + PAGE - 1) / PAGE);
}

struct region2 subject_region(const struct subject *s, uint32_t flags)
{
    return (struct region2) {
        .slot = s->slot,
        .flags = flags,
        .guest_phys_addr = s->gpa,
        .memory_size = s->pages * PAGE,
        .userspace_addr = (uintptr_t)s->mem,
        .userfault_bitmap = flags & KVM_MEM_USERFAULT ?
                            (uintptr_t)s->bitmap : 0,
    };
}

int subject_set_raw(struct vm *vm, const struct subject *s, uint32_t flags)
{
    struct region2 region = subject_region(s, flags);

    return region2_raw(vm, &region);
}

void subject_set(struct vm *vm, const struct subject *s, uint32_t flags)
{
    int ret = subject_set_raw(vm, s, flags);

    check(!ret, "memslot with flags 0x%x: %s", flags, strerror(-ret));
}

uint64_t page_gpa(const struct subject *s, unsigned long page)
{
    return s->gpa + page * PAGE;
}

uint8_t *page_mem(const struct subject *s, unsigned long page)
{
    return s->mem + page * PAGE;
}

static unsigned long *word_of(const struct subject *s, unsigned long page)
{
    return &s->bitmap[page / BITS_PER_LONG];
}

static unsigned long mask_of(unsigned long page)
{
    return 1UL << (page % BITS_PER_LONG);
}

void bit_set(struct subject *s, unsigned long page)
{
    __atomic_fetch_or(word_of(s, page), mask_of(page), __ATOMIC_SEQ_CST);
}

void bit_clear(struct subject *s, unsigned long page)
{
    __atomic_fetch_and(word_of(s, page), ~mask_of(page), __ATOMIC_RELEASE);
}

bool bit_test(const struct subject *s, unsigned long page)
{
    return __atomic_load_n(word_of(s, page), __ATOMIC_ACQUIRE) & mask_of(page);
}

/* --- vCPU --------------------------------------------------------------------------- */

static void set_segments(struct kvm_sregs *sregs)
{
    struct kvm_segment flat = {
        .base = 0, .limit = 0xffffffff, .selector = 16, .type = 3,
        .present = 1, .db = 1, .s = 1, .g = 1,
    };

    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = flat;
    flat.selector = 8;
    flat.type = 11;
    sregs->cs = flat;
}

void vcpu_create(struct vm *vm, struct vcpu *vcpu, enum mode mode)
{
    const uint64_t cr0_pe = 1, cr0_pg = 1UL << 31;
    struct kvm_sregs sregs;

    *vcpu = (struct vcpu) { .vm = vm, .mode = mode };
    vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, vm->nr_vcpus++);
    check(vcpu->fd >= 0, "KVM_CREATE_VCPU: %s", strerror(errno));
    vcpu->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
                     vcpu->fd, 0);
    check(vcpu->run != MAP_FAILED, "kvm_run: %s", strerror(errno));

    check(!ioctl(vcpu->fd, KVM_GET_SREGS, &sregs), "%s", strerror(errno));
    set_segments(&sregs);
    sregs.cr0 |= cr0_pe;
    if (mode == MODE_PAGED) {
        sregs.cr3 = PAGE_DIR;
        sregs.cr0 |= cr0_pg;
    }
    check(!ioctl(vcpu->fd, KVM_SET_SREGS, &sregs), "%s", strerror(errno));
}

void vcpu_destroy(struct vcpu *vcpu)
{
    munmap(vcpu->run, vcpu->vm->run_size);
    close(vcpu->fd);
}

/* Let KVM finish an I/O instruction, or it would finish it at the new place. */
static void finish_io(struct vcpu *vcpu)
{
    if (vcpu->io_pending) {
        vcpu->run->immediate_exit = 1;
        check(ioctl(vcpu->fd, KVM_RUN, NULL) < 0 && errno == EINTR,
              "immediate exit: %s", strerror(errno));
        vcpu->run->immediate_exit = 0;
        vcpu->io_pending = false;
    }
}

static void set_regs(struct vcpu *vcpu, struct kvm_regs regs)
{
    const uint64_t eflags_fixed = 2, eflags_if = 1 << 9;

    finish_io(vcpu);
    regs.rflags = eflags_fixed | (vcpu->irqs_on ? eflags_if : 0);
    regs.rsp = STACK_TOP;
    check(!ioctl(vcpu->fd, KVM_SET_REGS, &regs), "%s", strerror(errno));
}

void vcpu_start(struct vcpu *vcpu, enum access access, uint64_t gpa,
                uint8_t value)
{
    static const unsigned entry[] = {
        [ACCESS_READ] = CODE_READ,
        [ACCESS_WRITE] = CODE_WRITE,
        [ACCESS_EXEC] = CODE_EXEC,
    };

    set_regs(vcpu, (struct kvm_regs) {
        .rip = entry[access], .rbx = gpa, .rax = value,
    });
}

void vcpu_start_outs(struct vcpu *vcpu, uint64_t gpa)
{
    set_regs(vcpu, (struct kvm_regs) {
        .rip = CODE_OUTS, .rsi = gpa, .rdx = STRING_PORT,
    });
}

void vcpu_start_loop(struct vcpu *vcpu, uint64_t gpa, uint64_t counter_gpa)
{
    set_regs(vcpu, (struct kvm_regs) {
        .rip = CODE_LOOP, .rbx = gpa, .rcx = counter_gpa,
    });
}

struct outcome vcpu_run(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    struct outcome o = { .kind = OTHER };
    const uint32_t stale = 0xffff;

    run->exit_reason = stale;
    if (ioctl(vcpu->fd, KVM_RUN, NULL) < 0) {
        o.err = -errno;
    }
    o.exit_reason = run->exit_reason;
    vcpu->io_pending = o.exit_reason == KVM_EXIT_IO ||
                       o.exit_reason == KVM_EXIT_MMIO;

    if (o.exit_reason == KVM_EXIT_MEMORY_FAULT) {
        memcpy(&o.fault, &run->hw, sizeof(o.fault));
        if (o.err == -EFAULT &&
            (o.fault.flags & KVM_MEMORY_EXIT_FLAG_USERFAULT)) {
            o.kind = USERFAULT;
        }
    } else if (o.exit_reason == KVM_EXIT_IO && !o.err) {
        o.kind = run->io.port == DONE_PORT ? DONE :
                 run->io.port == STRING_PORT ? STRING_OUT : OTHER;
        o.value = *((uint8_t *)run + run->io.data_offset);
    }
    return o;
}

struct outcome vcpu_access(struct vcpu *vcpu, enum access access, uint64_t gpa,
                           uint8_t value)
{
    vcpu_start(vcpu, access, gpa, value);
    return vcpu_run(vcpu);
}

struct outcome vcpu_run_patient(struct vcpu *vcpu, const struct subject *s)
{
    const int limit = 1000;
    struct outcome o;

    for (int i = 0; i < limit; i++) {
        o = vcpu_run(vcpu);
        if (o.kind != USERFAULT || bit_test(s, (o.fault.gpa - s->gpa) / PAGE)) {
            return o;
        }
    }
    check(false, "%d exits for a page whose bit is clear", limit);
    return o;
}

struct outcome vcpu_access_patient(struct vcpu *vcpu, const struct subject *s,
                                   enum access access, unsigned long page,
                                   uint8_t value)
{
    vcpu_start(vcpu, access, page_gpa(s, page), value);
    return vcpu_run_patient(vcpu, s);
}

void expect_userfault_at(const char *file, int line, struct outcome o,
                         uint64_t gpa)
{
    if (o.kind != USERFAULT || o.fault.gpa != gpa || o.fault.size != PAGE) {
        fail_at(file, line, "userfault exit", "%s; the page is 0x%llx",
                outcome_text(o), (unsigned long long)gpa);
    }
}

void expect_done_at(const char *file, int line, struct outcome o)
{
    if (o.kind != DONE) {
        fail_at(file, line, "access done", "%s", outcome_text(o));
    }
}

int msr_set_raw(struct vcpu *vcpu, uint32_t index, uint64_t value)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } msrs = {
        .head.nmsrs = 1,
        .entry = { .index = index, .data = value },
    };
    int done = ioctl(vcpu->fd, KVM_SET_MSRS, &msrs);

    return done < 0 ? -errno : done == 1 ? 0 : -EINVAL;
}

/* --- support ---------------------------------------------------------------------------- */

static void require_guest(void)
{
    struct subject s;
    struct vcpu vcpu;
    struct outcome o;
    struct vm vm;

    vm_create(&vm);
    subject_init(&s, 1);
    subject_set(&vm, &s, 0);
    s.mem[0] = 0x5a;
    vcpu_create(&vm, &vcpu, MODE_FLAT);
    o = vcpu_access(&vcpu, ACCESS_READ, s.gpa, 0);
    if (o.kind != DONE || o.value != 0x5a) {
        skip("KVM here cannot run a guest: %s", outcome_text(o));
    }
    vcpu_destroy(&vcpu);
    vm_destroy(&vm);
}

void require_userfault(void)
{
    struct subject s;
    struct vcpu vcpu;
    struct outcome o;
    struct vm vm;
    int ret;

    require_guest();

    vm_create(&vm);
    subject_init(&s, 1);
    bit_set(&s, 0);
    ret = subject_set_raw(&vm, &s, KVM_MEM_USERFAULT);
    if (ret) {
        skip("kernel does not support KVM userfault: memslot flag rejected: %s",
             strerror(-ret));
    }
    vcpu_create(&vm, &vcpu, MODE_FLAT);
    o = vcpu_access(&vcpu, ACCESS_READ, s.gpa, 0);
    if (o.kind != USERFAULT) {
        skip("kernel does not support KVM userfault: memslot flag accepted, "
             "but a set bit gives: %s", outcome_text(o));
    }
    vcpu_destroy(&vcpu);
    vm_destroy(&vm);
}
