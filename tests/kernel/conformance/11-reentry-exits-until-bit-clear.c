/* May userspace enter again after any exit: never too early through, never stuck? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 11.  An exit leaves nothing behind in KVM: as long as the bit is set
 * the same access exits again; an exit whose bit was cleared in between (a
 * spurious one) is entered again and goes through, with the page's content.
 */
#include <pthread.h>

#include "lib.h"

#define PAGES 64
#define VCPUS 2
#define ROUNDS 10
#define NOT_FILLED 0xee

/* mov $value, %al; ret */
static void fill(const struct subject *s, unsigned long page, uint8_t value)
{
    const uint8_t code[] = { 0xb0, value, 0xc3 };

    memcpy(page_mem(s, page), code, sizeof(code));
}

static void setup(struct vm *vm, struct subject *s, struct vcpu *vcpus)
{
    vm_create(vm);
    subject_init(s, PAGES);
    memset(s->bitmap, 0xff, PAGES / 8);
    for (unsigned long i = 0; i < PAGES; i++) {
        fill(s, i, NOT_FILLED);
    }
    subject_set(vm, s, KVM_MEM_USERFAULT);
    for (int i = 0; i < VCPUS; i++) {
        vcpu_create(vm, &vcpus[i], MODE_FLAT);
    }
}

static void teardown(struct vm *vm, struct vcpu *vcpus)
{
    for (int i = 0; i < VCPUS; i++) {
        vcpu_destroy(&vcpus[i]);
    }
    vm_destroy(vm);
}

static void check_exits_again(void)
{
    struct vcpu vcpus[VCPUS];
    struct subject s;
    struct outcome o;
    struct vm vm;

    setup(&vm, &s, vcpus);
    for (unsigned long page = 0; page < 8; page++) {
        vcpu_start(&vcpus[0], ACCESS_EXEC, page_gpa(&s, page), 0);
        for (int i = 0; i < 10; i++) {
            expect_userfault(vcpu_run(&vcpus[0]), page_gpa(&s, page));
        }
        fill(&s, page, page);
        bit_clear(&s, page);
        o = vcpu_run_patient(&vcpus[0], &s);
        expect_done(o);
        check(o.value == page, "page %lu: %s", page, outcome_text(o));
    }
    teardown(&vm, vcpus);
}

struct racer {
    pthread_t thread;
    struct vcpu *vcpu;
    const struct subject *s;
    unsigned long exits;
    unsigned long spurious;
};

/* Enters until it is through, without asking whether that makes sense. */
static void *racer_thread(void *arg)
{
    struct racer *r = arg;

    for (unsigned long page = 0; page < PAGES; page++) {
        struct outcome o;

        vcpu_start(r->vcpu, ACCESS_EXEC, page_gpa(r->s, page), 0);
        while (o = vcpu_run(r->vcpu), o.kind == USERFAULT) {
            check(o.fault.gpa == page_gpa(r->s, page), "%s", outcome_text(o));
            r->exits++;
            r->spurious += !bit_test(r->s, page);
        }
        expect_done(o);
        check(o.value == page, "page %lu came before its content: %s", page,
              outcome_text(o));
    }
    return NULL;
}

static void check_race(struct racer *racers)
{
    struct vcpu vcpus[VCPUS];
    struct subject s;
    struct vm vm;

    setup(&vm, &s, vcpus);
    for (int i = 0; i < VCPUS; i++) {
        racers[i].vcpu = &vcpus[i];
        racers[i].s = &s;
        check(!pthread_create(&racers[i].thread, NULL, racer_thread,
                              &racers[i]), "thread");
    }
    for (unsigned long page = 0; page < PAGES; page++) {
        usleep(page * 37 % 300);
        fill(&s, page, page);
        bit_clear(&s, page);
    }
    for (int i = 0; i < VCPUS; i++) {
        pthread_join(racers[i].thread, NULL);
    }
    teardown(&vm, vcpus);
}

int main(void)
{
    struct racer racers[VCPUS] = { { 0 } };

    require_userfault();
    check_exits_again();
    for (int round = 0; round < ROUNDS; round++) {
        check_race(racers);
    }
    printf("%lu exits, of them %lu spurious\n",
           racers[0].exits + racers[1].exits,
           racers[0].spurious + racers[1].spurious);
    check(racers[0].exits + racers[1].exits > PAGES, "no race took place");
    return EXIT_PASS;
}
