/*
 * What an instruction is, as far as the plugin wants to know
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include <string.h>

#include "decode.h"

static bool is_prefix(uint8_t byte)
{
    return byte == 0x66 || byte == 0x67 || byte == 0x2e || byte == 0x3e ||
           byte == 0x26 || byte == 0x36 || byte == 0x64 || byte == 0x65 ||
           byte == 0xf0 || byte == 0xf2 || byte == 0xf3;
}

Decoded decode(const uint8_t *code, size_t size)
{
    static const uint8_t mark[] = {
        0x0f, 0x1f, 0x80, MAGIC & 0xff, MAGIC >> 8 & 0xff, MAGIC >> 16 & 0xff,
        MAGIC >> 24
    };
    Decoded d = { 0 };
    bool repeated = false;
    size_t i = 0;

    for (; i < size && is_prefix(code[i]); i++) {
        d.lock |= code[i] == 0xf0;
        repeated |= code[i] == 0xf2 || code[i] == 0xf3;
    }
    if (i < size && (code[i] & 0xf0) == 0x40) {
        i++;                            /* REX */
    }
    if (i + 1 >= size) {
        d.rep = repeated && i < size && ((code[i] >= 0xa4 && code[i] <= 0xa7) ||
                                         (code[i] >= 0xaa && code[i] <= 0xaf));
        return d;
    }
    d.lock |= (code[i] == 0x86 || code[i] == 0x87) && code[i + 1] < 0xc0;
    d.zero_byte = code[i] == 0xc6 && code[i + 1] < 0xc0 &&
                  !(code[i + 1] & 0x38) && !code[size - 1];
    d.vmrun = size - i == 3 && !memcmp(code + i, "\x0f\x01\xd8", 3);
    d.mark = size == sizeof(mark) && !memcmp(code, mark, size);
    return d;
}
