/*
 * What does KVM userfault make possible for huge pages in postcopy?
 *
 *   huge-bench --threads 1,4,16 --link 0,1250 --rounds 5
 *
 * Guest RAM is a memfd of huge pages.  The *guarded* mapping stands for the one
 * that QEMU and vhost use, and is registered with userfaultfd.  There may be an
 * *alias*, a second mapping of the same memory, through which pieces of 4 KiB
 * are filled as they come; vCPUs use it as far as KVM's bitmap lets them.
 *
 *   whole        no alias.  The host page is collected and placed with
 *                UFFDIO_COPY, as today.  All that follow have the alias:
 *   in-order     the source is as today
 *   from-piece   so is it, but a request begins with the piece that is needed
 *   piece-first  the source sends just that, and the rest in the background
 *   kept         likewise, and the destination's huge pages stay as precopy
 *                left them, outdated, with the guarded mapping closed
 *
 * Threads      vCPUs, which touch pieces at random; a loader for each channel;
 *              the fault thread; the device, which touches the guarded mapping;
 *              the main thread, which starts and measures.
 * Owns         the memory and its mappings, for a run.
 * Orderings    A piece is filled before its bit is cleared, and counted after
 *              that; who counts the last piece of a host page opens the guarded
 *              mapping, so all pieces are filled before that.
 * Failure      ends the program.
 *
 * The guarded mapping may show nothing of a host page that is not whole.
 * huge_guard_holds() tries it by hand, the device in each run; --break takes the
 * guard away, and both must notice.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include "qemu/atomic.h"
#include "qemu/bswap.h"
#include "qemu/memalign.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "clock.h"
#include "huge-guard.h"
#include "huge-memory.h"
#include "huge-source.h"
#include "service.h"

#define LOADER_BUFFER (32 * KiB)
#define DEVICE_TOUCHES 32

typedef struct Mode {
    const char *name;
    HugeOrder order;
    bool alias, kept;
} Mode;

static const Mode modes[] = {
    { "whole", HUGE_IN_ORDER, false, false },
    { "in-order", HUGE_IN_ORDER, true, false },
    { "from-piece", HUGE_FROM_PIECE, true, false },
    { "piece-first", HUGE_PIECE_FIRST, true, false },
    { "kept", HUGE_PIECE_FIRST, true, true },
};

typedef struct Run Run;

typedef struct Worker {
    /* Set once */
    Run *run;
    void (*work)(struct Worker *w);
    pthread_t thread;
    int sock;                   /* of a loader */
    Vcpu *vcpu;
    unsigned first;             /* of its places */
    unsigned count;
    uint32_t seed;              /* of the device */
    /* Its own, until it has been joined */
    uint64_t reads, ioctls;
    uint64_t early;             /* touches of a host page that was not whole */
    uint64_t *latency;          /* of touches that had to wait */
    unsigned waited;
    uint8_t *collected;         /* a host page, if there is no alias */
    unsigned pieces;            /* so many of it */
} Worker;

struct Run {
    /* Set once */
    const Mode *mode;
    Service service;
    Source source;
    int fd, uffd, background;
    uint8_t *guarded, *alias;   /* alias: equals guarded if there is none */
    uint64_t *place;            /* pieces that vCPUs touch, in this order */
    Vcpu *vcpu;
    Worker *worker;
    unsigned vcpus, workers;
    /* All, atomically */
    unsigned *come;             /* pieces of each host page */
    uint64_t whole;             /* host pages */
    unsigned ready, running;
    bool quit;
    QemuEvent go, touched, complete;
};

static char *threads = (char *)"1,4,16", *links = (char *)"0,1250";
static char *how = (char *)"", *only = (char *)"";
static HugeBreakage breakage;
static gint mib = 512, host_kib = 2048, touches = 1024, rounds = 5, limit = 120;
static uint64_t bytes, host_page, per_page, host_pages;

static GOptionEntry options[] = {
    { "threads", 0, 0, G_OPTION_ARG_STRING, &threads, "vCPUs", "N,..." },
    { "link", 0, 0, G_OPTION_ARG_STRING, &links,
      "MB/s that the source may send; 0: no limit", "N,..." },
    { "mode", 0, 0, G_OPTION_ARG_STRING, &only, "just this one", "NAME" },
    { "mib", 0, 0, G_OPTION_ARG_INT, &mib, "memory", "N" },
    { "host-page", 0, 0, G_OPTION_ARG_INT, &host_kib,
      "2048 or 1048576", "KIB" },
    { "touches", 0, 0, G_OPTION_ARG_INT, &touches, "of all vCPUs", "N" },
    { "rounds", 0, 0, G_OPTION_ARG_INT, &rounds, "how often", "N" },
    { "limit", 0, 0, G_OPTION_ARG_INT, &limit,
      "seconds after which a run is killed", "S" },
    { "break", 0, 0, G_OPTION_ARG_STRING, &how,
      "take the guard away: register as \"missing\", or \"open\" with the "
      "first piece", "HOW" },
    { NULL }
};

