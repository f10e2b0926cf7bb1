/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * To be preloaded into QEMU (LD_PRELOAD): system calls and allocations fail,
 * vCPUs are slow to ask for a page, and bits of KVM userfault change, when a
 * test says so (meddle.py).
 *
 * MEDDLE=PATH  a file, struct board below, that is shared with the test: it
 *              writes orders at any moment, and reads what has become of them
 *
 * Calls        on any of QEMU's threads, of which an order may name some.
 * Owns         a table of the memslots that have a bitmap, and for each bit
 *              whether it was changed here; under slots_lock.  A memslot leaves
 *              it before the kernel hears of the change, so that its bitmap
 *              cannot be freed while it is in the table.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096ull
/* The kernel's headers here need not have these. */
#define EXIT_MEMORY_FAULT 39
#define EXIT_FLAG_USERFAULT (1u << 4)
#define MEM_USERFAULT (1u << 3)
#define SET_REGION2 0x40a0ae49
#define PRE_FAULT_MEMORY 0xc040aed5

struct region2 {
    uint32_t slot, flags;
    uint64_t gpa, size, host;
    uint64_t memfd_offset;
    uint32_t memfd, padding;
    uint64_t bitmap;
};

/* In struct kvm_run */
struct memory_fault {
    uint64_t flags, gpa, size;
};
#define MEMORY_FAULT_OFFSET 32

/* The order is that of CALLS in meddle.py. */
enum call {
    CALL_COPY, CALL_ZERO, CALL_SLOT_ON, CALL_SLOT_OFF, CALL_UNREGISTER,
    CALL_FAULT_POLL, CALL_FAULT_READ, CALL_SEND, CALL_RECEIVE, CALL_PARK,
    CALL_VCPU_POLL, CALL_BITMAP, CALL_TRY_ALLOC, CALL_PREFAULT, CALLS
};

/*
 * The orders and their answers; meddle.py has the same layout.  An error may be
 * PARTLY, for what is sent or received: a part of it is, as when a buffer is
 * full or has no more, and that takes a while.
 */
#define PARTLY (-1)
#define PART_US 20000           /* at most */
#define PIECES 64

struct order {
    int32_t countdown;          /* fails when it comes to 1 ... */
    int32_t times;              /* ... and so many times in all; 0: never */
    int32_t error;
    int32_t done;               /* fails after it has done its work, or, what
                                   KVM tries again, when a signal comes */
    char thread[16];            /* begin of the thread's name, or "" */
};

struct board {
    struct order order[CALLS];
    uint64_t seen[CALLS], failed[CALLS];
    int32_t slow_us;            /* at most, between exit and request */
    int32_t slow_one_in;        /* exits; 0: none */
    int32_t set_again;          /* bits that may yet be set again */
    int32_t clear_early;        /* likewise */
    uint64_t slowed;            /* exits */
    uint64_t bits_set, bits_set_noticed;
    uint64_t bits_cleared, bits_cleared_noticed;
};

static struct board *board;

