/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Slots of guest_memfd, as far as the conformance programs need them.  Duties:
 * lib.h.
 */
#include <sys/ioctl.h>

#include "lib.h"

int gmem_create(struct vm *vm, const struct subject *s)
{
    struct create_guest_memfd create = { .size = s->pages * PAGE };
    int fd = ioctl(vm->fd, GUEST_MEMFD_IOCTL, &create);

    if (fd < 0) {
        skip("no guest_memfd: %s", strerror(errno));
    }
    return fd;
}

int gmem_set_raw(struct vm *vm, const struct subject *s, uint32_t flags,
                 int gmem, uint64_t offset)
{
    struct region2 region = subject_region(s, flags | KVM_MEM_GUEST_MEMFD);

    region.guest_memfd = gmem;
    region.guest_memfd_offset = offset;
    return region2_raw(vm, &region);
}

void make_private(struct vm *vm, uint64_t gpa, uint64_t size)
{
    struct memory_attributes attributes = {
        .address = gpa, .size = size, .attributes = MEMORY_ATTRIBUTE_PRIVATE,
    };
    int ret = vm_ioctl_raw(vm, MEMORY_ATTRIBUTES_IOCTL, &attributes);

    check(!ret, "private memory: %s", strerror(-ret));
}

bool has_gmem_vms(void)
{
    struct vm vm;
    int types;

    vm_create(&vm);
    types = ioctl(vm.kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_VM_TYPES);
    vm_destroy(&vm);
    return types > 0 && types & 1 << KVM_X86_SW_PROTECTED_VM;
}
