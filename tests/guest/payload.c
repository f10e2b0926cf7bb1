/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest of the migration tests: init of a Linux guest that keeps a hot
 * region of memory busy and verifies every byte of it while it is migrated.
 *
 * Threads   one worker per vCPU (worker.h) and this main thread, which
 *           prints a heartbeat and answers the harness (console.h).
 * Owns      the hot region, for the life of the process.
 * Clocks    latencies come from the time stamp counter, which stands still
 *           while the guest is stopped for the switchover, so that downtime
 *           is not taken for a fault.  Downtime and clock steps show in the
 *           report on their own: the largest gap between two heartbeats, and
 *           the largest disagreement of the two clocks.
 * Failure   a set-up error is printed as "fatal" and stops the guest; wrong
 *           bytes are counted and reported while the guest keeps running.
 *
 * Parameters come from the kernel command line as payload.KEY=VALUE when
 * this is process 1, and otherwise from the arguments as KEY=VALUE.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "chore.h"
#include "console.h"
#include "selftest.h"
#include "worker.h"

#define MIB ((uint64_t)1024 * 1024)
#define CALIBRATE_MS 200

struct parameters {
    uint64_t hot_mib;
    uint64_t threads;           /* 0: one per CPU */
    uint64_t seed;
    uint64_t slow_us;
    uint64_t beat_ms;
    uint64_t sequential;        /* 0: pages are visited in random order */
    char console[64];           /* empty: stdin and stdout */
    char chores[128];           /* names, separated by commas */
};

/* What the heartbeat remembers from one line to the next; main thread. */
struct observer {
    struct worker *workers;
    unsigned int count;
    uint64_t *marks;            /* passes of each worker at the last mark */
    uint64_t *reported;         /* errors of each worker already printed */
    uint64_t beat;
    uint64_t start_ns;
    uint64_t last_ns;
    uint64_t last_cycles;
    uint64_t period_ns;
    uint64_t gap_ns;
    uint64_t step_ns;
};

static bool is_init(void)
{
    return getpid() == 1;
}

static void __attribute__((noreturn)) stop(int status)
{
    if (is_init()) {
        usleep(100000);         /* let the console drain */
        reboot(RB_POWER_OFF);
    }
    exit(status);
}

static void __attribute__((noreturn)) fatal(const char *what, int error)
{
    console_print("fatal what=%s error=%s", what, strerror(error));
    stop(1);
}

static void mount_init_filesystems(void)
{
    mkdir("/proc", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
}

/* One KEY=VALUE; unknown keys are left to others. */
static void parse_parameter(struct parameters *p, const char *arg)
{
    struct {
        const char *key;
        uint64_t *value;
    } numbers[] = {
        { "hot=", &p->hot_mib },
        { "threads=", &p->threads },
        { "seed=", &p->seed },
        { "slow_us=", &p->slow_us },
        { "beat_ms=", &p->beat_ms },
        { "sequential=", &p->sequential },
    };

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        size_t len = strlen(numbers[i].key);

        if (!strncmp(arg, numbers[i].key, len)) {
            *numbers[i].value = strtoull(arg + len, NULL, 0);
            return;
        }
    }
    if (!strncmp(arg, "console=", 8)) {
        snprintf(p->console, sizeof(p->console), "/dev/%s", arg + 8);
    }
    if (!strncmp(arg, "chores=", 7)) {
        snprintf(p->chores, sizeof(p->chores), "%s", arg + 7);
    }
}

static void parse_kernel_command_line(struct parameters *p)
{
    static const char prefix[] = "payload.";
    char line[4096] = "";
    char *save, *word;
    FILE *f = fopen("/proc/cmdline", "r");

    if (!f) {
        fatal("cmdline", errno);
    }
    if (!fgets(line, sizeof(line), f)) {
        line[0] = 0;
    }
    fclose(f);
    for (word = strtok_r(line, " \n", &save); word;
         word = strtok_r(NULL, " \n", &save)) {
        if (!strncmp(word, prefix, sizeof(prefix) - 1)) {
            parse_parameter(p, word + sizeof(prefix) - 1);
        }
    }
}

/* The CPUs this process may run on, in order; returns their number. */
static unsigned int list_cpus(int *cpus)
{
    unsigned int n = 0;
    cpu_set_t set;

    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof(set), &set);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &set)) {
            cpus[n++] = cpu;
        }
    }
    return n;
}

