/* Do pages of a read-only slot exit, on reads and on writes? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 15.  ROM is migrated, too.  With its bit set a page exits whatever the
 * access is; with the bit clear it is read-only as ever: writes are MMIO.
 */
#include "lib.h"

#define PAGES 16

int main(void)
{
    const uint32_t rom = KVM_MEM_READONLY;
    struct subject s;
    struct vcpu vcpu;
    struct outcome o;
    struct vm vm;

    require_userfault();
    vm_create(&vm);
    subject_init(&s, PAGES);
    vcpu_create(&vm, &vcpu, MODE_FLAT);

    bit_set(&s, 1);
    bit_set(&s, 2);
    subject_set(&vm, &s, rom | KVM_MEM_USERFAULT);
    expect_userfault(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 1), 0),
                     page_gpa(&s, 1));
    expect_userfault(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, 2), 0x11),
                     page_gpa(&s, 2));
    expect_done(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 3), 0));
    o = vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, 3), 0x11);
    check(o.exit_reason == KVM_EXIT_MMIO, "%s", outcome_text(o));

    /* Off: no page exits any more. */
    subject_set(&vm, &s, rom);
    expect_done(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 2), 0));
    o = vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, 1), 0x11);
    check(o.exit_reason == KVM_EXIT_MMIO, "%s", outcome_text(o));

    /* On while it is in use, on pages that were not mapped. */
    bit_set(&s, 5);
    bit_set(&s, 6);
    subject_set(&vm, &s, rom | KVM_MEM_USERFAULT);
    expect_userfault(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 5), 0),
                     page_gpa(&s, 5));
    expect_userfault(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, 6), 0),
                     page_gpa(&s, 6));
    return EXIT_PASS;
}
