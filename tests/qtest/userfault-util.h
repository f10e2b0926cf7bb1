/*
 * What the machine can do, for the tests of KVM userfault
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_USERFAULT_UTIL_H
#define TESTS_QTEST_USERFAULT_UTIL_H

/*
 * The range that the guest of QEMU's migration tests writes, which
 * migrate_end() checks; defined beside it, without a declaration.
 */
extern unsigned start_address;
extern unsigned end_address;

/* The flag is unknown: a kernel without the feature */
#define BREAK_ALL "255"
/* A cleared bit goes unnoticed: the flag is known, but no page would arrive */
#define BREAK_CLEARING "7"

/* Limits are stretched where the machine is slow, say emulated. */
int64_t scaled_us(int seconds);

/* Run QEMU with @options; returns its exit code, 124 if it did not end. */
int run_qemu(const char *options, char **said);

/* Whether KVM of this machine has userfault; if not, the test is skipped. */
bool have_userfault(void);

/*
 * Until unhide_userfault(), KVM of this machine has no userfault that works.
 * @how: BREAK_ALL or BREAK_CLEARING.  If it cannot, the test is skipped.
 */
bool hide_userfault(const char *how);
void unhide_userfault(void);

/* Add the tests of userfault-policy.c. */
void userfault_policy_tests_add(bool has_kvm);

#endif