static uint64_t monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void start_workers(struct observer *o, const struct parameters *p)
{
    static int cpus[CPU_SETSIZE];
    unsigned int ncpus = list_cpus(cpus);
    uint64_t pages = p->hot_mib * MIB / PAGE_BYTES;
    void *mem;

    o->count = p->threads ? p->threads : ncpus;
    o->workers = aligned_alloc(__alignof__(struct worker),
                               sizeof(struct worker) * o->count);
    o->marks = calloc(o->count, sizeof(*o->marks));
    o->reported = calloc(o->count, sizeof(*o->reported));
    mem = mmap(NULL, p->hot_mib * MIB, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!o->workers || !o->marks || !o->reported || mem == MAP_FAILED ||
        !workers_init(o->workers, o->count, mem, pages, p->seed,
                      p->slow_us * 1000, cycle_clock_calibrate(CALIBRATE_MS))) {
        fatal("memory", errno);
    }
    for (unsigned int i = 0; i < o->count; i++) {
        struct worker *w = &o->workers[i];
        int error;

        w->cpu = cpus[i % ncpus];
        w->sequential = p->sequential;
        error = pthread_create(&w->thread, NULL, worker_run, w);
        if (error) {
            fatal("thread", error);
        }
    }
}

static uint64_t read_figure(const uint64_t *figure)
{
    return __atomic_load_n(figure, __ATOMIC_RELAXED);
}

static void wait_until_filled(struct observer *o)
{
    for (unsigned int i = 0; i < o->count; i++) {
        while (read_figure(&o->workers[i].filled) < o->workers[i].pages) {
            usleep(20000);
        }
    }
}

/* Sums over all workers, as of now. */
struct totals {
    uint64_t verified;
    uint64_t passes;            /* of the slowest worker */
    uint64_t since;             /* whole passes begun after the mark, likewise */
    uint64_t errors;
    uint64_t slow;
    uint64_t backwards;
    uint64_t max_ns;            /* since the last call */
};

static struct totals observe(struct observer *o)
{
    struct totals t = { .passes = UINT64_MAX, .since = UINT64_MAX };

    for (unsigned int i = 0; i < o->count; i++) {
        struct worker *w = &o->workers[i];
        uint64_t passes = read_figure(&w->passes);
        uint64_t since = passes - o->marks[i];
        uint64_t max = __atomic_exchange_n(&w->slow_max_ns, 0,
                                           __ATOMIC_RELAXED);

        /* The pass that was under way at the mark is not a whole one. */
        since -= since ? 1 : 0;
        t.verified += read_figure(&w->verified);
        t.errors += read_figure(&w->error_count);
        t.slow += read_figure(&w->slow);
        t.backwards += read_figure(&w->backwards);
        t.passes = passes < t.passes ? passes : t.passes;
        t.since = since < t.since ? since : t.since;
        t.max_ns = max > t.max_ns ? max : t.max_ns;
    }
    return t;
}

static void print_new_errors(struct observer *o)
{
    for (unsigned int i = 0; i < o->count; i++) {
        struct page_error e;

        while (worker_error(&o->workers[i], o->reported[i], &e)) {
            o->reported[i]++;
            console_print("error thread=%u page=%" PRIu64 " word=%u"
                          " generation=%" PRIu64 " expected=%#" PRIx64
                          " got=%#" PRIx64, i, e.page, e.word, e.generation,
                          e.expected, e.got);
        }
    }
}

static void update_clocks(struct observer *o)
{
    uint64_t ns = monotonic_ns();
    uint64_t cycles = cycle_clock_now();
    uint64_t passed = ns - o->last_ns;
    uint64_t counted = cycle_clock_ns(o->workers[0].clock,
                                      cycles - o->last_cycles);
    uint64_t step = passed > counted ? passed - counted : counted - passed;

    if (passed > o->period_ns && passed - o->period_ns > o->gap_ns) {
        o->gap_ns = passed - o->period_ns;
    }
    if (step > o->step_ns) {
        o->step_ns = step;
    }
    o->last_ns = ns;
    o->last_cycles = cycles;
}

static void print_beat(struct observer *o)
{
    struct totals t = observe(o);

    update_clocks(o);
    /* What is wrong comes before the count that includes it. */
    print_new_errors(o);
    console_print("beat n=%" PRIu64 " ms=%" PRIu64 " verified=%" PRIu64
                  " passes=%" PRIu64 " since=%" PRIu64 " errors=%" PRIu64
                  " slow=%" PRIu64 " max_ns=%" PRIu64,
                  ++o->beat, (o->last_ns - o->start_ns) / 1000000, t.verified,
                  t.passes, t.since, t.errors, t.slow, t.max_ns);
    chores_print();
}

