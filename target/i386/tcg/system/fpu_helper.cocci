// SPDX-License-Identifier: GPL-2.0-or-later
//
// Keep the FPU helpers of all CPUs off the flags of CPU 0.
//
// cpu_clear_ignne() runs on any CPU for FXRSTOR, XRSTOR, FLDENV and FNCLEX and
// changes hflags2 of first_cpu without a lock.  CPU 0 changes other bits of
// the same word itself:
//
//     CPU 1, FXRSTOR                   CPU 0
//     load hflags2 (GIF clear)
//                                      STGI: store hflags2 (GIF set)
//     store hflags2 (GIF clear)   <--  GIF is lost, CPU 0 takes no interrupt
//
// The bit is only ever set by a write to port F0h.  Looking first leaves a
// plain load on the path everybody takes.

//# rule clear_ignne_when_set places 1 -- no store to another CPU's hflags2 while IGNNE is clear
@@
typedef CPUX86State;
CPUX86State *env;
@@
- env->hflags2 &= ~HF2_IGNNE_MASK;
+ if (env->hflags2 & HF2_IGNNE_MASK) {
+     env->hflags2 &= ~HF2_IGNNE_MASK;
+ }
