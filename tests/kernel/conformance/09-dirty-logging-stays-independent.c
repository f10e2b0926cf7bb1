/* Do dirty logging and userfault work on one slot, whichever is switched when? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 9.  Each flag is switched while the other is on; pages exit by the
 * bitmap and are logged by the writes, all the time.  The runner looks at the
 * kernel log for warnings, which is how one known mistake shows: switching
 * userfault off, dirty logging still on, over huge pages.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "lib.h"

#define PAGES 32
#define LOG KVM_MEM_LOG_DIRTY_PAGES
#define UF KVM_MEM_USERFAULT

/* The pages written since the last call. */
static unsigned long dirty_pages(struct vm *vm, const struct subject *s)
{
    unsigned long dirty = 0;
    struct kvm_dirty_log log = { .slot = s->slot, .dirty_bitmap = &dirty };
    int ret = vm_ioctl_raw(vm, KVM_GET_DIRTY_LOG, &log);

    check(!ret, "KVM_GET_DIRTY_LOG: %s", strerror(-ret));
    return dirty;
}

/* Page set_page exits, clear_page is written, and logged if log is on. */
static void check_both(struct vm *vm, struct vcpu *vcpu,
                       const struct subject *s, unsigned long set_page,
                       unsigned long clear_page, uint32_t flags)
{
    struct outcome o;

    o = vcpu_access(vcpu, ACCESS_WRITE, page_gpa(s, set_page), 1);
    if (flags & UF) {
        expect_userfault(o, page_gpa(s, set_page));
    } else {
        expect_done(o);
    }
    expect_done(vcpu_access(vcpu, ACCESS_WRITE, page_gpa(s, clear_page), 1));

    if (flags & LOG) {
        unsigned long wanted = 1UL << clear_page |
                               (flags & UF ? 0 : 1UL << set_page);
        unsigned long dirty = dirty_pages(vm, s);

        check(dirty == wanted, "flags 0x%x: dirty pages 0x%lx, not 0x%lx",
              flags, dirty, wanted);
    }
}

static void check_switching(enum mode mode)
{
    static const uint32_t steps[] = {
        UF, UF | LOG, UF, UF | LOG, LOG, UF | LOG, 0, UF | LOG, 0, LOG,
        UF | LOG, UF, LOG, UF,
    };
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;

    vm_create(&vm);
    subject_init(&s, PAGES);
    vcpu_create(&vm, &vcpu, mode);
    for (unsigned long i = 0; i < PAGES; i += 2) {
        bit_set(&s, i);
    }
    subject_set(&vm, &s, 0);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        subject_set(&vm, &s, steps[i]);
        check_both(&vm, &vcpu, &s, 2 * i, 2 * i + 1, steps[i]);
    }
    vcpu_destroy(&vcpu);
    vm_destroy(&vm);
}

/* What was logged before userfault is switched is there after it. */
static void check_log_survives(void)
{
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;

    vm_create(&vm);
    subject_init(&s, PAGES);
    vcpu_create(&vm, &vcpu, MODE_FLAT);
    subject_set(&vm, &s, LOG);
    expect_done(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, 5), 1));
    subject_set(&vm, &s, LOG | UF);
    expect_done(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, 6), 1));
    subject_set(&vm, &s, LOG);
    check(dirty_pages(&vm, &s) == (1 << 5 | 1 << 6), "pages 5 and 6 are dirty");
    vcpu_destroy(&vcpu);
    vm_destroy(&vm);
}

static void check_huge_pages(void)
{
    unsigned long pages = HUGE_PAGE / PAGE;
    uint8_t *mem = alloc_pages(2 * pages);
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;

    vm_create(&vm);
    subject_init(&s, pages);
    s.mem = (uint8_t *)(((uintptr_t)mem + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    madvise(s.mem, HUGE_PAGE, MADV_HUGEPAGE);
    memset(s.mem, 1, HUGE_PAGE);
    vcpu_create(&vm, &vcpu, MODE_FLAT);
    for (uint32_t flags = 0; flags < 8; flags++) {
        subject_set(&vm, &s, LOG | UF);
        expect_done(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, flags), 1));
        subject_set(&vm, &s, LOG);
        expect_done(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, flags), 1));
        subject_set(&vm, &s, flags & 1 ? 0 : UF);
        expect_done(vcpu_access(&vcpu, ACCESS_WRITE, page_gpa(&s, flags), 1));
    }
    vcpu_destroy(&vcpu);
    vm_destroy(&vm);
}

int main(void)
{
    require_userfault();
    check_switching(MODE_FLAT);
    check_switching(MODE_PAGED);
    check_log_survives();
    check_huge_pages();
    return EXIT_PASS;
}
