/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chore "nested": the guest runs a guest of its own, with its own KVM.
 *
 * The inner guest is one CPU in flat 32-bit mode that adds one to the first
 * word of every page and then tells its host, which is this chore; that checks
 * all of every page.  What KVM of the host needs for this it takes from the
 * guest's memory: the inner CPU's state, and page tables that the guest's KVM
 * has made.
 *
 * Threads   the chore's.
 * Failure   counted once, and the inner guest ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "chore.h"
#include "chore-util.h"
#include "page.h"

#define SEED 0x9e57edull
#define PAGES 1024u             /* that the inner guest counts in */
#define DATA 0x100000u          /* where; its code is at 0 */
#define DONE_PORT 0x10

struct inner {
    struct chore *chore;
    uint64_t *mem;              /* PAGES, and before them the code's page */
    int vcpu;
    struct kvm_run *run;
};

/* start: for (edi = DATA; edi < end; edi += 4096) ++*edi; out; goto start */
static void write_code(uint8_t *code)
{
    static const uint8_t loop[] = {
        0xbf, 0, 0, 0, 0,                       /* mov $DATA, %edi */
        0xff, 0x07,                             /* incl (%edi) */
        0x81, 0xc7, 0x00, 0x10, 0x00, 0x00,     /* add $4096, %edi */
        0x81, 0xff, 0, 0, 0, 0,                 /* cmp $end, %edi */
        0x72, 0xf0,                             /* jb to incl */
        0xe6, DONE_PORT,                        /* out %al, $DONE_PORT */
        0xeb, 0xe7,                             /* jmp to start */
    };
    uint32_t data = DATA, end = DATA + PAGES * PAGE_BYTES;

    memcpy(code, loop, sizeof(loop));
    memcpy(code + 1, &data, sizeof(data));
    memcpy(code + 15, &end, sizeof(end));
}

/* Give @vm @pages of memory at @mem, to be seen at @address. */
static int add_memory(int vm, unsigned int slot, uint64_t address, void *mem,
                      uint64_t pages)
{
    struct kvm_userspace_memory_region r = {
        .slot = slot, .guest_phys_addr = address,
        .memory_size = pages * PAGE_BYTES, .userspace_addr = (uintptr_t)mem,
    };

    return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r);
}

static int set_registers(int vcpu)
{
    struct kvm_regs regs = { .rflags = 2 };
    struct kvm_sregs sregs;
    struct kvm_segment flat = {
        .limit = 0xffffffff, .present = 1, .s = 1, .db = 1, .g = 1,
        .type = 3, .selector = 16,
    };

    if (ioctl(vcpu, KVM_GET_SREGS, &sregs)) {
        return -1;
    }
    sregs.ds = sregs.es = sregs.ss = flat;
    flat.type = 11;
    flat.selector = 8;
    sregs.cs = flat;
    sregs.cr0 |= 1;
    return ioctl(vcpu, KVM_SET_SREGS, &sregs) ||
           ioctl(vcpu, KVM_SET_REGS, &regs) ? -1 : 0;
}

static const char *create(struct inner *n)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int vm, size;

    if (kvm < 0) {
        return "no-kvm";
    }
    vm = ioctl(kvm, KVM_CREATE_VM, 0);
    size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (vm < 0 || size < 0 || add_memory(vm, 0, 0, n->mem, 1) ||
        add_memory(vm, 1, DATA, n->mem + PAGE_WORDS, PAGES)) {
        return "no-vm";
    }
    n->vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (n->vcpu < 0 || set_registers(n->vcpu)) {
        return "no-vcpu";
    }
    n->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, n->vcpu, 0);
    return n->run == MAP_FAILED ? "no-run" : NULL;
}

/* Until the inner guest has been through all of its pages once more. */
static bool inner_pass(struct inner *n)
{
    while (ioctl(n->vcpu, KVM_RUN, 0)) {
        if (errno != EINTR) {
            chore_fail(n->chore, "run", errno);
            return false;
        }
    }
    if (n->run->exit_reason != KVM_EXIT_IO || n->run->io.port != DONE_PORT) {
        chore_fail(n->chore, "exit", n->run->exit_reason);
        return false;
    }
    return true;
}

/* The inner guest has added @passes to the first word of each page. */
static bool check(struct inner *n, uint64_t passes)
{
    for (uint64_t page = 0; page < PAGES; page++) {
        uint64_t *mem = n->mem + (page + 1) * PAGE_WORDS;
        struct page_error e;
        bool good;

        mem[0] -= passes;
        good = page_check(mem, SEED, page, 0, &e);
        mem[0] += passes;
        if (!good) {
            chore_fail(n->chore, "content", page);
            return false;
        }
    }
    return true;
}

static void run(struct chore *c)
{
    struct inner n = { .chore = c, .mem = chore_region(c, PAGES + 1) };
    const char *missing;

    if (!n.mem) {
        return;
    }
    write_code((uint8_t *)n.mem);
    for (uint64_t page = 0; page < PAGES; page++) {
        page_fill(n.mem + (page + 1) * PAGE_WORDS, SEED, page, 0);
    }
    missing = create(&n);
    if (missing) {
        chore_fail(c, missing, errno);
        return;
    }
    for (uint64_t pass = 1; inner_pass(&n) && check(&n, pass); pass++) {
        chore_done(c);
    }
}

CHORE(nested, run);