static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

/*
 * So that no run pays for what a virtual machine's host does for memory that
 * has not been used yet
 */
static void warm_up(void)
{
    int fd = huge_memfd(bytes, host_page);
    uint8_t *memory = huge_map(fd, bytes);

    memset(memory, 1, bytes);
    munmap(memory, bytes);
    close(fd);
}

/* ------------------------------------------------------------------------- */
/* vCPUs and the device */

static bool wait_and_touch(Run *r, Vcpu *v, uint64_t piece)
{
    uint64_t offset = piece * PAGE_BYTES;
    bool waited = false;

    while (service_exits(&r->service, offset)) {
        service_fault(&r->service, v, QEMU_ALIGN_DOWN(
            offset, r->service.block.page_bytes));
        waited = true;
    }
    if (!huge_piece_right(r->alias, piece)) {
        g_error("piece %" PRIu64 " has not its content when touched", piece);
    }
    return waited;
}

static void run_vcpu(Worker *w)
{
    Run *r = w->run;
    uint64_t start;
    unsigned i;

    for (i = w->first; i < w->first + w->count; i++) {
        start = clock_ns(CLOCK_MONOTONIC);
        if (wait_and_touch(r, w->vcpu, r->place[i])) {
            w->latency[w->waited++] = clock_ns(CLOCK_MONOTONIC) - start;
        }
    }
    if (qatomic_fetch_dec(&r->running) == 1) {
        qemu_event_set(&r->touched);
    }
}

/* Any access of QEMU or vhost: by the guarded mapping, at any place */
static void run_device(Worker *w)
{
    Run *r = w->run;
    uint64_t page, piece, start;
    unsigned i;

    for (i = 0; i < DEVICE_TOUCHES; i++) {
        page = next_random(&w->seed) % host_pages;
        piece = page * per_page + next_random(&w->seed) % per_page;
        if (qatomic_load_acquire(&r->come[page]) == per_page) {
            continue;
        }
        start = clock_ns(CLOCK_MONOTONIC);
        qatomic_read((uint64_t *)(r->guarded + piece * PAGE_BYTES));
        w->latency[w->waited++] = clock_ns(CLOCK_MONOTONIC) - start;
        if (qatomic_load_acquire(&r->come[page]) != per_page) {
            w->early++;
        } else if (!huge_piece_right(r->guarded, piece)) {
            g_error("the device read a wrong byte");
        }
    }
}

/* ------------------------------------------------------------------------- */
/* Loaders */

static void page_whole(Run *r)
{
    if (qatomic_fetch_inc(&r->whole) == host_pages - 1) {
        qemu_event_set(&r->complete);
    }
}

static void place_through_alias(Worker *w, uint64_t piece, const uint8_t *from)
{
    Run *r = w->run;
    uint64_t page = piece / per_page;
    unsigned before;

    memcpy(r->alias + piece * PAGE_BYTES, from, PAGE_BYTES);
    service_placed(&r->service, piece * PAGE_BYTES);
    before = qatomic_fetch_inc(&r->come[page]);
    g_assert(before < per_page);
    if (before == per_page - 1 || (before == 0 && breakage == HUGE_OPEN)) {
        huge_open(r->uffd, r->guarded + page * host_page, host_page,
                  breakage);
        w->ioctls++;
    }
    if (before == per_page - 1) {
        page_whole(r);
    }
}

/* The host page comes in order and on one channel, or the stream is wrong. */
static void place_whole(Worker *w, uint64_t piece, const uint8_t *from)
{
    Run *r = w->run;
    uint64_t page = piece / per_page;
    struct uffdio_copy copy = {
        .dst = (uintptr_t)r->guarded + page * host_page,
        .src = (uintptr_t)w->collected, .len = host_page,
    };

    g_assert(piece % per_page == w->pieces);
    memcpy(w->collected + w->pieces++ * PAGE_BYTES, from, PAGE_BYTES);
    if (w->pieces == per_page) {
        w->pieces = 0;
        qatomic_store_release(&r->come[page], per_page);
        if (ioctl(r->uffd, UFFDIO_COPY, &copy)) {
            g_error("UFFDIO_COPY: %s", g_strerror(errno));
        }
        w->ioctls++;
        service_placed(&r->service, page * host_page);
        page_whole(r);
    }
}

