/* Does a page that a vCPU has mapped stay mapped when its bit is set later? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 6.  What makes the bit count is asked in the program of promise 4.
 * Between the accesses other pages of the slot exit and are mapped, which must
 * not cost the mapped ones.
 */
#include <sys/mman.h>

#include "lib.h"

#define PAGES 32
#define MAPPED 4

static void check_mapped_pages_stay(struct vcpu *vcpu, struct subject *s)
{
    for (unsigned long i = 0; i < MAPPED; i++) {
        expect_done(vcpu_access(vcpu, ACCESS_READ, page_gpa(s, i), 0));
        expect_done(vcpu_access(vcpu, ACCESS_WRITE, page_gpa(s, i), i));
    }
}

int main(void)
{
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;

    require_userfault();
    vm_create(&vm);
    subject_init(&s, PAGES);
    /* The host must not take a page away, which would unmap it. */
    if (mlock(s.mem, PAGES * PAGE)) {
        skip("cannot lock guest memory: %s", strerror(errno));
    }
    subject_set(&vm, &s, KVM_MEM_USERFAULT);
    vcpu_create(&vm, &vcpu, MODE_FLAT);

    for (unsigned long i = 0; i < MAPPED; i++) {
        expect_done(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, i), i));
    }
    for (unsigned long i = 0; i < PAGES; i++) {
        bit_set(&s, i);
    }
    check_mapped_pages_stay(&vcpu, &s);

    for (unsigned long i = MAPPED; i < PAGES; i++) {
        expect_userfault(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, i), 0),
                         page_gpa(&s, i));
        check_mapped_pages_stay(&vcpu, &s);
        bit_clear(&s, i);
        expect_done(vcpu_access_patient(&vcpu, &s, ACCESS_READ, i, 0));
        check_mapped_pages_stay(&vcpu, &s);
    }
    return EXIT_PASS;
}
