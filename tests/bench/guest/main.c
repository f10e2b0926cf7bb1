/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest of the benchmark: every CPU touches memory, the first one also
 * talks to the harness.
 *
 * Parameters come in the file opt/bench of fw_cfg, as words KEY=VALUE.
 * Messages are those of tests/guest/console.h; a beat and a report also have
 * "touches" and "slows", lists with a number for each CPU; "verified" is how
 * many pages have been touched and found right.  A mark has all CPUs check all
 * of their memory; "since" is 1 once they have.  Beside the commands there, 'h'
 * damages a byte that only such a check comes to.
 */
#include "console.h"
#include "machine.h"
#include "worker.h"

#define MIB 0x100000ul
#define OWN_END (4 * MIB)       /* the image, its data and its stacks */
#define LARGE_PAGE (2 * MIB)
#define IO_BEGIN (2048 * MIB)   /* RAM above is not there for sure */
#define HIST_PER_LINE 32

enum stage {
    STAGE_BOOT,
    STAGE_FILL,
    STAGE_WORK,
};

/* Written by the first CPU alone */
static enum stage stage;
static uint64_t verification;   /* number of the one asked for last */
static struct job job;
static uint64_t beat_ms = 250;
static uint64_t beats;
static uint64_t start_cycles;

/* Written by any CPU, atomically */
static unsigned at_work;        /* CPUs that have come to the present stage */

static struct worker workers[MAX_CPUS];

/* --- messages ------------------------------------------------------------- */

static void __attribute__((noreturn)) fatal(const char *what)
{
    line_begin("fatal");
    line_text("what", what);
    line_end();
    for (;;) {
        __asm__ volatile("hlt");
    }
}

static uint64_t sum(const uint64_t *first)
{
    uint64_t total = 0;
    size_t offset = (const char *)first - (const char *)workers;

    for (unsigned i = 0; i < job.workers; i++) {
        total += __atomic_load_n((uint64_t *)((char *)&workers[i] + offset),
                                 __ATOMIC_RELAXED);
    }
    return total;
}

static uint64_t run_ms(void)
{
    return (cycles() - start_cycles) / job.cycles_per_ms;
}

static uint64_t fewest_passes(void)
{
    uint64_t passes = workers[0].passes;

    for (unsigned i = 1; i < job.workers; i++) {
        if (workers[i].passes < passes) {
            passes = workers[i].passes;
        }
    }
    return passes;
}

static bool all_verified(void)
{
    for (unsigned i = 0; i < job.workers; i++) {
        if (__atomic_load_n(&workers[i].verified, __ATOMIC_ACQUIRE) !=
            verification) {
            return false;
        }
    }
    return true;
}

/* The longest touch since the last beat */
static uint64_t longest_ns(void)
{
    uint64_t longest = 0;

    for (unsigned i = 0; i < job.workers; i++) {
        uint64_t ns = __atomic_exchange_n(&workers[i].max_ns, 0,
                                          __ATOMIC_RELAXED);

        longest = ns > longest ? ns : longest;
    }
    return longest;
}

static void say_figures(const char *name)
{
    uint64_t errors = sum(&workers[0].errors);

    line_begin(name);
    line_number("n", beats);
    line_number("ms", run_ms());
    line_number("verified", sum(&workers[0].touches) - errors);
    line_number("passes", fewest_passes());
    line_number("since", all_verified());
    line_number("errors", errors);
    line_number("slow", sum(&workers[0].slow));
    line_number("max_ns", longest_ns());
    line_list("touches");
    for (unsigned i = 0; i < job.workers; i++) {
        line_item(workers[i].touches);
    }
    line_list("slows");
    for (unsigned i = 0; i < job.workers; i++) {
        line_item(workers[i].slow);
    }
    line_end();
}

static void say_errors(void)
{
    static bool said[MAX_CPUS];

    for (unsigned i = 0; i < job.workers; i++) {
        const struct wrong *wrong = &workers[i].wrong;

        if (said[i] || !__atomic_load_n(&workers[i].errors, __ATOMIC_ACQUIRE)) {
            continue;
        }
        said[i] = true;
        line_begin("error");
        line_number("thread", i);
        line_number("page", wrong->page);
        line_number("word", wrong->word);
        line_number("generation", wrong->generation);
        line_number("expected", wrong->expected);
        line_number("got", wrong->got);
        line_end();
    }
}

static uint64_t bucket(unsigned index)
{
    uint64_t total = 0;

    for (unsigned i = 0; i < job.workers; i++) {
        total += __atomic_load_n(&workers[i].latency.count[index],
                                 __ATOMIC_RELAXED);
    }
    return total;
}

static void say_histogram(void)
{
    unsigned items = 0;

    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        uint64_t n = bucket(i);

        if (!n) {
            continue;
        }
        if (items % HIST_PER_LINE == 0) {
            if (items) {
                line_end();
            }
            line_begin("hist");
        }
        line_bucket(i, n);
        items++;
    }
    if (items) {
        line_end();
    }
    line_begin("end");
    line_end();
}

static void say_mark(void)
{
    __atomic_store_n(&verification, verification + 1, __ATOMIC_RELEASE);
    line_begin("mark");
    line_number("n", beats);
    line_number("ms", run_ms());
    line_number("verified", sum(&workers[0].touches));
    line_end();
}

