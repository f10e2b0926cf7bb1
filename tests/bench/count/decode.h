/*
 * What an instruction is, as far as the plugin wants to know
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_BENCH_COUNT_DECODE_H
#define TESTS_BENCH_COUNT_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Displacement of the nop by which a program talks to the plugin */
#define MAGIC 0x74636b75u

typedef struct Decoded {
    bool lock, rep, zero_byte;  /* "movb $0, memory" */
    bool vmrun;
    bool mark;
} Decoded;

/* The instruction in the @size bytes of @code, all of them its own */
Decoded decode(const uint8_t *code, size_t size);

#endif
