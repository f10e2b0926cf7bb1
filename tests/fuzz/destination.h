/*
 * The destination of a hostile source: its state, and what must hold
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_FUZZ_DESTINATION_H
#define TESTS_FUZZ_DESTINATION_H

#include "migration/migration.h"
#include "channel.h"
#include "machine.h"

#define MAX_PAGES 256

/* What has been asked for over the connection that there is now */
typedef struct Wire {
    RAMBlock *last;                     /* the last one named */
    unsigned acks;                      /* of a resume */
    uint8_t asked[BLOCKS][MAX_PAGES];   /* host pages */
    bool alone[BLOCKS][MAX_PAGES];      /* by a request for just that page */
} Wire;

/* Main thread only */
typedef struct Destination {
    MigrationIncomingState *mis;
    FuzzChannel *main;                  /* its QEMUFiles own it */
    Wire wire;
    unsigned device_claims;             /* by the fault thread */
    bool fault_thread_waits;            /* for a resume */
} Destination;

/**
 * check_settled: what holds whenever all vCPUs are at rest or sleep
 */
void check_settled(Destination *d);

/**
 * check_resumed: what holds right after a resume
 */
void check_resumed(Destination *d);

/**
 * check_event: whether the fault thread has been notified
 */
bool check_event(const Destination *d);

/**
 * check_outstanding: how many host pages have been asked for and not come
 */
unsigned check_outstanding(void);

/**
 * check_stopped: what holds after the end of the service
 */
void check_stopped(Destination *d);

#endif
