/*
 * The destination of the native benchmark: one run
 *
 * Threads      vCPUs, which touch each page of theirs once; the loader; the
 *              fault thread; the main thread, which starts and measures.
 * Owns         the memory, registered with a userfaultfd in both modes, as
 *              QEMU's is.
 * Failure      ends the program.  A thread that is not woken waits for ever.
 *
 * What is measured begins when all threads are there and ends when the last
 * vCPU has touched its last page; making and joining threads is outside:
 *
 *   vCPUs, loader, fault thread    main thread
 *   ready++, wait for "go"         wait until all are ready
 *                                  look at the clocks, "go"
 *   touch, touch, ...
 *   running--; the last: "done"    wait for "done", look at the clocks
 *   wait for "leave"               "leave", end of the connection, join
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include "qemu/atomic.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "qemu/memalign.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "destination.h"
#include "service.h"
#include "source.h"

#define STACK_BYTES (64 * KiB)
/* What a QEMUFile reads at once */
#define LOADER_BUFFER (32 * KiB)

typedef struct Run Run;

typedef struct Worker {
    /* Set once */
    Run *run;
    void (*work)(struct Worker *w);
    pthread_t thread;
    const uint32_t *page;       /* of a vCPU */
    uint64_t *latency;
    Vcpu *vcpu;
    /* Its own, until it has been joined */
    BenchUse use;
    uint64_t events;            /* of the fault thread */
} Worker;

struct Run {
    /* Set once */
    const BenchSpec *spec;
    Service service;
    Source source;
    uint8_t *memory;
    uint64_t pages;
    uint32_t *order;
    uint64_t *latency;
    Vcpu *vcpu;
    Worker *worker;             /* vCPUs, then loader, then fault thread */
    unsigned workers;
    int uffd;
    /* All, atomically */
    unsigned ready, running;
    bool quit;
    QemuEvent go, done, leave;
};

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t switches(int who)
{
    struct rusage usage;

    getrusage(who, &usage);
    return usage.ru_nvcsw + usage.ru_nivcsw;
}

/* Called twice: @use becomes what lies between. */
static void use_between(BenchUse *use, clockid_t id, int who)
{
    use->cpu_ns = clock_ns(id) - use->cpu_ns;
    use->switches = switches(who) - use->switches;
}

static void own_use(Worker *w)
{
    use_between(&w->use, CLOCK_THREAD_CPUTIME_ID, RUSAGE_THREAD);
}

/* ------------------------------------------------------------------------- */
/* vCPUs */

static uint64_t read_word(Run *r, uint64_t page, unsigned word)
{
    return qatomic_read((uint64_t *)(r->memory + page * PAGE_BYTES) + word);
}

static void touch(Run *r, Vcpu *v, uint64_t page)
{
    uint64_t offset = page * PAGE_BYTES;

    if (r->spec->mode != BENCH_USERFAULTFD) {
        /* KVM_RUN comes back for as long as the page's bit is set. */
        while (service_exits(&r->service, offset)) {
            service_fault(&r->service, v, offset);
        }
    }
    if (read_word(r, page, 0) != source_content(page, 0)) {
        g_error("page %" PRIu64 " has not its content when touched", page);
    }
}

static void run_vcpu(Worker *w)
{
    Run *r = w->run;
    uint64_t start, end;
    unsigned i;

    own_use(w);
    start = clock_ns(CLOCK_MONOTONIC);
    for (i = 0; i < r->spec->faults; i++) {
        touch(r, w->vcpu, w->page[i]);
        end = clock_ns(CLOCK_MONOTONIC);
        w->latency[i] = end - start;
        start = end;
    }
    own_use(w);
    if (qatomic_fetch_dec(&r->running) == 1) {
        qemu_event_set(&r->done);
    }
    qemu_event_wait(&r->leave);
}

/* ------------------------------------------------------------------------- */
/* Loader */

/* Also called by vCPUs */
static void place(void *opaque, uint64_t offset, const uint8_t *from)
{
    Run *r = opaque;
    struct uffdio_copy copy = {
        .dst = (uintptr_t)r->memory + offset,
        .src = (uintptr_t)from,
        .len = PAGE_BYTES,
    };

    if (ioctl(r->uffd, UFFDIO_COPY, &copy)) {
        g_error("UFFDIO_COPY: %s", g_strerror(errno));
    }
}

static void read_answer(Run *r, const uint8_t *answer, bool more)
{
    uint64_t offset = ldq_be_p(answer);

    g_assert(offset % PAGE_BYTES == 0 && offset / PAGE_BYTES < r->pages);
    service_arrived(&r->service, offset, answer + ANSWER_HEADER,
                    more || r->spec->mode == BENCH_GIVING);
}

