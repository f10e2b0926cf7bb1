/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest of the benchmark says, on the first serial port, in the
 * lines of tests/guest/console.h.  A line is put together in memory and sent
 * by port I/O, which needs no page of guest memory but the line's own.
 *
 * First CPU only.
 */
#ifndef BENCH_CONSOLE_H
#define BENCH_CONSOLE_H

#include <stdint.h>

void console_open(void);

/* A line: its name, any number of values, and the end, which sends it. */
void line_begin(const char *name);
void line_number(const char *key, uint64_t value);
void line_text(const char *key, const char *value);
/* A list begins with a colon and has one before each further item. */
void line_list(const char *key);
void line_item(uint64_t value);
/* An item of a "hist" line */
void line_bucket(unsigned index, uint64_t count);
void line_end(void);

/* A byte from the harness, or 0. */
char console_read(void);

#endif
