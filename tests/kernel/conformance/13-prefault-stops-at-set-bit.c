/* Does KVM_PRE_FAULT_MEMORY stop at a page whose bit is set? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 13.  It maps the pages before that one and fails there with EFAULT;
 * the page still exits when the vCPU comes to it.
 */
#include <sys/ioctl.h>

#include "lib.h"

#define PAGES 16

int main(void)
{
    struct pre_fault_memory range;
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;
    int ret;

    require_userfault();
    vm_create(&vm);
    if (ioctl(vm.kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_PRE_FAULT_MEMORY) <= 0) {
        skip("kernel has no KVM_PRE_FAULT_MEMORY");
    }
    subject_init(&s, PAGES);
    bit_set(&s, 4);
    bit_set(&s, 6);
    subject_set(&vm, &s, KVM_MEM_USERFAULT);
    vcpu_create(&vm, &vcpu, MODE_FLAT);

    range = (struct pre_fault_memory) { .gpa = s.gpa, .size = PAGES * PAGE };
    ret = ioctl(vcpu.fd, PRE_FAULT_IOCTL, &range) < 0 ? -errno : 0;
    if (ret == -EOPNOTSUPP) {
        skip("KVM_PRE_FAULT_MEMORY needs two-dimensional paging");
    }
    check(ret == 0 || ret == -EFAULT, "%s", strerror(-ret));
    check(range.gpa == page_gpa(&s, 4), "stopped at 0x%llx",
          (unsigned long long)range.gpa);

    range = (struct pre_fault_memory) { .gpa = page_gpa(&s, 6), .size = PAGE };
    ret = ioctl(vcpu.fd, PRE_FAULT_IOCTL, &range) < 0 ? -errno : 0;
    check(ret == -EFAULT, "at such a page: %s", strerror(-ret));

    /* The pages before it are mapped: their bits come too late. */
    bit_set(&s, 3);
    expect_done(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 3), 0));
    for (unsigned long page = 4; page <= 6; page += 2) {
        expect_userfault(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, page), 0),
                         page_gpa(&s, page));
    }
    return EXIT_PASS;
}