static void run_loader(Worker *w)
{
    g_autofree uint8_t *buffer = g_malloc(LOADER_BUFFER);
    size_t have = 0, used;
    ssize_t ret;
    uint64_t piece;

    while ((ret = read(w->sock, buffer + have, LOADER_BUFFER - have)) > 0) {
        w->reads++;
        have += ret;
        for (used = 0; have - used >= ANSWER_BYTES; used += ANSWER_BYTES) {
            piece = ldq_be_p(buffer + used) / PAGE_BYTES;
            g_assert(piece < host_pages * per_page);
            (w->run->mode->alias ? place_through_alias : place_whole)(
                w, piece, buffer + used + ANSWER_HEADER);
        }
        have -= used;
        memmove(buffer, buffer + used, have);
    }
    g_assert(ret == 0 && have == 0 && w->pieces == 0);
}

/* ------------------------------------------------------------------------- */
/* Fault thread: for the device; also sends what vCPUs could not */

static void run_fault_thread(Worker *w)
{
    Run *r = w->run;
    struct pollfd pfd[] = {
        { .fd = r->uffd, .events = POLLIN },
        { .fd = r->service.event_fd, .events = POLLIN },
    };
    struct uffd_msg msg;
    eventfd_t value;

    while (!qatomic_read(&r->quit)) {
        if (poll(pfd, 2, -1) < 0) {
            g_error("poll: %s", g_strerror(errno));
        }
        if (pfd[1].revents) {
            eventfd_read(r->service.event_fd, &value);
            service_flush(&r->service);
        }
        if (pfd[0].revents && read(r->uffd, &msg, sizeof(msg)) == sizeof(msg)) {
            /* All of the host page is needed. */
            service_request(&r->service, QEMU_ALIGN_DOWN(
                msg.arg.pagefault.address - (uintptr_t)r->guarded, host_page),
                host_page);
        }
    }
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

static void start_workers(Run *r, unsigned round)
{
    unsigned share = DIV_ROUND_UP(touches, r->vcpus), i;

    r->workers = r->vcpus + 4;
    r->worker = g_new0(Worker, r->workers);
    r->running = r->vcpus;
    for (i = 0; i < r->workers; i++) {
        Worker *w = &r->worker[i];
        unsigned other = i - r->vcpus;

        w->run = r;
        if (i < r->vcpus) {
            w->work = run_vcpu;
            w->vcpu = &r->vcpu[i];
            w->first = MIN(i * share, touches);
            w->count = MIN(share, touches - w->first);
            w->latency = g_new0(uint64_t, w->count);
        } else if (other < 2) {
            w->work = run_loader;
            w->sock = other ? r->background : r->source.sock;
            if (!r->mode->alias) {
                w->collected = qemu_memalign(host_page, host_page);
                memset(w->collected, 0, host_page);
            }
        } else if (other == 2) {
            w->work = run_fault_thread;
        } else {
            w->work = run_device;
            w->latency = g_new0(uint64_t, DEVICE_TOUCHES);
            w->seed = 88172645u + round;
        }
        if (pthread_create(&w->thread, NULL, worker_main, w)) {
            g_error("no thread");
        }
    }
    while (qatomic_read(&r->ready) != r->workers) {
        g_usleep(1000);
    }
    g_usleep(20000);
}

static void start_source(Run *r, uint64_t link)
{
    int pair[2];
    HugeSource spec = {
        .order = r->mode->order, .bytes = bytes, .host_page = host_page,
        .link = link * 1000000,
    };

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        g_error("socketpair: %s", g_strerror(errno));
    }
    spec.other_end = r->background = pair[0];
    spec.background = pair[1];
    /* It begins to send at once: what does not fit into the sockets waits. */
    source_start_with(&r->source, huge_source_serve, &spec);
    close(pair[1]);
}