static void run_loader(Worker *w)
{
    g_autofree uint8_t *buffer = g_malloc(LOADER_BUFFER);
    Run *r = w->run;
    size_t have = 0, used;
    ssize_t ret;

    own_use(w);
    while ((ret = read(r->source.sock, buffer + have,
                       LOADER_BUFFER - have)) > 0) {
        have += ret;
        for (used = 0; have - used >= ANSWER_BYTES; used += ANSWER_BYTES) {
            read_answer(r, buffer + used, have - used > ANSWER_BYTES);
        }
        have -= used;
        memmove(buffer, buffer + used, have);
    }
    g_assert(ret == 0 && have == 0);
    own_use(w);
}

/* ------------------------------------------------------------------------- */
/* Fault thread */

/* One message at a time, as QEMU reads them */
static void read_fault(Worker *w)
{
    Run *r = w->run;
    struct uffd_msg msg;
    uint64_t offset;

    if (read(r->uffd, &msg, sizeof(msg)) != sizeof(msg)) {
        g_assert(errno == EAGAIN);
        return;
    }
    g_assert(msg.event == UFFD_EVENT_PAGEFAULT);
    offset = msg.arg.pagefault.address - (uintptr_t)r->memory;
    w->events++;
    service_request(&r->service, QEMU_ALIGN_DOWN(offset, PAGE_BYTES),
                    PAGE_BYTES);
}

static void run_fault_thread(Worker *w)
{
    Run *r = w->run;
    struct pollfd pfd[] = {
        { .fd = r->uffd, .events = POLLIN },
        { .fd = r->service.event_fd, .events = POLLIN },
    };
    eventfd_t value;

    own_use(w);
    while (true) {
        if (poll(pfd, ARRAY_SIZE(pfd), -1) < 0) {
            g_error("poll: %s", g_strerror(errno));
        }
        if (pfd[1].revents) {
            eventfd_read(r->service.event_fd, &value);
            if (qatomic_read(&r->quit)) {
                break;
            }
            service_flush(&r->service);
        }
        if (pfd[0].revents) {
            read_fault(w);
        }
    }
    own_use(w);
}

/* ------------------------------------------------------------------------- */
/* Memory */

