/*
 * The fault service of migration/postcopy-userfault.c on plain memory
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BENCH_NATIVE_SERVICE_H
#define BENCH_NATIVE_SERVICE_H

#include "postcopy-request.h"
#include "postcopy-userfault-stats.h"
#include "postcopy-wait.h"
#include "userfault-map.h"

typedef struct Block {
    /* Set once */
    uint8_t *host;
    uint64_t bytes;
    uint64_t page_bytes;        /* what is asked for and placed at once */
    unsigned long *present;     /* atomically */
    PostcopyRequestMap map;
} Block;

typedef struct Vcpu {
    /* This vCPU's thread only */
    QemuPark park;
    bool inside;
    PostcopyVcpuStats stats;
    /* Set once: its page, if it takes one */
    PostcopyHandover handover;
} QEMU_ALIGNED(64) Vcpu;

/* Fill the page at @offset with @from, so that all who touch it go on. */
typedef void ServicePlace(void *opaque, uint64_t offset, const uint8_t *from);

typedef struct Service {
    /* Set once */
    Block block;
    bool serving;               /* else userfaultfd serves the vCPUs */
    int sock;                   /* to the source */
    int event_fd;               /* tells the fault thread of requests to send */
    ServicePlace *place;        /* set by who calls service_arrived() */
    void *opaque;
    GHashTable *blocks;
    UserfaultMap *views;
    PostcopyWaitTable *waits;
    PostcopyRequestQueue *queue;
    /* Under rp_mutex, which QEMU has in MigrationIncomingState */
    QemuMutex rp_mutex;
    uint8_t *buffer;            /* of what goes to the source */
    uint64_t writes;
    uint64_t longest;           /* requests in one write */
    /* Under page_request_mutex, likewise */
    QemuMutex page_request_mutex;
    GTree *page_requested;
    /* Under stats_lock, but for what postcopy-userfault-stats.h says */
    QemuMutex stats_lock;
    PostcopyServiceStats stats;
    uint64_t flushes;               /* under rp_mutex */
} Service;

/**
 * service_init: get ready to serve
 * @s: storage, zeroed
 * @host: memory, absent
 * @bytes: its length
 * @vcpus: how many threads may wait
 * @sock: connection to the source
 * @serving: false if userfaultfd serves the vCPUs
 */
void service_init(Service *s, uint8_t *host, uint64_t bytes, unsigned vcpus,
                  int sock, bool serving);

/**
 * service_init_pages: the same for pages of @page_bytes
 *
 * Offsets in the functions below are then multiples of that, but for
 * service_exits(): KVM's bitmap always has PAGE_BYTES.
 */
void service_init_pages(Service *s, uint8_t *host, uint64_t bytes,
                        uint64_t page_bytes, unsigned vcpus, int sock,
                        bool serving);

/**
 * service_destroy: nobody is in any of these functions
 */
void service_destroy(Service *s);

/**
 * service_exits: whether KVM would make a vCPU exit that touches a page
 */
bool service_exits(Service *s, uint64_t offset);

/**
 * service_fault: what a vCPU does between its exit and the next KVM_RUN
 * @s: the service
 * @v: the calling thread's own
 * @gpa: guest address; equals the offset in the block
 */
void service_fault(Service *s, Vcpu *v, uint64_t gpa);

/**
 * service_wait_begin, service_ask, service_wait_end: the steps of
 * service_fault() for a page that is absent, one by one
 *
 * @waiter: stays valid from the first to the last
 * service_wait_begin() returns false, and the rest is left out, if the page
 * has come; service_wait_end() sleeps first, unless it has come.
 */
bool service_wait_begin(Service *s, Vcpu *v, uint64_t offset,
                        PostcopyWaiter *waiter);
void service_ask(Service *s, Vcpu *v, uint64_t offset);
bool service_wait_end(Service *s, Vcpu *v, PostcopyWaiter *waiter);

/**
 * service_flush: send what vCPUs could not; fault thread
 */
void service_flush(Service *s);

/**
 * service_request: ask for @length bytes, on the first page of which a thread
 * waits in userfaultfd; fault thread
 */
void service_request(Service *s, uint64_t offset, uint64_t length);

/**
 * service_arrived: a loader has read a page
 *
 * Has the vCPU that waits for it alone place it, if there is @more to read; or
 * places it.
 */
void service_arrived(Service *s, uint64_t offset, const uint8_t *from,
                     bool more);

/**
 * service_placed: a page has been filled
 */
void service_placed(Service *s, uint64_t offset);

#endif
