/* Does switching the flag on make vCPUs fault on pages they had mapped? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 4, and the second half of promise 6: bits set while the flag was on
 * count after it went off and on again.  Then with a vCPU that reads a mapped
 * page in a loop: when the ioctl has returned, it has read its last.
 */
#include <pthread.h>
#include <signal.h>

#include "lib.h"

#define PAGES 600

static void check_mapped_pages(enum mode mode)
{
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;

    vm_create(&vm);
    subject_init(&s, PAGES);
    subject_set(&vm, &s, 0);
    vcpu_create(&vm, &vcpu, mode);
    for (unsigned long i = 0; i < PAGES; i++) {
        expect_done(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, i), i));
    }

    memset(s.bitmap, 0xff, PAGES / 8);
    subject_set(&vm, &s, KVM_MEM_USERFAULT);
    for (unsigned long i = 0; i < PAGES; i += 2) {
        expect_userfault(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, i), 0),
                         page_gpa(&s, i));
    }

    /* Off and on again, with other bits. */
    subject_set(&vm, &s, 0);
    for (unsigned long i = 0; i < PAGES; i++) {
        expect_done(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, i), 0));
    }
    subject_set(&vm, &s, KVM_MEM_USERFAULT);
    for (unsigned long i = 1; i < PAGES; i += 2) {
        expect_userfault(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, i), 0),
                         page_gpa(&s, i));
    }
    vcpu_destroy(&vcpu);
    vm_destroy(&vm);
}

static void check_read_only_slot(void)
{
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;

    vm_create(&vm);
    subject_init(&s, 8);
    subject_set(&vm, &s, KVM_MEM_READONLY);
    vcpu_create(&vm, &vcpu, MODE_FLAT);
    for (unsigned long i = 0; i < 8; i++) {
        expect_done(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, i), 0));
        bit_set(&s, i);
    }
    subject_set(&vm, &s, KVM_MEM_READONLY | KVM_MEM_USERFAULT);
    for (unsigned long i = 0; i < 8; i++) {
        expect_userfault(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, i), 0),
                         page_gpa(&s, i));
    }
    vcpu_destroy(&vcpu);
    vm_destroy(&vm);
}

/* Half of the pages private, half shared. */
static void check_guest_memfd_slot(void)
{
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;
    int gmem;

    vm_create_typed(&vm, KVM_X86_SW_PROTECTED_VM);
    subject_init(&s, 8);
    gmem = gmem_create(&vm, &s);
    make_private(&vm, s.gpa, 4 * PAGE);
    vcpu_create(&vm, &vcpu, MODE_FLAT);
    check(!gmem_set_raw(&vm, &s, 0, gmem, 0), "guest_memfd slot");
    for (unsigned long i = 0; i < 8; i++) {
        expect_done(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, i), i));
        bit_set(&s, i);
    }
    check(!gmem_set_raw(&vm, &s, KVM_MEM_USERFAULT, gmem, 0), "flag on");
    for (unsigned long i = 0; i < 8; i++) {
        expect_userfault(vcpu_access(&vcpu, ACCESS_READ, page_gpa(&s, i), 0),
                         page_gpa(&s, i));
    }
    vcpu_destroy(&vcpu);
    close(gmem);
    vm_destroy(&vm);
}

/* A guest counter in the slot of the code, which is not filtered. */
#define COUNTER_GPA (CODE_GPA + 0x8000)

static void *loop_thread(void *arg)
{
    static struct outcome o;

    o = vcpu_run(arg);
    return &o;
}

static void kicked(int sig)
{
    (void)sig;
}

static uint32_t counter(struct vm *vm)
{
    return __atomic_load_n((uint32_t *)(vm->code + COUNTER_GPA),
                           __ATOMIC_SEQ_CST);
}

static void check_running_vcpu(void)
{
    const struct sigaction action = { .sa_handler = kicked };
    uint32_t at_return;
    struct subject s;
    struct vcpu vcpu;
    struct outcome o;
    pthread_t thread;
    struct vm vm;
    void *result;

    sigaction(SIGUSR1, &action, NULL);
    vm_create(&vm);
    subject_init(&s, 1);
    subject_set(&vm, &s, 0);
    vcpu_create(&vm, &vcpu, MODE_FLAT);
    vcpu_start_loop(&vcpu, s.gpa, COUNTER_GPA);
    check(!pthread_create(&thread, NULL, loop_thread, &vcpu), "thread");
    while (counter(&vm) < 1000) {
        usleep(1000);
    }

    bit_set(&s, 0);
    subject_set(&vm, &s, KVM_MEM_USERFAULT);
    at_return = counter(&vm);

    /* Time enough to count on, were there a mapping left. */
    usleep(200000);
    pthread_kill(thread, SIGUSR1);
    pthread_join(thread, &result);
    o = *(struct outcome *)result;
    expect_userfault(o, s.gpa);

    /* One count may follow the last read. */
    check(counter(&vm) - at_return <= 1, "%u reads after the ioctl returned",
          counter(&vm) - at_return);
    vcpu_destroy(&vcpu);
    vm_destroy(&vm);
}

int main(void)
{
    require_userfault();
    check_mapped_pages(MODE_FLAT);
    check_mapped_pages(MODE_PAGED);
    check_read_only_slot();
    if (has_gmem_vms()) {
        check_guest_memfd_slot();
    }
    for (int i = 0; i < 10; i++) {
        check_running_vcpu();
    }
    return EXIT_PASS;
}
