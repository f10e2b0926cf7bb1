/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The line protocol of the migration guest.
 *
 * Guest to harness: one line per message, "NAME key=value ... *hh", where hh
 * is the xor of all bytes before the blank and the star, so that a line cut
 * in two by the switchover, or mixed with another one, cannot be mistaken
 * for a value.  Harness to guest: single bytes.
 *
 * Messages
 *   ready    threads pages seed slow_ns
 *   beat     n ms verified passes since errors slow max_ns
 *   chore    name done errors what detail (chore.h), after each beat
 *   note     name, and what the chore has to say; once
 *   mark     n ms verified, at the moment the command was obeyed
 *   error    thread page word generation expected got
 *   report   n ms verified passes since errors slow backwards gap_ms step_us,
 *            then any number of "hist" lines with bucket:count pairs, and "end"
 *   fatal    what went wrong; the guest stops
 *
 * Main thread only.
 */
#ifndef GUEST_CONSOLE_H
#define GUEST_CONSOLE_H

#include <stdint.h>

enum console_command {
    COMMAND_NONE = 0,
    COMMAND_REPORT = 'r',       /* print a report */
    COMMAND_MARK = 'm',         /* count whole passes ("since") from here */
    COMMAND_CORRUPT = 'c',      /* damage one byte of the hot region */
    COMMAND_GO = 'g',           /* let go the chores that wait for it */
    COMMAND_QUIT = 'q',         /* print a report and stop */
};

/* Use the tty at @path, or stdin and stdout when NULL.  0 or -errno. */
int console_open(const char *path);

/* Print one message; the checksum and line end are added. */
void console_print(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Wait up to @ms milliseconds for a byte from the harness. */
enum console_command console_wait(unsigned int ms);

#endif
