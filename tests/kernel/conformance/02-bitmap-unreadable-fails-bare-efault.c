/* Is the bitmap read at fault time, at any alignment, and a bad one bare EFAULT? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 2.  KVM reads the one long that holds the bit.  If it cannot, KVM_RUN
 * fails with EFAULT and does not claim a memory fault exit.
 */
#include <sys/mman.h>

#include "lib.h"

/* One slot whose bitmap the caller places. */
static void setup(struct vm *vm, struct subject *s, struct vcpu *vcpu,
                  unsigned long pages, void *bitmap)
{
    vm_create(vm);
    subject_init(s, pages);
    s->bitmap = bitmap;
    subject_set(vm, s, KVM_MEM_USERFAULT);
    vcpu_create(vm, vcpu, MODE_FLAT);
}

static void teardown(struct vm *vm, struct vcpu *vcpu)
{
    vcpu_destroy(vcpu);
    vm_destroy(vm);
}

static void check_alignment(unsigned long offset)
{
    /* The long begins in one page and may end in the next. */
    uint8_t *area = alloc_pages(2);
    uint8_t *bitmap = area + PAGE - sizeof(long) + offset;
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;

    bitmap[0] = 1 << 1;             /* page 1 */
    bitmap[7] = 1 << 7;             /* page 63 */
    setup(&vm, &s, &vcpu, 64, bitmap);

    expect_done(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 0), 0));
    expect_userfault(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 1), 0),
                     page_gpa(&s, 1));
    expect_done(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 62), 0));
    expect_userfault(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 63), 0),
                     page_gpa(&s, 63));
    teardown(&vm, &vcpu);
}

static void check_unreadable(void)
{
    uint8_t *bitmap = alloc_pages(1);
    struct subject s;
    struct vcpu vcpu;
    struct outcome o;
    struct vm vm;

    check(!mprotect(bitmap, PAGE, PROT_NONE), "%s", strerror(errno));
    setup(&vm, &s, &vcpu, 8, bitmap);

    for (int i = 0; i < 2; i++) {
        o = vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, 3), 0x42);
        check(o.err == -EFAULT, "unreadable bitmap: %s", outcome_text(o));
        check(o.exit_reason != KVM_EXIT_MEMORY_FAULT,
              "unreadable bitmap claims an exit: %s", outcome_text(o));
        check(page_mem(&s, 3)[0] == 0, "the access happened");
    }

    /* Nothing is remembered: the same access, with a bitmap to read. */
    check(!mprotect(bitmap, PAGE, PROT_READ), "%s", strerror(errno));
    expect_done(vcpu_run(&vcpu));
    check(page_mem(&s, 3)[0] == 0x42, "the access did not happen");
    teardown(&vm, &vcpu);
}

/* The word after the one that is asked for need not be there. */
static void check_one_long_only(void)
{
    uint8_t *area = alloc_pages(2);
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;

    check(!munmap(area + PAGE, PAGE), "%s", strerror(errno));
    setup(&vm, &s, &vcpu, 128, area + PAGE - sizeof(long));
    expect_done(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 63), 0));
    teardown(&vm, &vcpu);
}

int main(void)
{
    require_userfault();
    for (unsigned long offset = 0; offset < sizeof(long); offset++) {
        check_alignment(offset);
    }
    check_unreadable();
    check_one_long_only();
    return EXIT_PASS;
}