static void make_memory(Run *r)
{
    uint64_t page;

    r->fd = huge_memfd(bytes, host_page);
    r->guarded = r->alias = huge_map(r->fd, bytes);
    r->uffd = huge_guard(r->guarded, bytes,
                         r->mode->alias && breakage != HUGE_MISSING);
    if (r->mode->alias) {
        r->alias = huge_map(r->fd, bytes);
    }
    if (r->mode->kept) {
        /* What precopy brought, outdated; and the guarded mapping closed */
        memset(r->alias, 0xee, bytes);
        for (page = 0; page < host_pages; page++) {
            huge_open(r->uffd, r->guarded + page * host_page, host_page,
                      breakage);
        }
        if (madvise(r->guarded, bytes, MADV_DONTNEED)) {
            g_error("MADV_DONTNEED: %s", g_strerror(errno));
        }
    }
}

static void init_run(Run *r, uint64_t link, unsigned round)
{
    uint32_t seed = 2463534242u + round;
    int i;

    r->come = g_new0(unsigned, host_pages);
    r->place = g_new(uint64_t, touches);
    for (i = 0; i < touches; i++) {
        r->place[i] = next_random(&seed) % host_pages * per_page;
        r->place[i] += next_random(&seed) % per_page;
    }
    r->vcpu = qemu_memalign(64, sizeof(*r->vcpu) * r->vcpus);
    memset(r->vcpu, 0, sizeof(*r->vcpu) * r->vcpus);
    qemu_event_init(&r->go, false);
    qemu_event_init(&r->touched, false);
    qemu_event_init(&r->complete, false);
    start_source(r, link);
    make_memory(r);
    service_init_pages(&r->service, r->guarded, bytes,
                       r->mode->alias ? PAGE_BYTES : host_page, r->vcpus,
                       r->source.sock, true);
}

