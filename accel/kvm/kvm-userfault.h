/*
 * KVM userfault: what the rest of accel/kvm calls
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef ACCEL_KVM_KVM_USERFAULT_H
#define ACCEL_KVM_KVM_USERFAULT_H

#include "system/kvm_int.h"
#include "system/kvm-userfault.h"

/**
 * kvm_userfault_class_init: add properties to the accelerator
 * @oc: the class of the KVM accelerator
 *
 * userfault is the policy, userfault-supported and userfault-reason what this
 * kernel can do.  At run time they are found at /machine/kvm-accel.
 */
void kvm_userfault_class_init(ObjectClass *oc);

/**
 * kvm_userfault_init: check the policy against the kernel
 * @s: the accelerator, its device open
 *
 * The machine exists; the accelerator becomes its child.
 * Returns 0, or -ENOTSUP after a report if userfault=on cannot be had.
 */
int kvm_userfault_init(KVMState *s);

/**
 * kvm_userfault_set_region: KVM_SET_USER_MEMORY_REGION or ..._REGION2
 * @s: the accelerator
 * @slot: the slot
 * @mem: what to tell KVM, without userfault; the fields for guest_memfd and
 *       the padding need not be set if @region2 is false
 * @region2: whether to use ..._REGION2 while userfault is not in use
 *
 * While userfault is in use this is where slots that come get their bitmap,
 * slots that stay keep it and slots that go lose it.
 * Returns 0 or -errno.  Called with the slots lock and the BQL held.
 */
int kvm_userfault_set_region(KVMState *s, const KVMSlot *slot,
                             const struct kvm_userspace_memory_region2 *mem,
                             bool region2);

/**
 * kvm_userfault_is_exit: whether a memory-fault exit is ours
 * @run: of a vCPU that has left KVM_RUN with KVM_EXIT_MEMORY_FAULT
 */
bool kvm_userfault_is_exit(const struct kvm_run *run);

/**
 * kvm_userfault_handle_exit: get the page the vCPU needs
 * @cpu: the vCPU of the calling thread
 * @run: its kvm_run
 * @attrs: of the vCPU's memory accesses, from kvm_arch_post_run()
 *
 * Sleeps until the page is there or somebody kicks the vCPU.  Returns 0 to run
 * the vCPU again or EXCP_INTERRUPT to leave KVM_RUN's loop.  vCPU thread,
 * without BQL, between cpu_exec_start() and cpu_exec_end().
 */
int kvm_userfault_handle_exit(CPUState *cpu, struct kvm_run *run,
                              MemTxAttrs attrs);

/**
 * kvm_userfault_kick: end a sleep in kvm_userfault_handle_exit()
 *
 * Called by the handler of the kick signal on the vCPU's own thread, after it
 * has set kvm_run's immediate_exit.  Async-signal-safe.
 */
void kvm_userfault_kick(void);

/**
 * kvm_userfault_probe: try the feature out
 * @kvm_fd: the open KVM device
 * @errp: what does not work
 */
bool kvm_userfault_probe(int kvm_fd, Error **errp);

#endif
