/* Does the exit come before KVM turns a missing page into an async page fault? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 12.  The subject is missing in the host, where a userfaultfd waits;
 * the vCPU has an in-kernel APIC and takes interrupts, which is all that KVM
 * needs to look for the page in a worker and to halt the vCPU meanwhile.  A
 * page whose bit is clear shows that this is what happens otherwise.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "lib.h"

#define PAGES 16

static void kicked(int sig)
{
    (void)sig;
}

static void *read_page_1(void *vcpu)
{
    static struct outcome o;

    o = vcpu_access(vcpu, ACCESS_READ, SUBJECT_GPA + PAGE, 0);
    return &o;
}

struct kick {
    pthread_t vcpu;
    bool stop;
};

/* A vCPU that halts for a page that never comes is taken out of KVM_RUN. */
static void *kick_thread(void *arg)
{
    struct kick *kick = arg;

    for (int i = 0; i < 50 && !__atomic_load_n(&kick->stop, __ATOMIC_ACQUIRE);
         i++) {
        usleep(100000);
    }
    while (!__atomic_load_n(&kick->stop, __ATOMIC_ACQUIRE)) {
        pthread_kill(kick->vcpu, SIGUSR1);
        usleep(10000);
    }
    return NULL;
}

static struct outcome access_with_kick(struct vcpu *vcpu, uint64_t gpa)
{
    struct kick kick = { .vcpu = pthread_self() };
    struct outcome o;
    pthread_t thread;

    check(!pthread_create(&thread, NULL, kick_thread, &kick), "thread");
    o = vcpu_access(vcpu, ACCESS_READ, gpa, 0);
    __atomic_store_n(&kick.stop, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    return o;
}

int main(void)
{
    const struct sigaction action = { .sa_handler = kicked };
    struct subject s;
    struct vcpu vcpu;
    struct outcome o;
    pthread_t thread;
    uint8_t *fault;
    struct vm vm;
    void *result;
    int uffd;

    require_userfault();
    sigaction(SIGUSR1, &action, NULL);
    vm_create(&vm);
    if (ioctl(vm.fd, KVM_CREATE_IRQCHIP, NULL)) {
        skip("no in-kernel APIC: %s", strerror(errno));
    }
    subject_init(&s, PAGES);
    for (unsigned long i = 0; i < PAGES; i++) {
        if (i != 1) {
            bit_set(&s, i);
        }
    }
    uffd = uffd_register(s.mem, PAGES * PAGE);
    subject_set(&vm, &s, KVM_MEM_USERFAULT);
    vcpu_create(&vm, &vcpu, MODE_FLAT);
    vcpu.irqs_on = true;

    for (unsigned long page = 4; page < PAGES; page++) {
        expect_userfault(access_with_kick(&vcpu, page_gpa(&s, page)),
                         page_gpa(&s, page));
        fault = uffd_wait(uffd, 50);
        check(!fault, "KVM looked for the page at %p", (void *)fault);
    }

    check(!pthread_create(&thread, NULL, read_page_1, &vcpu), "thread");
    fault = uffd_wait(uffd, 20000);
    check(fault == page_mem(&s, 1), "nobody looked for a page with a clear bit");
    uffd_place(uffd, fault, 0x66);
    pthread_join(thread, &result);
    o = *(struct outcome *)result;
    expect_done(o);
    check(o.value == 0x66, "%s", outcome_text(o));
    return EXIT_PASS;
}