static void print_histogram(const struct observer *o)
{
    char line[512];
    size_t len = 0;

    for (unsigned int b = 0; b < HIST_BUCKETS; b++) {
        uint64_t n = 0;

        for (unsigned int i = 0; i < o->count; i++) {
            n += __atomic_load_n(&o->workers[i].hist.count[b],
                                 __ATOMIC_RELAXED);
        }
        if (n) {
            len += sprintf(line + len, " %u:%" PRIu64, b, n);
        }
        if (len > sizeof(line) - 32) {
            console_print("hist%s", line);
            len = 0;
        }
    }
    if (len) {
        console_print("hist%s", line);
    }
}

static void print_report(struct observer *o)
{
    struct totals t = observe(o);

    print_new_errors(o);
    console_print("report n=%" PRIu64 " ms=%" PRIu64 " verified=%" PRIu64
                  " passes=%" PRIu64 " since=%" PRIu64 " errors=%" PRIu64
                  " slow=%" PRIu64 " backwards=%" PRIu64 " gap_ms=%" PRIu64
                  " step_us=%" PRIu64, o->beat,
                  (monotonic_ns() - o->start_ns) / 1000000, t.verified,
                  t.passes, t.since, t.errors, t.slow, t.backwards,
                  o->gap_ns / 1000000, o->step_ns / 1000);
    print_histogram(o);
    console_print("end n=%" PRIu64, o->beat);
}

/* Count whole passes from here on, and say where "here" is. */
static void set_mark(struct observer *o)
{
    struct totals t;

    for (unsigned int i = 0; i < o->count; i++) {
        o->marks[i] = read_figure(&o->workers[i].passes);
    }
    t = observe(o);
    console_print("mark n=%" PRIu64 " ms=%" PRIu64 " verified=%" PRIu64,
                  o->beat, (monotonic_ns() - o->start_ns) / 1000000,
                  t.verified);
}

static void obey(struct observer *o, enum console_command command)
{
    switch (command) {
    case COMMAND_REPORT:
        print_report(o);
        break;
    case COMMAND_MARK:
        set_mark(o);
        break;
    case COMMAND_CORRUPT:
        __atomic_store_n(&o->workers[0].corrupt, true, __ATOMIC_RELAXED);
        break;
    case COMMAND_GO:
        chores_go();
        break;
    case COMMAND_QUIT:
        print_report(o);
        stop(0);
    default:
        break;
    }
}

/* Print a heartbeat per period and obey commands in between. */
static void __attribute__((noreturn)) serve(struct observer *o)
{
    uint64_t next;

    o->start_ns = o->last_ns = monotonic_ns();
    o->last_cycles = cycle_clock_now();
    next = o->start_ns + o->period_ns;
    for (;;) {
        uint64_t now = monotonic_ns();

        if (now >= next) {
            print_beat(o);
            /* After a gap go on from here rather than catch up. */
            next = o->last_ns + o->period_ns;
            continue;
        }
        obey(o, console_wait((next - now) / 1000000 + 1));
    }
}

int main(int argc, char **argv)
{
    struct parameters p = {
        .hot_mib = 16, .seed = 1, .slow_us = 30, .beat_ms = 250,
    };
    struct sched_param realtime = { .sched_priority = 1 };
    struct observer o = { 0 };
    const char *unknown;
    int error;

    if (argc == 2 && !strcmp(argv[1], "--self-test")) {
        return selftest();
    }
    if (is_init()) {
        strcpy(p.console, "/dev/ttyS1");
        mount_init_filesystems();
        parse_kernel_command_line(&p);
    }
    for (int i = 1; i < argc; i++) {
        parse_parameter(&p, argv[i]);
    }
    error = console_open(p.console[0] ? p.console : NULL);
    if (error) {
        fatal("console", -error);
    }
    if (!p.hot_mib || !p.beat_ms) {
        fatal("parameters", EINVAL);
    }
    o.period_ns = p.beat_ms * 1000000;
    start_workers(&o, &p);
    wait_until_filled(&o);
    unknown = chores_start(p.chores);
    if (unknown) {
        fatal(unknown, EINVAL);
    }
    /* Workers never sleep; the heartbeat must get through all the same. */
    sched_setscheduler(0, SCHED_FIFO, &realtime);
    console_print("ready threads=%u pages=%" PRIu64 " seed=%" PRIu64
                  " slow_ns=%" PRIu64, o.count, p.hot_mib * MIB / PAGE_BYTES,
                  p.seed, p.slow_us * 1000);
    serve(&o);
}