static void destroy_run(Run *r)
{
    unsigned i;

    for (i = 0; i < r->workers; i++) {
        g_free(r->worker[i].latency);
        qemu_vfree(r->worker[i].collected);
    }
    g_free(r->worker);
    service_destroy(&r->service);
    close(r->uffd);
    if (r->alias != r->guarded) {
        munmap(r->alias, bytes);
    }
    munmap(r->guarded, bytes);
    close(r->fd);
    close(r->background);
    qemu_event_destroy(&r->complete);
    qemu_event_destroy(&r->touched);
    qemu_event_destroy(&r->go);
    qemu_vfree(r->vcpu);
    g_free(r->place);
    g_free(r->come);
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static uint64_t part_of(GArray *sorted, unsigned percent)
{
    return sorted->len ?
           g_array_index(sorted, uint64_t, sorted->len * percent / 100) : 0;
}

static void print_latencies(Run *r, const char *name, unsigned from,
                            unsigned to)
{
    g_autoptr(GArray) all = g_array_new(false, false, sizeof(uint64_t));

    for (; from < to; from++) {
        g_array_append_vals(all, r->worker[from].latency,
                            r->worker[from].waited);
    }
    g_array_sort(all, compare_numbers);
    printf(", \"%s_waited\": %u, \"%s_p50_ns\": %" PRIu64 ", \"%s_p99_ns\": %"
           PRIu64, name, all->len, name, part_of(all, 50), name,
           part_of(all, 99));
}

/* What is wrong with the outcome, or NULL */
static const char *wrong(Run *r, bool complained)
{
    uint64_t piece;

    for (piece = 0; piece < host_pages * per_page; piece++) {
        if (!huge_piece_right(r->guarded, piece) || !huge_piece_right(r->alias, piece)) {
            return "a piece has a wrong byte";
        }
    }
    if (r->worker[r->vcpus + 3].early) {
        return "the device read from a host page that was not whole";
    }
    if (complained || r->source.report.answers != host_pages * per_page) {
        return "the source complained, or sent a piece twice";
    }
    return NULL;
}

static bool run_once(const Mode *mode, unsigned vcpus, uint64_t link,
                     unsigned round)
{
    Run r = { .mode = mode, .vcpus = vcpus };
    uint64_t start, touched, complete, cpu, sleeps = 0;
    bool complained;
    const char *why;
    unsigned i;

    alarm(limit);
    init_run(&r, link, round);
    start_workers(&r, round);
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    start = clock_ns(CLOCK_MONOTONIC);
    qemu_event_set(&r.go);
    qemu_event_wait(&r.touched);
    touched = clock_ns(CLOCK_MONOTONIC) - start;
    qemu_event_wait(&r.complete);
    complete = clock_ns(CLOCK_MONOTONIC) - start;
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;

    for (i = 0; i < r.workers; i++) {
        /* The device may still ask; all others end with the connection. */
        if (r.worker[i].work == run_device) {
            pthread_join(r.worker[i].thread, NULL);
        }
    }
    shutdown(r.source.sock, SHUT_WR);
    qatomic_set(&r.quit, true);
    eventfd_write(r.service.event_fd, 1);
    for (i = 0; i < r.workers; i++) {
        if (r.worker[i].work != run_device) {
            pthread_join(r.worker[i].thread, NULL);
        }
    }
    complained = !source_stop(&r.source);
    for (i = 0; i < vcpus; i++) {
        sleeps += r.vcpu[i].stats.waits;
    }
    why = wrong(&r, complained);
    alarm(0);
    if (why) {
        fprintf(stderr, "%s, %u vCPUs: %s\n", mode->name, vcpus, why);
    } else {
        Worker *l = &r.worker[vcpus];

        printf("{\"mode\": \"%s\", \"threads\": %u, \"link\": %" PRIu64
               ", \"round\": %u, \"host_pages\": %" PRIu64 ", \"touches\": %d"
               ", \"touched_ns\": %" PRIu64 ", \"complete_ns\": %" PRIu64
               ", \"cpu_ns\": %" PRIu64 ", \"reads\": %" PRIu64
               ", \"ioctls\": %" PRIu64 ", \"requests\": %" PRIu64
               ", \"sleeps\": %" PRIu64 ", \"source_calls\": %" PRIu64,
               mode->name, vcpus, link, round, host_pages, touches, touched,
               complete, cpu, l[0].reads + l[1].reads,
               l[0].ioctls + l[1].ioctls, r.service.writes, sleeps,
               r.source.report.reads + r.source.report.writes);
        print_latencies(&r, "vcpu", 0, vcpus);
        print_latencies(&r, "device", vcpus + 3, vcpus + 4);
        printf("}\n");
        fflush(stdout);
    }
    destroy_run(&r);
    return !why;
}

static bool run_round(unsigned round)
{
    g_auto(GStrv) vcpus = g_strsplit(threads, ",", 0);
    g_auto(GStrv) link = g_strsplit(links, ",", 0);
    unsigned i, j, m;

    for (j = 0; link[j]; j++) {
        for (i = 0; vcpus[i]; i++) {
            for (m = 0; m < ARRAY_SIZE(modes); m++) {
                const Mode *mode = &modes[round % 2 ? ARRAY_SIZE(modes) - 1 - m
                                                    : m];

                if ((!*only || g_str_equal(only, mode->name)) &&
                    !run_once(mode, atoi(vcpus[i]), atoi(link[j]), round)) {
                    return false;
                }
            }
        }
    }
    return true;
}

/* ------------------------------------------------------------------------- */

static bool enough_pages(void)
{
    g_autofree char *folder = g_strdup_printf(
        "/sys/kernel/mm/hugepages/hugepages-%dkB", host_kib);
    g_autofree char *file = g_strdup_printf("%s/free_hugepages", folder);
    g_autofree char *text = NULL;
    uint64_t are = 0;

    if (g_file_get_contents(file, &text, NULL, NULL)) {
        are = strtoull(text, NULL, 10);
    }
    if (are < host_pages) {
        fprintf(stderr, "%" PRIu64 " huge pages of %d KiB are needed and %"
                PRIu64 " are free; as root: echo %" PRIu64
                " > %s/nr_hugepages\n", host_pages, host_kib, are, host_pages,
                folder);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    int round;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return 2;
    }
    if (!huge_breakage(how, &breakage)) {
        fprintf(stderr, "nothing to break is called \"%s\"\n", how);
        return 2;
    }
    bytes = mib * MiB;
    host_page = host_kib * KiB;
    per_page = host_page / PAGE_BYTES;
    host_pages = host_page ? bytes / host_page : 0;
    if (!is_power_of_2(host_page) || !host_pages || bytes % host_page ||
        touches < 1 || rounds < 1 || limit < 1) {
        fprintf(stderr, "a number is too small, or a page is not whole\n");
        return 2;
    }
    if (!enough_pages()) {
        return 1;
    }
    /* "open" is a fault of the loaders: the device has to notice that. */
    if (!huge_guard_holds(host_page, breakage)) {
        fprintf(stderr, "the guarded mapping shows a host page that is not "
                "whole\n");
        return 1;
    }
    warm_up();
    for (round = 0; round < rounds; round++) {
        if (!run_round(round)) {
            return 1;
        }
    }
    return 0;
}
