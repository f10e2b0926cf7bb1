/* Does KVM map small pages while the flag is on, and huge ones again after it? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 5, first on what the guest sees (a page beside a mapped one, in the
 * same huge page of the host, must exit), then on KVM's statistics.
 */
#include <sys/mman.h>

#include "lib.h"

#define PAGES (2 * HUGE_PAGE / PAGE)

/* The slot begins at a huge page, in guest and host addresses. */
static void subject_init_huge(struct subject *s)
{
    uint8_t *mem;

    subject_init(s, PAGES);
    mem = alloc_pages(PAGES + HUGE_PAGE / PAGE);
    s->mem = (uint8_t *)(((uintptr_t)mem + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    madvise(s->mem, PAGES * PAGE, MADV_HUGEPAGE);
    memset(s->mem, 1, PAGES * PAGE);
}

/* Would KVM map these with huge pages if it were not for userfault? */
static void require_huge_mapping(void)
{
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;
    long huge;

    vm_create(&vm);
    subject_init_huge(&s);
    subject_set(&vm, &s, 0);
    vcpu_create(&vm, &vcpu, MODE_FLAT);
    expect_done(vcpu_access(&vcpu, ACCESS_READ, s.gpa, 0));
    huge = vm_stat(&vm, "pages_2m");
    if (huge < 1) {
        skip("KVM maps no huge pages here (pages_2m is %ld)", huge);
    }
    vcpu_destroy(&vcpu);
    vm_destroy(&vm);
}

int main(void)
{
    const unsigned long clear_pages[] = { 0, 2, 4, 5, 6, 7 };
    const size_t n = sizeof(clear_pages) / sizeof(clear_pages[0]);
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;

    require_userfault();
    require_huge_mapping();

    vm_create(&vm);
    subject_init_huge(&s);
    bit_set(&s, 1);
    bit_set(&s, 3);
    subject_set(&vm, &s, KVM_MEM_USERFAULT);
    vcpu_create(&vm, &vcpu, MODE_FLAT);

    for (size_t i = 0; i < n; i++) {
        expect_done(vcpu_access(&vcpu, ACCESS_WRITE,
                                page_gpa(&s, clear_pages[i]), 1));
    }
    expect_userfault(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 1), 0),
                     page_gpa(&s, 1));
    expect_userfault(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, 3), 0),
                     page_gpa(&s, 3));
    check(vm_stat(&vm, "pages_2m") == 0, "%ld huge mappings with the flag on",
          vm_stat(&vm, "pages_2m"));

    /* Off: the small mappings stand in the way and have to go. */
    subject_set(&vm, &s, 0);
    for (size_t i = 0; i < n; i++) {
        expect_done(vcpu_access(&vcpu, ACCESS_WRITE,
                                page_gpa(&s, clear_pages[i]), 1));
    }
    check(vm_stat(&vm, "pages_2m") >= 1, "no huge mapping came back");
    expect_done(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 1), 0));
    return EXIT_PASS;
}
