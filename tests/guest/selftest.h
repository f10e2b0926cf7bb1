/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef GUEST_SELFTEST_H
#define GUEST_SELFTEST_H

/*
 * Does the checker of the migration guest notice every kind of damage that a
 * faulty migration could do?  Prints one line per question, in TAP.
 * Returns the process exit status.
 */
int selftest(void);

#endif
