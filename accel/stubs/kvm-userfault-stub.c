/*
 * KVM userfault, in an emulator that is built without KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "system/kvm-userfault.h"

OnOffAuto kvm_userfault_policy(void)
{
    return ON_OFF_AUTO_AUTO;
}

bool kvm_userfault_supported(Error **errp)
{
    error_setg(errp, "this emulator is built without KVM");
    return false;
}

bool kvm_userfault_start(const KVMUserfaultOps *ops, void *opaque,
                         Error **errp)
{
    return kvm_userfault_supported(errp);
}

void kvm_userfault_stop(void)
{
}

bool kvm_userfault_active(void)
{
    return false;
}

void kvm_userfault_pages_present(RAMBlock *rb, uint64_t offset,
                                 uint64_t length)
{
}
