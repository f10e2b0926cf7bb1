/*
 * The machine around the migration code: RAM blocks, memslots, userfaultfd
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_FUZZ_MACHINE_H
#define TESTS_FUZZ_MACHINE_H

#include "system/userfault-headers.h"

#define PAGE_BITS 12
#define PAGE_BYTES (1u << PAGE_BITS)

enum {
    BLOCK_RAM,          /* small pages, an odd number of them */
    BLOCK_SHRUNK,       /* longer here than on the source */
    BLOCK_HUGE,         /* host pages of 16 small ones */
    BLOCK_SPARSE,       /* half of it is discarded, as with virtio-mem */
    BLOCKS,
};

/* In the order of ram_list */
extern RAMBlock machine_block[BLOCKS];

/**
 * machine_init: once
 */
void machine_init(void);

/**
 * machine_begin: fresh memory, all of it absent, and all memslots
 * @destination: whether there is a block with discarded pages
 * @vcpus: how many the machine has
 */
void machine_begin(bool destination, unsigned vcpus);

/**
 * machine_end: free what machine_begin() has taken
 */
void machine_end(void);

/* Small pages that can arrive: those that the source has */
static inline unsigned machine_pages(const RAMBlock *rb)
{
    return rb->postcopy_length >> PAGE_BITS;
}

static inline unsigned machine_block_number(const RAMBlock *rb)
{
    return rb - machine_block;
}

/**
 * machine_discarded: whether a page is not plugged in
 */
bool machine_discarded(const RAMBlock *rb, uint64_t offset);

/* ------------------------------------------------------------------------- */
/* Memslots */

#define MACHINE_SLOTS 6

typedef struct MachineSlot {
    /* Set once */
    unsigned as;
    uint64_t gpa;
    unsigned block, first, pages;
    /* As the last ioctl said */
    bool there;
    const unsigned long *bitmap;
} MachineSlot;

/* Changed by the main thread, when no vCPU runs */
extern MachineSlot machine_slot[MACHINE_SLOTS];

/**
 * machine_slot_set: plug a memslot in, or take it away
 */
void machine_slot_set(unsigned number, bool there);

/**
 * machine_slot_at: the memslot at a guest address, or NULL
 */
const MachineSlot *machine_slot_at(unsigned as, uint64_t gpa);

static inline bool machine_slot_armed(const MachineSlot *s, unsigned page)
{
    return s->bitmap && (qatomic_read(&s->bitmap[page / 64]) >> page % 64 & 1);
}

/**
 * machine_grace_period: free what waits for RCU; nobody is in a critical
 * section
 */
void machine_grace_period(void);

/* ------------------------------------------------------------------------- */
/* userfaultfd */

/* Descriptor of the userfaultfd that there is not */
#define MACHINE_UFFD 100000

typedef struct MachineUffd {
    int error;                  /* of the next placing, then 0 */
    unsigned placed;            /* host pages */
    unsigned placed_given;      /* of these, by vCPUs that were given them */
    unsigned vcpu_errors;       /* of placings by vCPUs, before they wait */
} MachineUffd;

extern MachineUffd machine_uffd;

/* BQL: held by the main thread only; a vCPU that takes it fails */
extern __thread bool machine_is_main;

#endif
