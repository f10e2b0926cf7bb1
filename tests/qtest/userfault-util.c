/*
 * What the machine can do, for the tests of KVM userfault
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "userfault-util.h"

#define BREAK_PARAMETER "/sys/module/kvm/parameters/userfault_break"

int64_t scaled_us(int seconds)
{
    const char *speed = getenv("USERFAULT_SPEED");
    double factor = speed ? g_ascii_strtod(speed, NULL) : 1.0;

    return seconds * MAX(factor, 1.0) * G_USEC_PER_SEC;
}

int run_qemu(const char *options, char **said)
{
    g_autofree char *command = NULL;
    g_autofree char *quoted = NULL;
    int status;

    command = g_strdup_printf("echo quit | timeout -k 5 %d %s -nodefaults "
                              "-display none -monitor stdio %s 2>&1",
                              (int)(scaled_us(30) / G_USEC_PER_SEC),
                              getenv("QTEST_QEMU_BINARY"), options);
    quoted = g_strdup_printf("/bin/bash -o pipefail -c '%s'", command);
    g_assert(g_spawn_command_line_sync(quoted, said, NULL, &status, NULL));
    g_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

bool have_userfault(void)
{
    static int have = -1;

    if (have < 0) {
        g_autofree char *said = NULL;

        have = !run_qemu("-machine none -accel kvm,userfault=on", &said);
        g_test_message("kvm,userfault=on: %s", said);
    }
    if (!have) {
        /* Somebody else found that it has: then QEMU is wrong. */
        g_assert_null(getenv("USERFAULT_EXPECTED"));
        g_test_skip("KVM has no userfault here");
    }
    return have;
}

static bool write_parameter(const char *value)
{
    FILE *f = fopen(BREAK_PARAMETER, "w");
    bool ok = f && fputs(value, f) >= 0;

    return f && fclose(f) == 0 && ok;
}

static void show_userfault(void *unused)
{
    write_parameter("0");
}

bool hide_userfault(const char *how)
{
    if (!write_parameter(how)) {
        g_test_skip("this kernel cannot be made to lack KVM userfault");
        return false;
    }
    qtest_add_abrt_handler(show_userfault, BREAK_PARAMETER);
    return true;
}

void unhide_userfault(void)
{
    qtest_remove_abrt_handler((void *)BREAK_PARAMETER);
    show_userfault(NULL);
}