static int open_userfaultfd(void)
{
    struct uffdio_api api = { .api = UFFD_API };
    int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

const char *bench_impossible(void)
{
    int fd = open_userfaultfd();

    if (fd < 0) {
        return "userfaultfd may not be used here";
    }
    close(fd);
    return NULL;
}

static void make_memory(Run *r)
{
    struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

    r->memory = mmap(NULL, r->pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert(r->memory != MAP_FAILED);
    /* As postcopy has it: no page may come as a part of a huge one. */
    madvise(r->memory, r->pages * PAGE_BYTES, MADV_NOHUGEPAGE);
    r->uffd = open_userfaultfd();
    reg.range.start = (uintptr_t)r->memory;
    reg.range.len = r->pages * PAGE_BYTES;
    if (r->uffd < 0 || ioctl(r->uffd, UFFDIO_REGISTER, &reg)) {
        g_error("userfaultfd: %s", g_strerror(errno));
    }
}

/* Each page once, in an order that depends on the seed */
static uint32_t *random_order(uint64_t pages, uint32_t seed)
{
    uint32_t *order = g_new(uint32_t, pages), other, swap;
    uint64_t i;

    for (i = 0; i < pages; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        other = seed % (i + 1);
        swap = other == i ? i : order[other];
        order[other] = i;
        order[i] = swap;
    }
    return order;
}

static uint64_t count_wrong_pages(Run *r)
{
    uint64_t page, wrong = 0;
    unsigned word;

    for (page = 0; page < r->pages; page++) {
        if (!test_bit(page, r->service.block.present)) {
            wrong++;            /* a look at it would wait for ever */
            continue;
        }
        for (word = 0; word < PAGE_BYTES / 8; word++) {
            if (read_word(r, page, word) != source_content(page, word)) {
                wrong++;
                break;
            }
        }
    }
    return wrong;
}

/* ------------------------------------------------------------------------- */
/* A run */

static void *worker_main(void *opaque)
{
    Worker *w = opaque;

    qatomic_inc(&w->run->ready);
    qemu_event_wait(&w->run->go);
    w->work(w);
    return NULL;
}

static void start_worker(Worker *w)
{
    pthread_attr_t attr;
    int ret;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    ret = pthread_create(&w->thread, &attr, worker_main, w);
    if (ret) {
        g_error("no thread: %s", g_strerror(ret));
    }
    pthread_attr_destroy(&attr);
}

static void start_workers(Run *r)
{
    unsigned vcpus = r->spec->threads, i;

    r->workers = vcpus + 2;
    r->worker = g_new0(Worker, r->workers);
    r->running = vcpus;
    for (i = 0; i < r->workers; i++) {
        Worker *w = &r->worker[i];

        w->run = r;
        if (i < vcpus) {
            w->work = run_vcpu;
            w->vcpu = &r->vcpu[i];
            w->page = r->order + (uint64_t)i * r->spec->faults;
            w->latency = r->latency + (uint64_t)i * r->spec->faults;
        } else {
            w->work = i == vcpus ? run_loader : run_fault_thread;
        }
        start_worker(w);
    }
    while (qatomic_read(&r->ready) != r->workers) {
        g_usleep(1000);
    }
    g_usleep(20000);            /* until all of them sleep */
}

static void measure(Run *r, BenchFigures *f)
{
    uint64_t start;

    use_between(&f->process, CLOCK_PROCESS_CPUTIME_ID, RUSAGE_SELF);
    start = clock_ns(CLOCK_MONOTONIC);
    qemu_event_set(&r->go);
    qemu_event_wait(&r->done);
    f->wall_ns = clock_ns(CLOCK_MONOTONIC) - start;
    use_between(&f->process, CLOCK_PROCESS_CPUTIME_ID, RUSAGE_SELF);
}

static void end_workers(Run *r)
{
    unsigned i;

    qemu_event_set(&r->leave);
    shutdown(r->source.sock, SHUT_WR);
    qatomic_set(&r->quit, true);
    eventfd_write(r->service.event_fd, 1);
    for (i = 0; i < r->workers; i++) {
        pthread_join(r->worker[i].thread, NULL);
    }
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void add_use(BenchUse *to, const BenchUse *from)
{
    to->cpu_ns += from->cpu_ns;
    to->switches += from->switches;
}

static void collect(Run *r, BenchFigures *f)
{
    Service *s = &r->service;
    unsigned vcpus = r->spec->threads, i;

    f->faults = r->pages;
    for (i = 0; i < vcpus; i++) {
        add_use(&f->vcpus, &r->worker[i].use);
        f->requests += r->vcpu[i].stats.requests;
        f->waits += r->vcpu[i].stats.waits;
    }
    f->loader = r->worker[vcpus].use;
    f->fault_thread = r->worker[vcpus + 1].use;
    f->events = r->worker[vcpus + 1].events;

    qsort(r->latency, r->pages, sizeof(*r->latency), compare_numbers);
    f->p50_ns = r->latency[r->pages / 2];
    f->p99_ns = r->latency[r->pages * 99 / 100];
    f->max_ns = r->latency[r->pages - 1];

    f->writes = s->writes;
    f->longest = s->longest;
    f->handoffs = s->stats.handoffs;
    f->pages_vcpu = s->stats.pages_vcpu;
    f->pages_userfaultfd = s->stats.pages_userfaultfd;
    f->pages_background = s->stats.pages_background;
    f->pages_wrong = count_wrong_pages(r);
}

void bench_run(const BenchSpec *spec, BenchFigures *f)
{
    Run r = { .spec = spec };
    uint8_t *pages;
    unsigned i;

    memset(f, 0, sizeof(*f));
    r.pages = (uint64_t)spec->threads * spec->faults;
    r.order = random_order(r.pages, spec->seed);
    r.latency = g_new0(uint64_t, r.pages);
    r.vcpu = qemu_memalign(64, sizeof(*r.vcpu) * spec->threads);
    memset(r.vcpu, 0, sizeof(*r.vcpu) * spec->threads);
    pages = qemu_memalign(PAGE_BYTES, PAGE_BYTES * spec->threads);
    for (i = 0; i < spec->threads; i++) {
        r.vcpu[i].handover.page = pages + i * PAGE_BYTES;
    }
    qemu_event_init(&r.go, false);
    qemu_event_init(&r.done, false);
    qemu_event_init(&r.leave, false);
    source_start(&r.source);
    make_memory(&r);
    service_init(&r.service, r.memory, r.pages * PAGE_BYTES, spec->threads,
                 r.source.sock, spec->mode != BENCH_USERFAULTFD);
    r.service.place = place;
    r.service.opaque = &r;

    start_workers(&r);
    measure(&r, f);
    end_workers(&r);
    f->source_complained = !source_stop(&r.source);
    f->answers = r.source.report.answers;
    f->source_cpu_ns = r.source.cpu_ns;
    collect(&r, f);

    service_destroy(&r.service);
    close(r.uffd);
    munmap(r.memory, r.pages * PAGE_BYTES);
    qemu_event_destroy(&r.leave);
    qemu_event_destroy(&r.done);
    qemu_event_destroy(&r.go);
    g_free(r.worker);
    qemu_vfree(pages);
    qemu_vfree(r.vcpu);
    g_free(r.latency);
    g_free(r.order);
}

const char *bench_wrong(const BenchSpec *spec, const BenchFigures *f)
{
    bool service = spec->mode != BENCH_USERFAULTFD;

    if (f->pages_wrong) {
        return "pages have not the source's content";
    }
    if (f->source_complained) {
        return "the source did not understand a request";
    }
    if (f->answers != f->faults) {
        return "pages were not asked for exactly once";
    }
    if (f->requests != (service ? f->faults : 0) || f->waits != f->requests) {
        return "vCPUs did not ask, and wait, once for each page";
    }
    if (service ? f->events : f->events < f->faults) {
        return "faults did not take the way they should";
    }
    if (f->pages_vcpu != (service ? f->faults : 0) ||
        f->pages_userfaultfd != (service ? 0 : f->faults) ||
        f->pages_background) {
        return "the statistics do not say who the pages were for";
    }
    return NULL;
}
