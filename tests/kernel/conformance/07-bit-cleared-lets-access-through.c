/* Does clearing a bit let the very next access through, with the page's content? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 7.  After an exit and without one; by the vCPU that exited and by
 * another.  The race of clearing with entering is in the program of promise 11.
 */
#include "lib.h"

#define PAGES 64

/* mov $value, %al; ret */
static void fill(struct subject *s, unsigned long page, uint8_t value)
{
    const uint8_t code[] = { 0xb0, value, 0xc3 };

    memcpy(page_mem(s, page), code, sizeof(code));
}

/* Exit, fill, clear, enter again: the interrupted access completes. */
static void check_same_vcpu(struct vcpu *vcpu, struct subject *s,
                            enum access access, unsigned long page)
{
    struct outcome o;

    expect_userfault(vcpu_access(vcpu, access, page_gpa(s, page), 0x33),
                     page_gpa(s, page));
    fill(s, page, page);
    bit_clear(s, page);
    o = vcpu_run(vcpu);
    expect_done(o);
    check(o.value == (access == ACCESS_EXEC ? page :
                      access == ACCESS_READ ? 0xb0 : 0x33),
          "page %lu: %s", page, outcome_text(o));
    check(access != ACCESS_WRITE || page_mem(s, page)[0] == 0x33,
          "page %lu was not written", page);
}

/* One vCPU exits, the other comes later and does not. */
static void check_other_vcpu(struct vcpu *first, struct vcpu *second,
                             struct subject *s, unsigned long page)
{
    expect_userfault(vcpu_access(first, ACCESS_READ, page_gpa(s, page), 0),
                     page_gpa(s, page));
    fill(s, page, page);
    bit_clear(s, page);
    expect_done(vcpu_access(second, ACCESS_READ, page_gpa(s, page), 0));
    expect_done(vcpu_run(first));
}

int main(void)
{
    struct vcpu vcpus[2];
    struct subject s;
    struct vm vm;

    require_userfault();
    vm_create(&vm);
    subject_init(&s, PAGES);
    memset(s.bitmap, 0xff, PAGES / 8);
    for (unsigned long i = 0; i < PAGES; i++) {
        /* Not yet filled: a guest that runs it gets the wrong value. */
        fill(&s, i, 0xee);
    }
    subject_set(&vm, &s, KVM_MEM_USERFAULT);
    vcpu_create(&vm, &vcpus[0], MODE_FLAT);
    vcpu_create(&vm, &vcpus[1], MODE_FLAT);

    for (unsigned long page = 0; page < 9; page++) {
        check_same_vcpu(&vcpus[0], &s, page % 3, page);
    }
    for (unsigned long page = 9; page < 16; page++) {
        check_other_vcpu(&vcpus[0], &vcpus[1], &s, page);
    }
    for (unsigned long page = 16; page < PAGES; page++) {
        /* Never asked for while it was set. */
        bit_clear(&s, page);
        expect_done(vcpu_access(&vcpus[page % 2], ACCESS_READ,
                                page_gpa(&s, page), 0));
    }
    return EXIT_PASS;
}
