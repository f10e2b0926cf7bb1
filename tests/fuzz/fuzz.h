/*
 * What the fuzz targets share: their input, and how a finding ends the program
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

/* What is left of the input; reads as zeroes at its end. */
typedef struct FuzzInput {
    const uint8_t *next;
    size_t left;
} FuzzInput;

static inline uint8_t fuzz_byte(FuzzInput *in)
{
    if (!in->left) {
        return 0;
    }
    in->left--;
    return *in->next++;
}

/* Takes up to @n bytes; returns how many, and where they are. */
static inline size_t fuzz_bytes(FuzzInput *in, size_t n, const uint8_t **bytes)
{
    *bytes = in->next;
    n = MIN(n, in->left);
    in->next += n;
    in->left -= n;
    return n;
}

/**
 * fuzz_fail: what must not happen has happened
 *
 * Any thread.
 */
G_NORETURN void fuzz_fail(const char *format, ...) G_GNUC_PRINTF(1, 2);

#define fuzz_check(condition, ...) do { \
        if (!(condition)) { \
            fuzz_fail(__VA_ARGS__); \
        } \
    } while (0)

/* The interface of libFuzzer */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
