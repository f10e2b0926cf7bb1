/* Do private and shared pages of a guest_memfd slot exit, also switched live? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 16.  The two flags of the exit come together.  Slots of guest_memfd
 * cannot be changed otherwise: switched with a vCPU that uses private memory all
 * the time, it must never see an error.  That mappings go is asked in the program
 * of promise 4.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "lib.h"

#define PAGES 16
#define PRIVATE_PAGES 8             /* the first half */
#define UF KVM_MEM_USERFAULT

static int guest_memfd;

static void set_gmem(struct vm *vm, const struct subject *s, uint32_t flags)
{
    int ret = gmem_set_raw(vm, s, flags, guest_memfd, 0);

    check(!ret, "guest_memfd slot with flags 0x%x: %s", flags, strerror(-ret));
}

static void setup(struct vm *vm, struct subject *s, struct vcpu *vcpu)
{
    vm_create_typed(vm, KVM_X86_SW_PROTECTED_VM);
    subject_init(s, PAGES);
    guest_memfd = gmem_create(vm, s);
    make_private(vm, s->gpa, PRIVATE_PAGES * PAGE);
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
    check(gmem_set_raw(&vm, &s, 0, guest_memfd, PAGE) == -EINVAL,
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
    const volatile uint32_t *count;
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
    count = (const volatile uint32_t *)(vm.code + COUNTER_GPA);
    /* On a busy machine the guest may come late; it has time until the
     * program's limit. */
    for (int i = 0; i < 300 || *count <= 300; i++) {
        set_gmem(&vm, &s, i % 2 ? 0 : UF);
    }
    pthread_kill(thread, SIGUSR1);
    pthread_join(thread, &result);
    o = *(struct outcome *)result;
    check(o.err == -EINTR, "%s", outcome_text(o));
    teardown(&vm, &vcpu);
}

int main(void)
{
    require_userfault();
    if (!has_gmem_vms()) {
        skip("kernel has no VMs with guest_memfd that need no special hardware");
    }
    check_exits();
    check_switching_under_load();
    return EXIT_PASS;
}
