/*
 * KVM userfault: vCPU page faults as exits from KVM_RUN
 *
 * The KVM side of demand paging.  Knows memslots and their bitmaps; does not
 * know where pages come from.  The one user is the postcopy service in
 * migration/, which registers itself with kvm_userfault_start().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_KVM_USERFAULT_H
#define QEMU_KVM_USERFAULT_H

#include "exec/cpu-common.h"
#include "qapi/qapi-types-common.h"
#include "qemu/park.h"

typedef enum KVMUserfaultResult {
    KVM_USERFAULT_RETRY,        /* the page is there: run the vCPU again */
    KVM_USERFAULT_INTERRUPTED,  /* the park word was kicked: leave KVM_RUN's
                                   loop, the vCPU will fault again */
} KVMUserfaultResult;

typedef struct KVMUserfaultBlock {
    void *cookie;                   /* handed to KVMUserfaultOps.fault() */
    uint64_t length;                /* pages beyond are never absent; bytes */
    const unsigned long *present;   /* a bit for each small host page; only
                                       ever set while the service runs, and
                                       before kvm_userfault_pages_present() */
} KVMUserfaultBlock;

/* What the user of userfault exits provides; @opaque is kvm_userfault_start's. */
typedef struct KVMUserfaultOps {
    /*
     * Fill in @info for @rb and return true, or return false to leave the
     * block alone (its pages are all there, or others look after them).
     * BQL held.
     */
    bool (*block)(void *opaque, RAMBlock *rb, KVMUserfaultBlock *info);
    /*
     * A vCPU has left KVM_RUN because of the small host page at @offset.
     * vCPU thread, without BQL and without RCU read lock; may sleep on @park,
     * and must return when it is kicked.
     */
    KVMUserfaultResult (*fault)(void *opaque, int cpu_index, void *cookie,
                                uint64_t offset, QemuPark *park);
} KVMUserfaultOps;

/**
 * kvm_userfault_policy: what the user asked for
 *
 * Returns the value of "-accel kvm,userfault=", or auto without KVM.
 */
OnOffAuto kvm_userfault_policy(void);

/**
 * kvm_userfault_supported: whether this kernel can do it
 * @errp: the reason if not
 *
 * Found out by trying, once, with a virtual machine of one page that is
 * deleted at once; no capability number decides.  BQL held.
 */
bool kvm_userfault_supported(Error **errp);

/**
 * kvm_userfault_start: make vCPUs exit on absent pages
 * @ops: the callbacks, static storage
 * @opaque: for @ops
 * @errp: what went wrong; everything is then as before
 *
 * Takes effect on all memslots that exist, in all address spaces, and on
 * those made until kvm_userfault_stop().  BQL held, vCPUs not running.
 */
bool kvm_userfault_start(const KVMUserfaultOps *ops, void *opaque,
                         Error **errp);

/**
 * kvm_userfault_stop: back to normal page faults
 *
 * Every page must be present, or be served by userfaultfd.  Afterwards no
 * vCPU begins to call ops->fault(); those inside must be waited for by the
 * caller.  Idempotent.  BQL held.
 */
void kvm_userfault_stop(void);

/**
 * kvm_userfault_active: whether userfault exits may happen
 */
bool kvm_userfault_active(void);

/**
 * kvm_userfault_pages_present: let vCPUs access pages
 * @rb: the block
 * @offset: byte offset of the first page
 * @length: in bytes
 *
 * Clears the bits in all memslots that map the pages, with release semantics:
 * their content, and their bits in KVMUserfaultBlock.present, must be in place.  Any
 * thread that is registered with RCU.
 */
void kvm_userfault_pages_present(RAMBlock *rb, uint64_t offset,
                                 uint64_t length);

#endif
