/*
 * KVM maps a page that has come, before the vCPU enters the guest again
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_USERFAULT_PREFAULT_H
#define ACCEL_KVM_USERFAULT_PREFAULT_H

#include "system/kvm_int.h"

/**
 * userfault_prefault_init: find out whether KVM can do it
 * @s: the accelerator
 *
 * BQL held, vCPUs not running.  Idempotent.
 */
void userfault_prefault_init(KVMState *s);

/**
 * userfault_prefault: have KVM map a page for the calling vCPU
 * @cpu: the vCPU of the calling thread
 * @gpa: an address in the page, which must be present
 * @length: from there, in bytes; pages after the first are mapped up to the
 *          first that KVM thinks absent
 *
 * A page that does not get mapped is mapped when the vCPU touches it.  vCPU
 * thread, without BQL, out of KVM_RUN because of a page fault: only then has it
 * been in the guest since it was here last.
 */
void userfault_prefault(CPUState *cpu, uint64_t gpa, uint64_t length);

/**
 * userfault_prefault_pause: before memslots change
 *
 * Returns when no vCPU is in KVM_PRE_FAULT_MEMORY, and none will be until
 * userfault_prefault_resume().  BQL held.
 */
void userfault_prefault_pause(void);

/**
 * userfault_prefault_resume: memslots have changed
 */
void userfault_prefault_resume(void);

#endif
