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
    /* Run the vCPU again, which may come back for the same page. */
    KVM_USERFAULT_RETRY,
    /* The page is there, for QEMU too: run the vCPU again. */
    KVM_USERFAULT_PRESENT,
    /* The park word was kicked: leave KVM_RUN's loop, to fault again later. */
    KVM_USERFAULT_INTERRUPTED,
} KVMUserfaultResult;

typedef struct KVMUserfaultBlock {
    /* Handed to KVMUserfaultOps.fault() */
    void *cookie;
    /* In bytes; pages beyond are never absent. */
    uint64_t length;
    /*
     * A bit for each small host page.  While userfault is in use bits are only
     * ever set, and that before kvm_userfault_pages_present().
     */
    const unsigned long *present;
} KVMUserfaultBlock;

/* What the user of exits provides; @opaque is kvm_userfault_start()'s. */
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
     * and must return when it is kicked.  If it is 0, @ahead may be set to how
     * many bytes after that page are there and soon to be touched.
     */
    KVMUserfaultResult (*fault)(void *opaque, int cpu_index, void *cookie,
                                uint64_t offset, QemuPark *park,
                                uint64_t *ahead);
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
 * the content of the pages must be in place, and their bits set in
 * KVMUserfaultBlock.present.  Any thread that is registered with RCU.
 */
void kvm_userfault_pages_present(RAMBlock *rb, uint64_t offset,
                                 uint64_t length);

#endif
