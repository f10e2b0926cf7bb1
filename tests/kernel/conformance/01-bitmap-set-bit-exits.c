/* Does a vCPU leave KVM_RUN exactly on the pages whose bit is set? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 1.  Reads, writes and instruction fetches; with and without guest
 * paging; pages in several words of the bitmap, beside pages whose bit is
 * clear and which KVM may be tempted to map together with their neighbours.
 */
#include "lib.h"

#define PAGES 200

static const unsigned long set_pages[] = { 1, 2, 9, 63, 65, 127, 128, 199 };
static const unsigned long clear_pages[] = { 0, 3, 8, 62, 64, 66, 126, 198 };

static void fill(const struct subject *s)
{
    for (unsigned long i = 0; i < s->pages; i++) {
        const uint8_t code[] = { 0xb0, i, 0xc3 };   /* mov $i, %al; ret */

        memcpy(page_mem(s, i), code, sizeof(code));
    }
}

static uint8_t wanted_value(enum access access, unsigned long page)
{
    const uint8_t first_byte_of_code = 0xb0;

    return access == ACCESS_EXEC ? page :
           access == ACCESS_READ ? first_byte_of_code : 0x77;
}

static void check_clear(struct vcpu *vcpu, const struct subject *s,
                        enum access access, unsigned long page)
{
    struct outcome o = vcpu_access(vcpu, access, page_gpa(s, page), 0x77);

    expect_done(o);
    check(o.value == wanted_value(access, page), "page %lu: %s", page,
          outcome_text(o));
    check(access != ACCESS_WRITE || page_mem(s, page)[0] == 0x77,
          "page %lu was not written", page);
}

static void check_set(struct vcpu *vcpu, const struct subject *s,
                      enum access access, unsigned long page)
{
    /* Not at the beginning of the page: the exit names the page. */
    uint64_t gpa = page_gpa(s, page) + (access == ACCESS_EXEC ? 0 : 0x123);
    struct outcome o = vcpu_access(vcpu, access, gpa, 0x77);

    expect_userfault(o, page_gpa(s, page));
    check(o.fault.flags == KVM_MEMORY_EXIT_FLAG_USERFAULT, "%s",
          outcome_text(o));
    check(page_mem(s, page)[0x123] == 0, "page %lu was written", page);
}

static void check_mode(enum mode mode, enum access access)
{
    const size_t n = sizeof(set_pages) / sizeof(set_pages[0]);
    struct subject s;
    struct vcpu vcpu;
    struct vm vm;

    vm_create(&vm);
    subject_init(&s, PAGES);
    fill(&s);
    for (size_t i = 0; i < n; i++) {
        bit_set(&s, set_pages[i]);
    }
    subject_set(&vm, &s, KVM_MEM_USERFAULT);
    vcpu_create(&vm, &vcpu, mode);

    for (size_t i = 0; i < n; i++) {
        check_clear(&vcpu, &s, access, clear_pages[i]);
        check_set(&vcpu, &s, access, set_pages[i]);
    }
    vcpu_destroy(&vcpu);
    vm_destroy(&vm);
}

int main(void)
{
    require_userfault();
    for (int access = ACCESS_READ; access <= ACCESS_EXEC; access++) {
        check_mode(MODE_FLAT, access);
        check_mode(MODE_PAGED, access);
    }
    return EXIT_PASS;
}
