/* Does setting a slot with a bitmap outside user memory fail with EINVAL? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 3.  Tagged addresses, addresses of the kernel, and bitmaps that run
 * past the end of user addresses; for a new slot and for one that is in use,
 * which stays as it was.  That nothing is mapped at an address is no reason.
 */
#include <sys/mman.h>

#include "lib.h"

#define PAGES 64

static const uint64_t bad_pointers[] = {
    0xffff800000000000,             /* kernel half */
    1ULL << 63,
    0xfffffffffffff000,
    0xfffffffffffffffc,             /* wraps around */
    0x7e00000000001000,             /* tag in bits 57 - 62 */
    0x0100000000001000,
};

static int set_with_pointer(struct vm *vm, const struct subject *s,
                            uint64_t pointer)
{
    struct region2 region = subject_region(s, KVM_MEM_USERFAULT);

    region.userfault_bitmap = pointer;
    return region2_raw(vm, &region);
}

static void check_all_rejected(struct vm *vm, const struct subject *s)
{
    for (size_t i = 0; i < sizeof(bad_pointers) / sizeof(bad_pointers[0]); i++) {
        int ret = set_with_pointer(vm, s, bad_pointers[i]);

        check(ret == -EINVAL, "bitmap at 0x%llx: %s",
              (unsigned long long)bad_pointers[i], strerror(-ret));
    }
}

int main(void)
{
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;
    void *hole;

    require_userfault();
    vm_create(&vm);
    subject_init(&s, PAGES);
    vcpu_create(&vm, &vcpu, MODE_FLAT);

    /* New slot: none comes into being. */
    check_all_rejected(&vm, &s);
    check(vcpu_access(&vcpu, ACCESS_READ, s.gpa, 0).exit_reason ==
          KVM_EXIT_MMIO, "a rejected slot exists");

    /* Live slot: it works as before. */
    subject_set(&vm, &s, 0);
    check_all_rejected(&vm, &s);
    expect_done(vcpu_access(&vcpu, ACCESS_READ, s.gpa, 0));

    /* A hole in user memory is accepted; see the program of promise 2. */
    hole = alloc_pages(1);
    check(!munmap(hole, PAGE), "%s", strerror(errno));
    check(!set_with_pointer(&vm, &s, (uintptr_t)hole), "a hole is rejected");
    return EXIT_PASS;
}
