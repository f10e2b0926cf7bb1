/* Does only KVM_SET_USER_MEMORY_REGION2 take the flag? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 17.  The older ioctl has no room for the address of a bitmap: with the
 * flag it fails and changes nothing.
 */
#include "lib.h"

int main(void)
{
    struct kvm_userspace_memory_region old_region;
    struct region2 region;
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;
    int ret;

    require_userfault();
    vm_create(&vm);
    subject_init(&s, 8);
    bit_set(&s, 1);
    bit_set(&s, 2);
    vcpu_create(&vm, &vcpu, MODE_FLAT);

    region = subject_region(&s, KVM_MEM_USERFAULT);
    memcpy(&old_region, &region, sizeof(old_region));
    ret = vm_ioctl_raw(&vm, KVM_SET_USER_MEMORY_REGION, &old_region);
    check(ret == -EINVAL, "new slot: %s", strerror(-ret));

    subject_set(&vm, &s, 0);
    ret = vm_ioctl_raw(&vm, KVM_SET_USER_MEMORY_REGION, &old_region);
    check(ret == -EINVAL, "live slot: %s", strerror(-ret));
    expect_done(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 1), 0));

    /* It may switch the flag off: that needs no bitmap. */
    subject_set(&vm, &s, KVM_MEM_USERFAULT);
    expect_userfault(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 2), 0),
                     page_gpa(&s, 2));
    old_region.flags = 0;
    ret = vm_ioctl_raw(&vm, KVM_SET_USER_MEMORY_REGION, &old_region);
    check(!ret, "flag off: %s", strerror(-ret));
    expect_done(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 2), 0));
    return EXIT_PASS;
}
