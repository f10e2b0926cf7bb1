/*
 * -accel NAME,help
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_ACCEL_HELP_H
#define SYSTEM_ACCEL_HELP_H

#include "qemu/option.h"

/**
 * accel_print_help: print an accelerator's properties, if asked to
 * @opts: one -accel option, or NULL
 *
 * Returns whether @opts names an accelerator of this emulator and asks for
 * help; its properties are then on stdout.  Main thread, at start.
 */
bool accel_print_help(QemuOpts *opts);

#endif