#define NEXT(function) \
    ({ \
        static typeof(&function) next; \
        if (!next) { \
            next = dlsym(RTLD_NEXT, #function); \
        } \
        next; \
    })

static void __attribute__((constructor)) open_board(void)
{
    const char *path = getenv("MEDDLE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *at;

    if (fd < 0) {
        return;
    }
    at = (void *)syscall(SYS_mmap, (void *)NULL, sizeof(*board),
                         PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) {
        board = at;
    }
}

static void count(uint64_t *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* One more of @budget is used up, unless there is none. */
static bool take(int32_t *budget)
{
    if (__atomic_load_n(budget, __ATOMIC_RELAXED) <= 0) {
        return false;
    }
    return __atomic_fetch_sub(budget, 1, __ATOMIC_RELAXED) > 0;
}

static uint32_t random_below(uint32_t limit)
{
    static __thread uint32_t state;

    state = state ?: (uint32_t)(uintptr_t)&state | 1;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % limit;
}

static bool in_thread(const char *prefix)
{
    char name[17] = "";

    prctl(PR_GET_NAME, name);
    return !strncmp(name, prefix, strnlen(prefix, 15));
}

/* Is this call the one that fails?  The error, or 0. */
static int verdict(enum call call)
{
    struct order *order;
    int32_t left;

    if (!board) {
        return 0;
    }
    count(&board->seen[call]);
    order = &board->order[call];
    if (!__atomic_load_n(&order->times, __ATOMIC_ACQUIRE) ||
        !in_thread(order->thread)) {
        return 0;
    }
    left = __atomic_fetch_sub(&order->countdown, 1, __ATOMIC_RELAXED);
    if (left > 1 || left <= 1 - order->times) {
        return 0;
    }
    count(&board->failed[call]);
    return order->error;
}

/* --- memslots and their bits ---------------------------------------------- */

#define SLOTS 256

struct slot {
    bool used;
    int vm;
    uint32_t number;
    uint64_t gpa, size, host;
    uint64_t *bitmap;           /* KVM's */
    uint64_t *set, *cleared;    /* bits that were changed here */
};

static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot slots[SLOTS];

static bool test_bit(const uint64_t *map, uint64_t n)
{
    return __atomic_load_n(&map[n / 64], __ATOMIC_RELAXED) >> n % 64 & 1;
}

static void set_bit(uint64_t *map, uint64_t n)
{
    __atomic_fetch_or(&map[n / 64], 1ull << n % 64, __ATOMIC_SEQ_CST);
}

static bool clear_bit(uint64_t *map, uint64_t n)
{
    uint64_t bit = 1ull << n % 64;

    return __atomic_fetch_and(&map[n / 64], ~bit, __ATOMIC_SEQ_CST) & bit;
}

static void forget_locked(struct slot *s)
{
    free(s->set);
    free(s->cleared);
    s->used = false;
}

static void forget_slot(uint32_t number)
{
    pthread_mutex_lock(&slots_lock);
    for (struct slot *s = slots; s < slots + SLOTS; s++) {
        if (s->used && s->number == number) {
            forget_locked(s);
        }
    }
    pthread_mutex_unlock(&slots_lock);
}

/* Other machines were there to try the kernel, and are gone. */
static void remember_slot(int vm, const struct region2 *region)
{
    struct slot *room = NULL;
    size_t words = region->size / PAGE / 64 + 1;

    pthread_mutex_lock(&slots_lock);
    for (struct slot *s = slots; s < slots + SLOTS; s++) {
        if (s->used && s->vm != vm) {
            forget_locked(s);
        }
        room = s->used ? room : s;
    }
    if (room) {
        *room = (struct slot) {
            .used = true, .vm = vm, .number = region->slot,
            .gpa = region->gpa, .size = region->size, .host = region->host,
            .bitmap = (uint64_t *)(uintptr_t)region->bitmap,
            .set = calloc(words, 8), .cleared = calloc(words, 8),
        };
    }
    pthread_mutex_unlock(&slots_lock);
}

/* Call @change for the bit of each memslot that maps the host's page. */
static void for_host_page(uint64_t host,
                          void (*change)(struct slot *s, uint64_t n))
{
    pthread_mutex_lock(&slots_lock);
    for (struct slot *s = slots; s < slots + SLOTS; s++) {
        if (s->used && host - s->host < s->size) {
            change(s, (host - s->host) / PAGE);
        }
    }
    pthread_mutex_unlock(&slots_lock);
}

static void set_again(struct slot *s, uint64_t n)
{
    if (!test_bit(s->bitmap, n)) {
        set_bit(s->set, n);
        set_bit(s->bitmap, n);
        count(&board->bits_set);
    }
}

static void notice_cleared(struct slot *s, uint64_t n)
{
    if (clear_bit(s->cleared, n)) {
        count(&board->bits_cleared_noticed);
    }
}

/* Pages that this thread has placed; the bits of the oldest are clear now. */
static void placed(uint64_t host)
{
    static __thread uint64_t recent[16];
    static __thread unsigned next;
    uint64_t oldest = recent[next % 16];

    recent[next++ % 16] = host;
    if (oldest && take(&board->set_again)) {
        for_host_page(oldest, set_again);
    }
}

/* Pages near one that a vCPU lacks, which it is likely to touch soon */
static void clear_near(struct slot *s, uint64_t n)
{
    for (int tries = 0; tries < 16; tries++) {
        uint64_t near = n + random_below(512) + 1;

        if (near >= s->size / PAGE || !test_bit(s->bitmap, near)) {
            continue;
        }
        if (!take(&board->clear_early)) {
            return;
        }
        set_bit(s->cleared, near);
        clear_bit(s->bitmap, near);
        count(&board->bits_cleared);
    }
}

static void vcpu_left(uint64_t gpa)
{
    pthread_mutex_lock(&slots_lock);
    for (struct slot *s = slots; s < slots + SLOTS; s++) {
        if (s->used && gpa - s->gpa < s->size) {
            uint64_t n = (gpa - s->gpa) / PAGE;

            if (clear_bit(s->set, n)) {
                count(&board->bits_set_noticed);
            }
            if (__atomic_load_n(&board->clear_early, __ATOMIC_RELAXED) > 0) {
                clear_near(s, n);
            }
        }
    }
    pthread_mutex_unlock(&slots_lock);
}

/* --- vCPUs ---------------------------------------------------------------- */

#define FILES 1024
static struct kvm_run *run_of[FILES];

static bool is_vcpu(int fd)
{
    char link[32], name[64] = "";

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return readlink(link, name, sizeof(name) - 1) > 0 &&
           !strncmp(name, "anon_inode:kvm-vcpu", 19);
}

static void after_run(int fd, int result)
{
    struct kvm_run *run = fd < FILES ? run_of[fd] : NULL;
    const struct memory_fault *fault;

    if (result != -1 || errno != EFAULT || !run ||
        run->exit_reason != EXIT_MEMORY_FAULT) {
        return;
    }
    fault = (const void *)((const char *)run + MEMORY_FAULT_OFFSET);
    if (!(fault->flags & EXIT_FLAG_USERFAULT)) {
        return;
    }
    vcpu_left(fault->gpa);
    if (board->slow_one_in && !random_below(board->slow_one_in)) {
        count(&board->slowed);
        usleep(random_below(board->slow_us + 1));
    }
    errno = EFAULT;
}

/* --- the calls ------------------------------------------------------------ */

static int fail(int error)
{
    errno = error;
    return -1;
}

/* UFFDIO_COPY and UFFDIO_ZEROPAGE */
static int place(enum call call, int fd, unsigned long request, void *argument)
{
    int error = verdict(call);
    int result;

    if (error) {
        if (board->order[call].done) {
            /* Nobody hears of it. */
            if (call == CALL_COPY) {
                ((struct uffdio_copy *)argument)->mode |=
                    UFFDIO_COPY_MODE_DONTWAKE;
            } else {
                ((struct uffdio_zeropage *)argument)->mode |=
                    UFFDIO_ZEROPAGE_MODE_DONTWAKE;
            }
            /* If the kernel has an error of its own, nothing is there. */
            if (NEXT(ioctl)(fd, request, argument)) {
                return -1;
            }
        }
        return fail(error);
    }
    result = NEXT(ioctl)(fd, request, argument);
    if (!result && board) {
        /* Both begin with the address. */
        placed(*(uint64_t *)argument);
    }
    return result;
}

static int set_region(int fd, unsigned long request, void *argument)
{
    struct region2 region;
    int error = 0, result;

    memcpy(&region, argument, sizeof(region));
    if (region.size) {
        error = verdict(region.flags & MEM_USERFAULT ? CALL_SLOT_ON
                                                     : CALL_SLOT_OFF);
    }
    if (error) {
        return fail(error);
    }
    forget_slot(region.slot);
    result = NEXT(ioctl)(fd, request, argument);
    if (!result && board && region.size && (region.flags & MEM_USERFAULT)) {
        remember_slot(fd, &region);
    }
    return result;
}

int ioctl(int fd, unsigned long request, ...)
{
    void *argument;
    va_list list;
    int result, error;

    va_start(list, request);
    argument = va_arg(list, void *);
    va_end(list);
    switch (request) {
    case UFFDIO_COPY:
        return place(CALL_COPY, fd, request, argument);
    case UFFDIO_ZEROPAGE:
        return place(CALL_ZERO, fd, request, argument);
    case UFFDIO_UNREGISTER:
        error = verdict(CALL_UNREGISTER);
        return error ? fail(error) : NEXT(ioctl)(fd, request, argument);
    case PRE_FAULT_MEMORY:
        error = verdict(CALL_PREFAULT);
        if (error && board->order[CALL_PREFAULT].done) {
            pause();
        }
        return error ? fail(error) : NEXT(ioctl)(fd, request, argument);
    case SET_REGION2:
        return set_region(fd, request, argument);
    case KVM_RUN:
        result = NEXT(ioctl)(fd, request, argument);
        if (board) {
            after_run(fd, result);
        }
        return result;
    default:
        return NEXT(ioctl)(fd, request, argument);
    }
}

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    int error = 0;

    if (in_thread("mig/dst/fault") && n > 1) {
        error = verdict(CALL_FAULT_POLL);
    } else if (in_thread("CPU ") && n == 1) {
        error = verdict(CALL_VCPU_POLL);
    }
    return error ? fail(error) : NEXT(poll)(fds, n, timeout);
}

ssize_t read(int fd, void *buffer, size_t size)
{
    bool message = size == sizeof(struct uffd_msg) && in_thread("mig/dst/fault");
    int error = message ? verdict(CALL_FAULT_READ) : 0;
    ssize_t result = error ? fail(error) : NEXT(read)(fd, buffer, size);

    if (message && board && result == (ssize_t)size) {
        for_host_page(((struct uffd_msg *)buffer)->arg.pagefault.address,
                      notice_cleared);
    }
    return result;
}

static bool of_migration(void)
{
    return in_thread("mig/") || in_thread("CPU ");
}

/* Cuts @message down to 1 byte or more; @pieces is for what is left of it. */
static void cut_down(struct msghdr *message, struct iovec *pieces)
{
    size_t n, total = 0, left;

    for (n = 0; n < message->msg_iovlen && n < PIECES; n++) {
        pieces[n] = message->msg_iov[n];
        total += pieces[n].iov_len;
    }
    left = total ? 1 + random_below(total) : 0;
    for (n = 0; left; n++) {
        if (pieces[n].iov_len > left) {
            pieces[n].iov_len = left;
        }
        left -= pieces[n].iov_len;
    }
    message->msg_iov = pieces;
    message->msg_iovlen = n;
}

static void take_a_while(void)
{
    int error = errno;

    usleep(random_below(PART_US));
    errno = error;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    int error = of_migration() ? verdict(CALL_SEND) : 0;
    struct iovec pieces[PIECES];
    struct msghdr part;
    ssize_t sent;

    if (error != PARTLY) {
        return error ? fail(error) : NEXT(sendmsg)(fd, message, flags);
    }
    part = *message;
    cut_down(&part, pieces);
    sent = NEXT(sendmsg)(fd, &part, flags);
    take_a_while();
    return sent;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    int error = of_migration() ? verdict(CALL_RECEIVE) : 0;
    struct iovec pieces[PIECES];
    struct msghdr part;

    if (error != PARTLY) {
        return error ? fail(error) : NEXT(recvmsg)(fd, message, flags);
    }
    /* Descriptors that come with a message are not those of pages. */
    part = *message;
    cut_down(&part, pieces);
    take_a_while();
    return NEXT(recvmsg)(fd, &part, flags);
}

long syscall(long number, ...)
{
    long argument[6];
    va_list list;
    int error;

    va_start(list, number);
    for (int i = 0; i < 6; i++) {
        argument[i] = va_arg(list, long);
    }
    va_end(list);
    if (board && number == SYS_futex && argument[1] == FUTEX_WAIT_PRIVATE &&
        in_thread("CPU ")) {
        error = verdict(CALL_PARK);
        if (error) {
            return fail(error);
        }
    }
    return NEXT(syscall)(number, argument[0], argument[1], argument[2],
                         argument[3], argument[4], argument[5]);
}

/* A bitmap is an anonymous mapping whose length is no multiple of a page. */
void *mmap64(void *addr, size_t length, int protection, int flags, int fd,
             off64_t offset)
{
    bool bitmap = (flags & MAP_ANONYMOUS) && length % PAGE;
    int error = bitmap ? verdict(CALL_BITMAP) : 0;
    void *result;

    if (error) {
        errno = error;
        return MAP_FAILED;
    }
    result = NEXT(mmap64)(addr, length, protection, flags, fd, offset);
    if (result != MAP_FAILED && fd >= 0 && fd < FILES && !offset &&
        (flags & MAP_SHARED) && is_vcpu(fd)) {
        run_of[fd] = result;
    }
    return result;
}

/* GLib's; what QEMU asks for in this way it can do without. */
void *g_try_malloc0_n(size_t blocks, size_t bytes)
{
    return verdict(CALL_TRY_ALLOC) ? NULL : calloc(blocks, bytes);
}

void *g_try_malloc0(size_t bytes)
{
    return g_try_malloc0_n(1, bytes);
}
