/*
 * -accel NAME,help
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/accel.h"
#include "qemu/option.h"
#include "qom/object.h"
#include "system/accel-help.h"

bool accel_print_help(QemuOpts *opts)
{
    const char *name = opts ? qemu_opt_get(opts, "accel") : NULL;
    g_autofree char *type = NULL;

    if (!name || !qemu_opt_has_help_opt(opts)) {
        return false;
    }
    type = g_strconcat(name, ACCEL_CLASS_SUFFIX, NULL);
    return object_class_by_name(type) && type_print_class_properties(type);
}