static void obey(char command)
{
    switch (command) {
    case 'r':
        say_figures("report");
        say_histogram();
        break;
    case 'm':
        say_mark();
        break;
    case 'c':
        worker_corrupt(&workers[0]);
        break;
    case 'h':
        worker_corrupt_hidden(&workers[job.workers - 1]);
        break;
    }
}

/* --- parameters ----------------------------------------------------------- */

/* Whether @word begins with @key; then *value is what follows. */
static bool starts(const char *word, const char *key, const char **value)
{
    while (*key) {
        if (*word++ != *key++) {
            return false;
        }
    }
    *value = word;
    return true;
}

static bool is_word(const char *text, const char *word)
{
    const char *rest;

    return starts(text, word, &rest) && (!*rest || *rest == ' ');
}

static uint64_t number(const char *text)
{
    uint64_t value = 0;

    while (*text >= '0' && *text <= '9') {
        value = value * 10 + (*text++ - '0');
    }
    return value;
}

static enum order order_named(const char *name)
{
    for (unsigned i = 0; i < ORDERS; i++) {
        if (is_word(name, order_names[i])) {
            return i;
        }
    }
    fatal("no-such-order");
}

static uint64_t hot_bytes;

static void parse_word(const char *word)
{
    const char *value;

    if (starts(word, "order=", &value)) {
        job.order = order_named(value);
    } else if (starts(word, "write=", &value)) {
        job.write = number(value);
    } else if (starts(word, "hot=", &value)) {
        hot_bytes = number(value) * MIB;
    } else if (starts(word, "seed=", &value)) {
        job.seed = number(value);
    } else if (starts(word, "slow_us=", &value)) {
        job.slow_ns = number(value) * 1000;
    } else if (starts(word, "beat_ms=", &value)) {
        beat_ms = number(value);
    } else {
        fatal("unknown-parameter");
    }
}

static void read_parameters(void)
{
    static char text[256];
    const char *word = text;

    if (!machine_file("opt/bench", text, sizeof(text))) {
        fatal("no-parameters");
    }
    while (*word) {
        parse_word(word);
        while (*word && *word != ' ') {
            word++;
        }
        while (*word == ' ') {
            word++;
        }
    }
}

/* --- what the first CPU prepares ------------------------------------------ */

static void lay_out_memory(void)
{
    uint64_t unit = job.workers * PART_PAGES;
    uint64_t ram = machine_ram_bytes();
    uint64_t begin;

    job.pages = hot_bytes / PAGE_BYTES / unit * unit;
    begin = OWN_END + job_generations(job.order, job.workers, job.pages);
    begin = (begin + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;
    if (!job.pages || begin + hot_bytes > (ram < IO_BEGIN ? ram : IO_BEGIN)) {
        fatal("hot-memory-does-not-fit");
    }
    job.generations = (uint8_t *)OWN_END;
    job.memory = (uint64_t *)begin;
}

static void prepare(void)
{
    console_open();
    job.workers = machine_cpus();
    if (job.workers > MAX_CPUS) {
        fatal("too-many-cpus");
    }
    job.cycles_per_ms = machine_cycles_per_ms();
    read_parameters();
    lay_out_memory();
    for (unsigned i = 0; i < job.workers; i++) {
        worker_init(&workers[i], &job, i);
    }
    machine_start_cpus();
}

static void say_ready(void)
{
    line_begin("ready");
    line_number("threads", job.workers);
    line_number("pages", job.pages);
    line_number("seed", job.seed);
    line_number("slow_ns", job.slow_ns);
    line_number("cycles_per_ms", job.cycles_per_ms);
    line_end();
}

/* --- stages --------------------------------------------------------------- */

/* Arrive, and wait for the stage to begin; the first CPU begins it when all
 * have arrived. */
static void enter_stage(unsigned id, enum stage next)
{
    __atomic_add_fetch(&at_work, 1, __ATOMIC_ACQ_REL);
    if (!id) {
        while (__atomic_load_n(&at_work, __ATOMIC_ACQUIRE) != job.workers) {
            cpu_relax();
        }
        at_work = 0;
        __atomic_store_n(&stage, next, __ATOMIC_RELEASE);
    }
    while (__atomic_load_n(&stage, __ATOMIC_ACQUIRE) != next) {
        cpu_relax();
    }
}

/* What the first CPU does beside its touches */
static void tend(void)
{
    static uint64_t next;
    uint64_t now = cycles();

    if (now < next) {
        return;
    }
    next = now + beat_ms * job.cycles_per_ms;
    beats++;
    say_errors();
    say_figures("beat");
    obey(console_read());
}

static void work(struct worker *w)
{
    for (;;) {
        uint64_t wanted = __atomic_load_n(&verification, __ATOMIC_ACQUIRE);

        if (w->verified != wanted) {
            worker_verify(w, wanted);
        }
        worker_touch(w);
        if (!w->id) {
            tend();
        }
    }
}

void guest_main(unsigned id)
{
    if (!id) {
        prepare();
    }
    enter_stage(id, STAGE_FILL);
    worker_fill(&workers[id]);
    enter_stage(id, STAGE_WORK);
    if (!id) {
        start_cycles = cycles();
        say_ready();
    }
    work(&workers[id]);
}
