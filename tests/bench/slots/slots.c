// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How long does KVM take to switch userfault on and off for a memslot of nearly
 * 1 TiB?  QEMU's own part, the bitmaps, is in tests/bench/native.
 *
 * usage: slots [ROUNDS]
 *
 * The time is that of the ioctl, by the clock.  "mapped" is of how many regions of
 * 2 MiB KVM had mapped a page: at the begin of postcopy none, at its end up to all,
 * and for each of them KVM looks whether it can be a huge page now.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "lib.h"

#define GIB (1UL << 30)
#define GPA (4 * GIB)           /* behind what KVM needs for itself */
#define SIZE (1024 * GIB - GPA) /* as much as 40 bits of address allow */
#define PAGES (SIZE / PAGE)
#define ROUNDS 5
#define GOAL_MS 50.0

static const unsigned long mapped[] = { 0, 4096, 65536, 131072 };

static void *reserve(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    check(memory != MAP_FAILED, "%zu bytes", size);
    /* A page that is touched is to take no more than itself. */
    check(!madvise(memory, size, MADV_NOHUGEPAGE), "no huge pages");
    return memory;
}

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static double set_ms(struct vm *vm, const struct subject *s, uint32_t flags)
{
    double start = now_ms();

    subject_set(vm, s, flags);
    return now_ms() - start;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, unsigned n)
{
    qsort(values, n, sizeof(*values), compare);
    return values[n / 2];
}

/* A guest without long mode does not come there, so KVM is asked to. */
static void map(struct vcpu *vcpu, struct subject *s, unsigned long regions)
{
    for (unsigned long i = 0; i < regions; i++) {
        unsigned long page = PAGES / regions * i;
        struct pre_fault_memory range = {
            .gpa = page_gpa(s, page),
            .size = PAGE,
        };

        bit_clear(s, page);
        if (ioctl(vcpu->fd, PRE_FAULT_IOCTL, &range) < 0) {
            check(errno == ENOTTY || errno == EOPNOTSUPP, "%s", strerror(errno));
            skip("KVM maps no pages ahead");
        }
    }
}

struct times {
    double on, off;             /* ms */
};

static struct times measure(unsigned long regions, unsigned rounds)
{
    double on[rounds], off[rounds];
    struct times it;
    struct subject s = {
        .gpa = GPA,
        .pages = PAGES,
        .slot = SUBJECT_SLOT,
    };

    s.mem = reserve(SIZE);
    s.bitmap = reserve(PAGES / 8);
    for (unsigned i = 0; i < rounds; i++) {
        struct vcpu vcpu;
        struct vm vm;

        /* All absent; the bitmap's pages are there. */
        memset(s.bitmap, 0xff, PAGES / 8);
        vm_create(&vm);
        vcpu_create(&vm, &vcpu, MODE_FLAT);
        subject_set(&vm, &s, 0);
        on[i] = set_ms(&vm, &s, KVM_MEM_USERFAULT);
        map(&vcpu, &s, regions);
        off[i] = set_ms(&vm, &s, 0);
        vcpu_destroy(&vcpu);
        vm_destroy(&vm);
    }
    munmap(s.mem, SIZE);
    munmap(s.bitmap, PAGES / 8);
    it = (struct times) { median(on, rounds), median(off, rounds) };
    printf("%8lu %9.2f %9.2f\n", regions, it.on, it.off);
    fflush(stdout);
    return it;
}

static void verdict(const char *what, double worst)
{
    printf("%s: switching %s: at most %.0f ms: %.2f ms\n",
           worst <= GOAL_MS ? "met" : "NOT MET", what, GOAL_MS, worst);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? atoi(argv[1]) : ROUNDS;
    struct times it, worst = { 0, 0 };

    require_userfault();
    check(rounds > 0, "usage: slots [ROUNDS]");
    printf("a memslot of %lu GiB, bitmap of %.1f MiB; median of %u rounds, ms\n"
           "  mapped        on       off\n", SIZE / GIB, PAGES / 8 / 1048576.0, rounds);
    for (size_t i = 0; i < sizeof(mapped) / sizeof(*mapped); i++) {
        it = measure(mapped[i], rounds);
        worst.on = it.on > worst.on ? it.on : worst.on;
        worst.off = it.off > worst.off ? it.off : worst.off;
    }
    verdict("on", worst.on);
    verdict("off", worst.off);
    return EXIT_PASS;
}
