/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See worker.h. */
#include "machine.h"
#include "worker.h"

#define WINDOWS 8u              /* of the moving working set in a part */

const char *const order_names[ORDERS] = {
    [ORDER_RANDOM] = "random",
    [ORDER_SEQUENTIAL] = "sequential",
    [ORDER_STRIDED] = "strided",
    [ORDER_SHARED] = "shared",
    [ORDER_MOVING] = "moving",
};

uint64_t job_generations(enum order order, unsigned workers, uint64_t pages)
{
    return order == ORDER_SHARED ? pages * workers : pages;
}

void worker_init(struct worker *w, const struct job *job, unsigned id)
{
    bool shared = job->order == ORDER_SHARED;
    uint64_t part = job->pages / job->workers;
    uint64_t random;

    w->job = job;
    w->id = id;
    w->first = shared ? 0 : part * id;
    w->pages = shared ? job->pages : part;
    w->generation = job->generations + id * w->pages;
    random = job->order == ORDER_MOVING ? w->pages / WINDOWS : w->pages;
    w->walk = walk_init(random, job->seed + (shared ? 0 : id));
}

/* --- what a page holds ---------------------------------------------------- */

static uint64_t *page_of(const struct worker *w, uint64_t page)
{
    return w->job->memory + page * PAGE_WORDS;
}

/* The first word of a line */
static uint64_t written(const struct worker *w, uint64_t page, unsigned line,
                        uint8_t generation)
{
    uint64_t tag = (uint64_t)generation << 8 | line;

    return mix64(mix64(w->job->seed + page) ^ (tag << 2 | 1));
}

static void note_wrong(struct worker *w, struct wrong wrong)
{
    if (!w->errors) {
        w->wrong = wrong;
    }
    __atomic_store_n(&w->errors, w->errors + 1, __ATOMIC_RELEASE);
}

static void check_word(struct worker *w, uint64_t page, unsigned word,
                       uint8_t generation, uint64_t got, uint64_t expected)
{
    if (got != expected) {
        note_wrong(w, (struct wrong) { page, word, generation, expected, got });
    }
}

/* All of a line but its first word */
static void check_filled(struct worker *w, uint64_t page, unsigned line)
{
    const volatile uint64_t *memory = page_of(w, page);
    struct page_pattern p = page_pattern(w->job->seed, page, 0);

    for (unsigned i = line * LINE_WORDS + 1; i < (line + 1) * LINE_WORDS; i++) {
        check_word(w, page, i, 0, memory[i], p.start + p.step * i);
    }
}

static void check_written(struct worker *w, uint64_t page, unsigned line,
                          uint8_t generation)
{
    const volatile uint64_t *memory = page_of(w, page);
    unsigned word = line * LINE_WORDS;

    check_word(w, page, word, generation, memory[word],
               written(w, page, line, generation));
}

/* --- whole pages ---------------------------------------------------------- */

static void fill_page(const struct worker *w, uint64_t page)
{
    struct page_pattern p = page_pattern(w->job->seed, page, 0);
    uint64_t *memory = page_of(w, page);

    for (unsigned i = 0; i < PAGE_WORDS; i++) {
        memory[i] = i % LINE_WORDS ? p.start + p.step * i
                                   : written(w, page, i / LINE_WORDS, 0);
    }
}

/* Whether some worker writes to @line of the worker's pages */
static bool is_written(const struct worker *w, unsigned line)
{
    return w->job->order == ORDER_SHARED ? line < w->job->workers
                                         : line == w->id;
}

static void verify_page(struct worker *w, uint64_t page)
{
    for (unsigned line = 0; line < LINES; line++) {
        check_filled(w, page, line);
        if (!is_written(w, line)) {
            check_written(w, page, line, 0);
        }
    }
}

/* The pages that are this worker's alone, in all orders */
static uint64_t share_begin(const struct worker *w)
{
    return w->job->pages / w->job->workers * w->id;
}

static uint64_t share_end(const struct worker *w)
{
    return w->job->pages / w->job->workers * (w->id + 1);
}

void worker_fill(struct worker *w)
{
    for (uint64_t page = share_begin(w); page < share_end(w); page++) {
        fill_page(w, page);
    }
}

void worker_verify(struct worker *w, uint64_t number)
{
    for (uint64_t page = share_begin(w); page < share_end(w); page++) {
        verify_page(w, page);
    }
    for (uint64_t i = 0; i < w->pages; i++) {
        check_written(w, w->first + i, w->id, w->generation[i]);
    }
    __atomic_store_n(&w->verified, number, __ATOMIC_RELEASE);
}

/* --- touching ------------------------------------------------------------- */

/* A window of an eighth is walked twice, then moves on by half of itself. */
static uint64_t moving_page(const struct worker *w)
{
    uint64_t window = w->pages / WINDOWS;
    uint64_t base = w->position / (2 * window) * (window / 2);

    return (base + walk_at(&w->walk, w->position % window)) % w->pages;
}

/* The page at the worker's position, counted from its first */
static uint64_t next_page(const struct worker *w)
{
    uint64_t row = w->pages / PART_PAGES;

    switch (w->job->order) {
    case ORDER_SEQUENTIAL:
        return w->position;
    case ORDER_STRIDED:
        return w->position % row * PART_PAGES + w->position / row;
    case ORDER_MOVING:
        return moving_page(w);
    default:
        return walk_at(&w->walk, w->position);
    }
}

static void advance(struct worker *w)
{
    /* A moving window comes round after four times its part. */
    uint64_t pass = w->job->order == ORDER_MOVING ? 4 * w->pages : w->pages;

    w->position++;
    if (w->position == pass) {
        w->position = 0;
        w->passes++;
    }
}

static void count(struct worker *w, uint64_t spent)
{
    uint64_t ns = spent * 1000000 / w->job->cycles_per_ms;

    hist_add(&w->latency, ns);
    w->slow += ns >= w->job->slow_ns;
    if (ns > w->max_ns) {
        w->max_ns = ns;
    }
    __atomic_store_n(&w->touches, w->touches + 1, __ATOMIC_RELAXED);
}

void worker_touch(struct worker *w)
{
    uint64_t i = next_page(w);
    uint64_t page = w->first + i;
    uint64_t *line = page_of(w, page) + w->id * LINE_WORDS;
    uint8_t generation = w->generation[i];
    uint64_t expected = written(w, page, w->id, generation);
    uint64_t next = written(w, page, w->id, generation + 1);
    uint64_t start, spent, got;

    if (w->job->write) {
        start = cycles();
        got = __atomic_exchange_n(line, next, __ATOMIC_SEQ_CST);
        spent = cycles_since(start);
        w->generation[i] = generation + 1;
    } else {
        start = cycles();
        got = __atomic_load_n(line, __ATOMIC_RELAXED);
        spent = cycles_since(start);
    }
    count(w, spent);
    check_word(w, page, w->id * LINE_WORDS, generation, got, expected);
    check_filled(w, page, w->id);
    advance(w);
}

void worker_corrupt(struct worker *w)
{
    uint8_t *bytes = (uint8_t *)page_of(w, w->first + next_page(w));

    bytes[w->id * LINE_WORDS * sizeof(uint64_t) + 9] ^= 1;
}

void worker_corrupt_hidden(struct worker *w)
{
    uint8_t *end = (uint8_t *)page_of(w, share_end(w));

    /* Line 63 is nobody's, unless there are 64 workers. */
    end[-1] ^= 1;
}
