// SPDX-License-Identifier: GPL-2.0-or-later
//
// Change interrupt_request under the big QEMU lock only.
//
// Every other thread that raises or lowers an interrupt of this CPU does a
// plain read-modify-write under the lock.  VMRUN runs without it:
//
//     I/O thread (holds the lock)      vCPU, VMRUN
//                                      load interrupt_request
//     cpu_interrupt(HARD)
//                                      store it | VIRQ   <--  HARD is lost
//
// An atomic operation here would not do: the plain ones elsewhere would still
// overwrite its result.  do_vmexit() is reached through do_interrupt() alone,
// which holds the lock; that is asserted, so that it stays true.
//
// From 10.2 on all of them are atomic and nothing is to be done.

//# rule include_main_loop places 0 1[10.0] -- for bql_lock()
@@
@@
  #include "qemu/log.h"
+ #include "qemu/main-loop.h"

//# rule vmrun_takes_bql places 0 2[10.0] -- helper_vmrun() runs outside the lock
@@
typedef CPUState;
CPUState *cs;
@@
+ bql_lock();
  cs->interrupt_request |= CPU_INTERRUPT_VIRQ;
+ bql_unlock();

//# rule vmexit_has_bql places 0 1[10.0] -- the caller's lock protects the store
@@
typedef CPUState;
CPUState *cs;
@@
+ g_assert(bql_locked());
  cs->interrupt_request &= ~CPU_INTERRUPT_VIRQ;
