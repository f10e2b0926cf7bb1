/*
 * vCPUs: threads that touch pages, in step with the main thread
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_FUZZ_VCPU_H
#define TESTS_FUZZ_VCPU_H

#include "machine.h"

#define VCPUS 3

typedef enum VcpuState {
    /* At rest: the touch has ended, or was broken by a kick */
    VCPU_IDLE,
    VCPU_RUNS,
    /* In the system call of qemu_park_sleep() */
    VCPU_SLEEPS,
} VcpuState;

/**
 * vcpus_init: make the threads, once
 */
void vcpus_init(void);

/**
 * vcpu_touch: have a vCPU touch a page
 * @number: of the vCPU
 * @as: address space
 * @gpa: guest address
 *
 * Returns false if it is in the middle of another touch.  Otherwise it runs
 * when this returns: vcpus_settle() is next, or other vCPUs and a loader.
 */
bool vcpu_touch(unsigned number, unsigned as, uint64_t gpa);

/**
 * vcpu_kick: what QEMU does to get a vCPU out of KVM_RUN
 *
 * Call vcpus_settle() next.
 */
void vcpu_kick(unsigned number);

/**
 * vcpus_settle: return when every vCPU is at rest or asleep for good
 *
 * One that is not within some seconds is a finding: it waits in a write or for
 * a lock, or has not noticed its wake-up.
 */
void vcpus_settle(void);

/**
 * vcpu_page: the page on which a vCPU sleeps
 * @number: of the vCPU
 * @offset: set to the offset of the small page in its block
 *
 * Returns the block, or NULL if the vCPU is at rest.  After vcpus_settle().
 */
RAMBlock *vcpu_page(unsigned number, uint64_t *offset);

/**
 * vcpus_asleep: how many vCPUs sleep
 */
unsigned vcpus_asleep(void);

/**
 * vcpu_prefault: KVM_PRE_FAULT_MEMORY
 * @fd: the file of a vCPU
 * @range: what to map; afterwards, what is left of it
 *
 * Fails as KVM does if the first page is absent.
 */
int vcpu_prefault(int fd, struct kvm_pre_fault_memory *range);

/**
 * vcpu_missed_exits: how many touches of absent pages did not exit
 *
 * They would have ended in userfaultfd.  Reset by reading.
 */
unsigned vcpu_missed_exits(void);

/* Whether the calling thread is a vCPU that was given a page to place */
bool vcpu_has_page(void);

#endif
