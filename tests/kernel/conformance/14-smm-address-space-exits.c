/* Are the slots of system management mode filtered by their own bitmap? */
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise 14.  The two address spaces have the same page at the same address,
 * with the bit set in one of them: the exit depends on where the vCPU is.
 */
#include <sys/ioctl.h>

#include "lib.h"

#define PAGES 16
#define SMRAM_GPA 0x30000UL
#define SMRAM_SIZE 0x10000UL
#define SMI_ENTRY 0x8000
/* Reachable with a 16-bit segment. */
#define LOW_GPA 0x80000UL

/* Entry of SMM, real mode: read the first byte of a page, report it. */
static void write_smi_handler(uint8_t *smram, uint64_t gpa)
{
    const uint16_t segment = gpa >> 4;
    const uint8_t code[] = {
        0xb8, segment & 0xff, segment >> 8, /* mov $segment, %ax */
        0x8e, 0xd8,                         /* mov %ax, %ds */
        0xa0, 0x00, 0x00,                   /* mov 0, %al */
        0xe6, DONE_PORT,                    /* out %al, $DONE_PORT */
        0xf4,                               /* hlt */
    };

    memcpy(smram + SMI_ENTRY, code, sizeof(code));
}

static void add_smram(struct vm *vm, uint32_t slot, uint8_t *smram)
{
    struct region2 region = {
        .slot = slot,
        .guest_phys_addr = SMRAM_GPA,
        .memory_size = SMRAM_SIZE,
        .userspace_addr = (uintptr_t)smram,
    };
    int ret = region2_raw(vm, &region);

    check(!ret, "slot of SMRAM: %s", strerror(-ret));
}

static void check_smm(bool set_in_smm)
{
    uint8_t *smram = alloc_pages(SMRAM_SIZE / PAGE);
    struct subject normal, smm;
    struct outcome o;
    struct vcpu vcpu;
    struct vm vm;

    vm_create(&vm);
    if (ioctl(vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_MULTI_ADDRESS_SPACE) < 2) {
        skip("kernel has no address space for SMM");
    }
    subject_init(&normal, PAGES);
    subject_init(&smm, PAGES);
    normal.gpa = smm.gpa = LOW_GPA;
    smm.mem = normal.mem;
    smm.slot |= SMM_SLOTS;
    normal.mem[0] = 0x99;
    bit_set(set_in_smm ? &smm : &normal, 0);

    write_smi_handler(smram, LOW_GPA);
    add_smram(&vm, EXTRA_SLOT, smram);
    add_smram(&vm, EXTRA_SLOT | SMM_SLOTS, smram);
    subject_set(&vm, &normal, KVM_MEM_USERFAULT);
    subject_set(&vm, &smm, KVM_MEM_USERFAULT);
    vcpu_create(&vm, &vcpu, MODE_FLAT);

    o = vcpu_access(&vcpu, ACCESS_READ, LOW_GPA, 0);
    if (set_in_smm) {
        expect_done(o);
    } else {
        expect_userfault(o, LOW_GPA);
    }

    if (ioctl(vcpu.fd, KVM_SMI, NULL)) {
        skip("no SMM: %s", strerror(errno));
    }
    o = vcpu_run(&vcpu);
    if (set_in_smm) {
        expect_userfault(o, LOW_GPA);
        check(vcpu.run->flags & KVM_RUN_X86_SMM, "the vCPU is not in SMM");
        bit_clear(&smm, 0);
        o = vcpu_run_patient(&vcpu, &smm);
    }
    expect_done(o);
    check(o.value == 0x99, "%s", outcome_text(o));
    vcpu_destroy(&vcpu);
    vm_destroy(&vm);
}

int main(void)
{
    require_userfault();
    check_smm(false);
    check_smm(true);
    return EXIT_PASS;
}
