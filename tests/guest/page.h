/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Self-describing page contents for the migration guest.
 *
 * A page of the hot region holds
 *
 *   word 0      its page number
 *   word 1      its generation, one more at every rewrite
 *   word 2..    a pattern that depends on seed, page number and generation
 *
 * so that a page that is lost, stale, zeroed, swapped with another one or
 * damaged in any single byte cannot pass page_check().  The owner of a page
 * remembers the generation it wrote last, outside the hot region.
 *
 * Pure functions, no locks: a page is only ever touched by its owner thread.
 */
#ifndef GUEST_PAGE_H
#define GUEST_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_BYTES 4096u
#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))
#define PAGE_HEADER_WORDS 2u

/* What was found where page_check() expected something else. */
struct page_error {
    uint64_t page;
    uint64_t generation;
    unsigned int word;
    uint64_t expected;
    uint64_t got;
};

/* A bijection on 64 bits in which every input bit reaches every output bit. */
static inline uint64_t mix64(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93ull;
    x ^= x >> 29;
    x *= 0xa0761d6478bd642full;
    x ^= x >> 32;
    return x;
}

/*
 * The pattern is an arithmetic progression: one addition per word keeps the
 * verification of whole pages cheap under emulation, and its start and (odd)
 * step depend on everything that identifies the content.
 */
struct page_pattern {
    uint64_t start;
    uint64_t step;
};

static inline struct page_pattern page_pattern(uint64_t seed, uint64_t page,
                                               uint64_t generation)
{
    struct page_pattern p;

    p.start = mix64(mix64(seed + page) ^ (generation << 1));
    p.step = mix64(p.start + 1) | 1;
    return p;
}

/* Word @i of the content of @page at @generation. */
static inline uint64_t page_word(uint64_t seed, uint64_t page,
                                 uint64_t generation, unsigned int i)
{
    struct page_pattern p = page_pattern(seed, page, generation);

    switch (i) {
    case 0:
        return page;
    case 1:
        return generation;
    default:
        return p.start + p.step * (i - PAGE_HEADER_WORDS);
    }
}

/* Fill the page at @mem. */
static inline void page_fill(uint64_t *mem, uint64_t seed, uint64_t page,
                             uint64_t generation)
{
    struct page_pattern p = page_pattern(seed, page, generation);
    uint64_t x = p.start;

    mem[0] = page;
    mem[1] = generation;
    for (unsigned int i = PAGE_HEADER_WORDS; i < PAGE_WORDS; i++) {
        mem[i] = x;
        x += p.step;
    }
}

/*
 * Compare every byte of the page at @mem with what it must be.
 * Returns true when all are right; otherwise false, with the first wrong
 * word described in @err.
 */
static inline bool page_check(const uint64_t *mem, uint64_t seed,
                              uint64_t page, uint64_t generation,
                              struct page_error *err)
{
    struct page_pattern p = page_pattern(seed, page, generation);
    uint64_t x = p.start;
    uint64_t wrong = (mem[0] ^ page) | (mem[1] ^ generation);

    for (unsigned int i = PAGE_HEADER_WORDS; i < PAGE_WORDS; i++) {
        wrong |= mem[i] ^ x;
        x += p.step;
    }
    if (!wrong) {
        return true;
    }

    err->page = page;
    err->generation = generation;
    /* Nothing found below means that the word changed between two reads. */
    err->word = 0;
    err->expected = err->got = 0;
    for (unsigned int i = 0; i < PAGE_WORDS; i++) {
        uint64_t want = page_word(seed, page, generation, i);
        uint64_t got = *(const volatile uint64_t *)&mem[i];

        if (got != want) {
            err->word = i;
            err->expected = want;
            err->got = got;
            break;
        }
    }
    return false;
}

/*
 * Pseudo-random order: a bijection of [0, size), another one for every @key.
 *
 * The scramble works on the next power of two; positions outside the range
 * are scrambled again until they fall inside, which a bijection always does.
 */
struct walk {
    uint64_t size;
    uint64_t mask;
    unsigned int shift;
    uint64_t add;
    uint64_t mul1;
    uint64_t mul2;
};

static inline struct walk walk_init(uint64_t size, uint64_t key)
{
    struct walk w = { .size = size, .mask = 1, .shift = 1 };
    unsigned int bits = 1;

    while (w.mask + 1 < size) {
        w.mask = w.mask * 2 + 1;
        bits++;
    }
    w.shift = bits / 2 + 1;
    w.add = mix64(key + 1);
    w.mul1 = mix64(key + 2) | 1;
    w.mul2 = mix64(key + 3) | 1;
    return w;
}

static inline uint64_t walk_at(const struct walk *w, uint64_t position)
{
    uint64_t x = position;

    do {
        x = ((x + w->add) * w->mul1) & w->mask;
        x ^= x >> w->shift;
        x = (x * w->mul2) & w->mask;
        x ^= x >> w->shift;
    } while (x >= w->size);
    return x;
}

#endif
