/* Do KVM's own accesses to pages whose bit is set go to the host mapping instead? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 10.  The paravirtual clock and steal time, string output that KVM
 * emulates, a walk of guest page tables: none leaves KVM_RUN, all see or change
 * the memory, and userfaultfd catches them where the page is missing.
 */
#include <pthread.h>
#include <sys/ioctl.h>

#include "lib.h"

#define PAGES 16
#define MSR_ENABLE 1

/* A VM whose subject has every bit set. */
static void setup(struct vm *vm, struct subject *s, struct vcpu *vcpu)
{
    vm_create(vm);
    subject_init(s, PAGES);
    memset(s->bitmap, 0xff, PAGES / 8);
    subject_set(vm, s, KVM_MEM_USERFAULT);
    vcpu_create(vm, vcpu, MODE_FLAT);
}

static void teardown(struct vm *vm, struct vcpu *vcpu)
{
    vcpu_destroy(vcpu);
    vm_destroy(vm);
}

/* Let the vCPU do something that has nothing to do with the subject. */
static void run_elsewhere(struct vcpu *vcpu)
{
    expect_done(vcpu_access(vcpu, ACCESS_READ, CODE_GPA, 0));
}

static bool all_zero(const uint8_t *mem, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (mem[i]) {
            return false;
        }
    }
    return true;
}

static void check_pv_msr(uint32_t msr, const char *what)
{
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;
    int ret;

    setup(&vm, &s, &vcpu);
    ret = msr_set_raw(&vcpu, msr, page_gpa(&s, 2) | MSR_ENABLE);
    check(!ret, "%s: %s", what, strerror(-ret));
    run_elsewhere(&vcpu);
    check(!all_zero(page_mem(&s, 2), 64), "%s was not written", what);
    check(bit_test(&s, 2), "the bit of %s", what);
    teardown(&vm, &vcpu);
}

static void check_string_output(void)
{
    struct subject s;
    struct vcpu vcpu;
    struct outcome o;
    struct vm vm;

    setup(&vm, &s, &vcpu);
    page_mem(&s, 3)[7] = 0xa5;
    vcpu_start_outs(&vcpu, page_gpa(&s, 3) + 7);
    o = vcpu_run(&vcpu);
    check(o.kind == STRING_OUT && o.value == 0xa5, "%s", outcome_text(o));
    teardown(&vm, &vcpu);
}

/* Page tables in pages whose bits are set, walked by KVM_TRANSLATE. */
static void check_page_walk(void)
{
    const uint32_t present_writable = 3;
    struct kvm_translation tr = { .linear_address = 0x00801234 };
    struct kvm_sregs sregs;
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;

    setup(&vm, &s, &vcpu);
    ((uint32_t *)page_mem(&s, 4))[2] = page_gpa(&s, 5) | present_writable;
    ((uint32_t *)page_mem(&s, 5))[1] = 0x00777000 | present_writable;

    check(!ioctl(vcpu.fd, KVM_GET_SREGS, &sregs), "%s", strerror(errno));
    sregs.cr3 = page_gpa(&s, 4);
    sregs.cr0 |= 1UL << 31;
    check(!ioctl(vcpu.fd, KVM_SET_SREGS, &sregs), "%s", strerror(errno));
    check(!ioctl(vcpu.fd, KVM_TRANSLATE, &tr), "%s", strerror(errno));
    check(tr.valid && tr.physical_address == 0x00777234,
          "walk of guest page tables: valid %u, 0x%llx", tr.valid,
          (unsigned long long)tr.physical_address);
    teardown(&vm, &vcpu);
}

static void *run_thread(void *vcpu)
{
    run_elsewhere(vcpu);
    return NULL;
}

/* The page of the clock is missing in the host: userfaultfd sees KVM. */
static void check_userfaultfd(void)
{
    struct subject s;
    struct vcpu vcpu;
    pthread_t thread;
    uint8_t *fault;
    struct vm vm;
    int uffd;
    int ret;

    setup(&vm, &s, &vcpu);
    uffd = uffd_register(s.mem, PAGES * PAGE);
    ret = msr_set_raw(&vcpu, MSR_PV_STEAL, page_gpa(&s, 6) | MSR_ENABLE);
    check(!ret, "steal time: %s", strerror(-ret));
    check(!pthread_create(&thread, NULL, run_thread, &vcpu), "thread");

    fault = uffd_wait(uffd, 20000);
    check(fault == page_mem(&s, 6), "userfaultfd saw a fault at %p, not %p",
          (void *)fault, (void *)page_mem(&s, 6));
    uffd_place(uffd, fault, 0);
    pthread_join(thread, NULL);
    check(!all_zero(page_mem(&s, 6), 64), "steal time was not written");
    close(uffd);
    teardown(&vm, &vcpu);
}

int main(void)
{
    require_userfault();
    check_pv_msr(MSR_PV_CLOCK, "the paravirtual clock");
    check_pv_msr(MSR_PV_STEAL, "steal time");
    check_string_output();
    check_page_walk();
    check_userfaultfd();
    return EXIT_PASS;
}
