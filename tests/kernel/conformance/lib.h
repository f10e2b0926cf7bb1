/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual machine of a few pages, and one guest instruction at a time
 *
 * Every program makes a VM, gives it a slot of memory under test ("the
 * subject") and lets vCPUs do single accesses.  A helper with _raw in its name
 * returns -errno and stays silent; the one without ends the program if the
 * kernel refuses.
 *
 * Threads: a struct vcpu belongs to the thread that runs it.  Slots are set by
 * the main thread.
 * Failure: check() prints where and what, and exits with 1; skip() says why and
 * exits with 77.  Every program has a deadline (see DEADLINE_S).
 */
#ifndef CONFORMANCE_LIB_H
#define CONFORMANCE_LIB_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvm-abi.h"

#define PAGE 4096UL
#define HUGE_PAGE (2UL << 20)
#define BITS_PER_LONG (8 * sizeof(long))

enum { EXIT_PASS = 0, EXIT_FAIL = 1, EXIT_SKIP = 77 };

/* A program that takes longer than this hangs, even on an emulated host. */
#define DEADLINE_S 120

/* Guest physical addresses.  The subject does not begin at 0 on purpose. */
#define CODE_GPA 0x0UL
#define CODE_SIZE 0x10000UL
#define SUBJECT_GPA 0x400000UL
#define MMIO_GPA 0xd0000000UL

/* Slot numbers. */
enum { CODE_SLOT = 0, SUBJECT_SLOT = 1, EXTRA_SLOT = 2, SMM_SLOTS = 1 << 16 };

/* The port that says "done", and the one of string output. */
enum { DONE_PORT = 0x10, STRING_PORT = 0x20 };

#define check(cond, ...)                                                      \
    do {                                                                      \
        if (!(cond)) {                                                        \
            fail_at(__FILE__, __LINE__, #cond, __VA_ARGS__);                  \
        }                                                                     \
    } while (0)

__attribute__((noreturn, format(printf, 4, 5)))
void fail_at(const char *file, int line, const char *cond, const char *fmt, ...);
__attribute__((noreturn, format(printf, 1, 2)))
void skip(const char *fmt, ...);

/* --- the machine ------------------------------------------------------------ */

struct vm {
    /* set once */
    int kvm_fd;
    int fd;
    int run_size;
    uint8_t *code;              /* host memory of CODE_SLOT */
    int nr_vcpus;
};

/* A piece of guest memory with its userfault bitmap. */
struct subject {
    /* set once */
    uint64_t gpa;
    unsigned long pages;
    uint32_t slot;
    uint8_t *mem;
    unsigned long *bitmap;      /* all clear at first */
};

enum mode {
    MODE_FLAT,                  /* protected mode, no paging */
    MODE_PAGED,                 /* 32-bit paging, linear == physical */
};

struct vcpu {
    /* set once */
    struct vm *vm;
    int fd;
    struct kvm_run *run;
    enum mode mode;
    bool irqs_on;               /* vcpu_start() sets EFLAGS.IF */
    /* thread of the vCPU only */
    bool io_pending;            /* KVM has yet to finish an instruction */
};

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC };

/* How one KVM_RUN ended. */
struct outcome {
    enum {
        DONE,                   /* the access happened; see value */
        USERFAULT,              /* exit by the bitmap; see fault */
        STRING_OUT,             /* OUTS; see value */
        OTHER,                  /* see err and exit_reason */
    } kind;
    int err;                    /* 0 or -errno of KVM_RUN */
    uint32_t exit_reason;
    struct memory_fault fault;
    uint8_t value;
};

/*
 * Make a VM with CODE_SLOT.  Skips where KVM is missing or cannot run a guest.
 */
void vm_create(struct vm *vm);
void vm_create_typed(struct vm *vm, unsigned long type);
void vm_destroy(struct vm *vm);

/* Skip unless the kernel has KVM userfault; decided by what it does. */
void require_userfault(void);

int vm_ioctl_raw(struct vm *vm, unsigned long request, void *arg);
int region2_raw(struct vm *vm, const struct region2 *region);

void *alloc_pages(unsigned long pages);
void subject_init(struct subject *s, unsigned long pages);
/* The request that subject_set() makes, to be changed and used with _raw. */
struct region2 subject_region(const struct subject *s, uint32_t flags);
int subject_set_raw(struct vm *vm, const struct subject *s, uint32_t flags);
void subject_set(struct vm *vm, const struct subject *s, uint32_t flags);
uint64_t page_gpa(const struct subject *s, unsigned long page);
uint8_t *page_mem(const struct subject *s, unsigned long page);

void bit_set(struct subject *s, unsigned long page);
/* Store-release: what was written to the page before is visible with it. */
void bit_clear(struct subject *s, unsigned long page);
bool bit_test(const struct subject *s, unsigned long page);

/* --- vCPUs -------------------------------------------------------------------- */

void vcpu_create(struct vm *vm, struct vcpu *vcpu, enum mode mode);
void vcpu_destroy(struct vcpu *vcpu);

/* Put the vCPU before an access; vcpu_run() does it. */
void vcpu_start(struct vcpu *vcpu, enum access access, uint64_t gpa,
                uint8_t value);
/* Put the vCPU before OUTSB from gpa. */
void vcpu_start_outs(struct vcpu *vcpu, uint64_t gpa);
/* Put the vCPU before a loop: read a byte at gpa, count at counter_gpa. */
void vcpu_start_loop(struct vcpu *vcpu, uint64_t gpa, uint64_t counter_gpa);

struct outcome vcpu_run(struct vcpu *vcpu);
/* vcpu_start() and vcpu_run(). */
struct outcome vcpu_access(struct vcpu *vcpu, enum access access, uint64_t gpa,
                           uint8_t value);
/*
 * As vcpu_access(), for programs with another question than "does it exit
 * once more": an exit for a page of s whose bit is clear is entered again, as
 * userspace must do.  The number of these is bounded.
 */
struct outcome vcpu_access_patient(struct vcpu *vcpu, const struct subject *s,
                                   enum access access, unsigned long page,
                                   uint8_t value);
struct outcome vcpu_run_patient(struct vcpu *vcpu, const struct subject *s);

/* The run ended with an exit for exactly this page; with the access done. */
#define expect_userfault(o, gpa) \
    expect_userfault_at(__FILE__, __LINE__, o, gpa)
#define expect_done(o) expect_done_at(__FILE__, __LINE__, o)
void expect_userfault_at(const char *file, int line, struct outcome o,
                         uint64_t gpa);
void expect_done_at(const char *file, int line, struct outcome o);
const char *outcome_text(struct outcome o);

/* A value of the VM's binary statistics; -1 if there is none of that name. */
long vm_stat(struct vm *vm, const char *name);

/* A guest_memfd for the whole subject; skips where there is none. */
int gmem_create(struct vm *vm, const struct subject *s);
/* subject_set_raw() for a slot of guest_memfd. */
int gmem_set_raw(struct vm *vm, const struct subject *s, uint32_t flags,
                 int gmem, uint64_t offset);
void make_private(struct vm *vm, uint64_t gpa, uint64_t size);
/* Does the kernel have VMs with guest_memfd that need no special hardware? */
bool has_gmem_vms(void);

int msr_set_raw(struct vcpu *vcpu, uint32_t index, uint64_t value);

/* --- userfaultfd ---------------------------------------------------------------- */

/* Register for missing pages; skips where userfaultfd cannot be used. */
int uffd_register(void *mem, unsigned long size);
/* The address of the next fault, NULL if there is none within ms. */
uint8_t *uffd_wait(int uffd, int ms);
/* Fill a page and wake who waits for it. */
void uffd_place(int uffd, void *page, uint8_t value);

#endif /* CONFORMANCE_LIB_H */
