# SPDX-License-Identifier: GPL-2.0-or-later
"""Does this machine's own KVM keep the promise of userfault?

Found out by trying: a virtual machine of one page of code, whose memslot
carries a userfault bitmap, must leave KVM_RUN with a memory-fault exit for
exactly that page, and must run the code once the bit is clear.  Neither the
existence of /dev/kvm nor the number of a capability says anything: a KVM may
create virtual machines that it cannot run, and the number is not stable.
"""

import ctypes
import fcntl
import mmap
import os
import struct

PAGE = 4096
KVM_CREATE_VM = 0xae01
KVM_GET_VCPU_MMAP_SIZE = 0xae04
KVM_CREATE_VCPU = 0xae41
KVM_SET_USER_MEMORY_REGION2 = 0x40a0ae49
KVM_RUN = 0xae80
KVM_SET_REGS = 0x4090ae82
KVM_GET_SREGS = 0x8138ae83
KVM_SET_SREGS = 0x4138ae84

KVM_MEM_USERFAULT = 1 << 3
KVM_EXIT_HLT = 5
KVM_EXIT_MEMORY_FAULT = 39
KVM_MEMORY_EXIT_FLAG_USERFAULT = 1 << 4

# offsets in struct kvm_run
EXIT_REASON = 8
MEMORY_FAULT = 32

CODE_GPA = 0x1000
HLT = b'\xf4'


def _address(buffer):
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _run(vcpu, run):
    """Enter the guest once; the reason why it left."""
    try:
        fcntl.ioctl(vcpu, KVM_RUN, 0)
    except OSError:
        # The exit asked about comes with EFAULT; the reason says the rest.
        pass
    return struct.unpack_from('I', run, EXIT_REASON)[0]


def _set_real_mode(vcpu):
    sregs = bytearray(312)
    fcntl.ioctl(vcpu, KVM_GET_SREGS, sregs)
    # struct kvm_segment cs is the first member: base 0, selector 0
    struct.pack_into('Q', sregs, 0, 0)
    struct.pack_into('H', sregs, 12, 0)
    fcntl.ioctl(vcpu, KVM_SET_SREGS, bytes(sregs))
    regs = bytearray(144)
    struct.pack_into('QQ', regs, 128, CODE_GPA, 2)      # rip, rflags
    fcntl.ioctl(vcpu, KVM_SET_REGS, bytes(regs))


def _try(kvm, files):
    vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
    files.append(vm)
    memory = mmap.mmap(-1, PAGE)
    memory[:1] = HLT
    bitmap = mmap.mmap(-1, PAGE)
    bitmap[0] = 1
    region = bytearray(160)
    # slot, flags, guest address, size, user address,
    # guest_memfd offset, guest_memfd and padding, userfault bitmap
    struct.pack_into('IIQQQQIIQ', region, 0, 0, KVM_MEM_USERFAULT, CODE_GPA,
                     PAGE, _address(memory), 0, 0, 0, _address(bitmap))
    fcntl.ioctl(vm, KVM_SET_USER_MEMORY_REGION2, bytes(region))

    vcpu = fcntl.ioctl(vm, KVM_CREATE_VCPU, 0)
    files.append(vcpu)
    size = fcntl.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)
    run = mmap.mmap(vcpu, size)
    _set_real_mode(vcpu)

    reason = _run(vcpu, run)
    flags, gpa, size = struct.unpack_from('QQQ', run, MEMORY_FAULT)
    if reason != KVM_EXIT_MEMORY_FAULT:
        return False, f'KVM_RUN left with reason {reason} instead of a fault'
    if not flags & KVM_MEMORY_EXIT_FLAG_USERFAULT or gpa != CODE_GPA:
        return False, f'the fault has flags {flags:#x} at {gpa:#x}'

    bitmap[0] = 0
    reason = _run(vcpu, run)
    if reason != KVM_EXIT_HLT:
        return False, f'with the bit clear KVM_RUN left with reason {reason}'
    return True, 'userfault works'


def probe_userfault(device='/dev/kvm'):
    """(True or False, why), by running a virtual machine."""
    files = []
    try:
        kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        files.append(kvm)
        return _try(kvm, files)
    except OSError as error:
        return False, f'{device}: {error.strerror}'
    finally:
        for fd in reversed(files):
            os.close(fd)
