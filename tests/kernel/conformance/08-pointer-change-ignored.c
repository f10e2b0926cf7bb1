/* Is the same flags with another bitmap "nothing to change"? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 8.  The request succeeds and the old bitmap stays in force; the new
 * one comes with a change of the flags.
 */
#include "lib.h"

#define PAGES 16

int main(void)
{
    unsigned long first = 0, second = 0;
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;

    require_userfault();
    vm_create(&vm);
    subject_init(&s, PAGES);
    first |= 1UL << 0 | 1UL << 3;
    second |= 1UL << 1 | 1UL << 2;

    s.bitmap = &first;
    subject_set(&vm, &s, KVM_MEM_USERFAULT);
    vcpu_create(&vm, &vcpu, MODE_FLAT);

    s.bitmap = &second;
    subject_set(&vm, &s, KVM_MEM_USERFAULT);
    expect_userfault(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 0), 0),
                     page_gpa(&s, 0));
    expect_done(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 1), 0));

    subject_set(&vm, &s, 0);
    subject_set(&vm, &s, KVM_MEM_USERFAULT);
    expect_userfault(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 2), 0),
                     page_gpa(&s, 2));
    expect_done(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 3), 0));
    return EXIT_PASS;
}
