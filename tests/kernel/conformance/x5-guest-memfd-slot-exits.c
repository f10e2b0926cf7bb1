/* Do private and shared pages of a guest_memfd slot exit, also switched live? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Slots of guest_memfd cannot be changed otherwise.  Switched with a vCPU that
 * uses private memory all the time, it must never see an error.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "lib.h"

#define PAGES 16
#define PRIVATE_PAGES 8             /* the first half */
#define GMEM KVM_MEM_GUEST_MEMFD
#define UF KVM_MEM_USERFAULT

static int guest_memfd;

static int set_gmem_raw(struct vm *vm, const struct subject *s, uint32_t flags,
                        uint64_t offset)
{
    struct region2 region = subject_region(s, flags | GMEM);

    region.guest_memfd = guest_memfd;
    region.guest_memfd_offset = offset;
    return region2_raw(vm, &region);
}

static void set_gmem(struct vm *vm, const struct subject *s, uint32_t flags)
{
    int ret = set_gmem_raw(vm, s, flags, 0);

    check(!ret, "guest_memfd slot with flags 0x%x: %s", flags, strerror(-ret));
}

static void setup(struct vm *vm, struct subject *s, struct vcpu *vcpu)
{
    struct create_guest_memfd create = { .size = PAGES * PAGE };
    struct memory_attributes attributes;
    int ret;

    vm_create_typed(vm, KVM_X86_SW_PROTECTED_VM);
    guest_memfd = ioctl(vm->fd, GUEST_MEMFD_IOCTL, &create);
    if (guest_memfd < 0) {
        skip("no guest_memfd: %s", strerror(errno));
    }
    subject_init(s, PAGES);
    attributes = (struct memory_attributes) {
        .address = s->gpa, .size = PRIVATE_PAGES * PAGE,
        .attributes = MEMORY_ATTRIBUTE_PRIVATE,
    };
    ret = vm_ioctl_raw(vm, MEMORY_ATTRIBUTES_IOCTL, &attributes);
    check(!ret, "private memory: %s", strerror(-ret));
    vcpu_create(vm, vcpu, MODE_FLAT);
}

static void teardown(struct vm *vm, struct vcpu *vcpu)
{
    vcpu_destroy(vcpu);
    close(guest_memfd);
    vm_destroy(vm);
}

static void expect_exit(struct vcpu *vcpu, const struct subject *s,
                        unsigned long page)
{
    struct outcome o = vcpu_access(vcpu, ACCESS_WRITE, page_gpa(s, page), 1);
    uint64_t wanted = KVM_MEMORY_EXIT_FLAG_USERFAULT |
                      (page < PRIVATE_PAGES ? KVM_MEMORY_EXIT_FLAG_PRIVATE : 0);

    expect_userfault(o, page_gpa(s, page));
    check(o.fault.flags == wanted, "page %lu: %s", page, outcome_text(o));
}

static void check_exits(void)
{
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;

    setup(&vm, &s, &vcpu);
    set_gmem(&vm, &s, 0);
    expect_done(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, 0), 0x21));
    expect_done(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, 8), 0x22));

    /* Switched on live. */
    memset(s.bitmap, 0xff, sizeof(long));
    bit_clear(&s, 1);
    set_gmem(&vm, &s, UF);
    expect_exit(&vcpu, &s, 2);
    expect_exit(&vcpu, &s, 9);
    expect_done(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, 1), 0x23));

    /* Repeated: nothing to change.  With another file offset: refused. */
    set_gmem(&vm, &s, UF);
    check(set_gmem_raw(&vm, &s, 0, PAGE) == -EINVAL,
          "the offset may not change with the flag");
    expect_exit(&vcpu, &s, 3);

    /* Off: private memory has kept its content. */
    set_gmem(&vm, &s, 0);
    check(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 0), 0).value == 0x21,
          "private page 0");
    check(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, 1), 0).value == 0x23,
          "private page 1");
    expect_done(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, 9), 1));
    teardown(&vm, &vcpu);
}

#define COUNTER_GPA (CODE_GPA + 0x8000)

static void kicked(int sig)
{
    (void)sig;
}

static void *loop_thread(void *arg)
{
    static struct outcome o;

    o = vcpu_run(arg);
    return &o;
}

static void check_switching_under_load(void)
{
    const struct sigaction action = { .sa_handler = kicked };
    struct subject s;
    struct vcpu vcpu;
    struct outcome o;
    pthread_t thread;
    struct vm vm;
    void *result;

    sigaction(SIGUSR1, &action, NULL);
    setup(&vm, &s, &vcpu);
    set_gmem(&vm, &s, 0);
    vcpu_start_loop(&vcpu, page_gpa(&s, 5), COUNTER_GPA);
    check(!pthread_create(&thread, NULL, loop_thread, &vcpu), "thread");
    for (int i = 0; i < 300; i++) {
        set_gmem(&vm, &s, i % 2 ? 0 : UF);
    }
    pthread_kill(thread, SIGUSR1);
    pthread_join(thread, &result);
    o = *(struct outcome *)result;
    check(o.err == -EINTR, "%s", outcome_text(o));
    check(*(uint32_t *)(vm.code + COUNTER_GPA) > 300, "the guest did not run");
    teardown(&vm, &vcpu);
}

int main(void)
{
    struct vm vm;
    int types;

    require_userfault();
    vm_create(&vm);
    types = ioctl(vm.kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_VM_TYPES);
    if (types < 0 || !(types & 1 << KVM_X86_SW_PROTECTED_VM)) {
        skip("kernel has no VM type with guest_memfd that needs no hardware");
    }
    vm_destroy(&vm);
    check_exits();
    check_switching_under_load();
    return EXIT_PASS;
}
