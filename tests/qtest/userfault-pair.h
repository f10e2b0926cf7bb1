/*
 * Two QEMUs and a guest that moves, for the tests of KVM userfault
 *
 * The guest and the migration steps are those of QEMU's migration tests.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_USERFAULT_PAIR_H
#define TESTS_QTEST_USERFAULT_PAIR_H

#include "libqtest.h"
#include "migration/framework.h"
#include "migration/migration-util.h"
#include "qobject/qdict.h"

#define PROGRESS_SECONDS 60         /* on an idle machine */

typedef struct Pair {
    QTestState *from;
    QTestState *to;
    QTestMigrationState from_state;
    QTestMigrationState to_state;
} Pair;

/* The status of each POSTCOPY_USERFAULT event of the destination, in order */
extern GString *told;

/* A file of this run; the caller frees the name. */
char *tmp_path(const char *name);

/* @options: the destination's accelerator and more */
void pair_start(Pair *p, const char *options);

/* The guest runs on the destination, most of its memory is on the source. */
void pair_switch_over(Pair *p);

/* All memory comes over. */
void pair_complete(Pair *p);

/* Check the guest's memory and end. */
void pair_end(Pair *p);

/* End while memory is still missing. */
void pair_drop(Pair *p);

/* The statistics, NULL if there are none; the caller's reference */
QDict *query_service(QTestState *who);

/* Member @name of the statistics, or of one of their structures */
uint64_t counter(const QDict *service, const char *name);

/* How many faults the histogram @which of the statistics holds */
uint64_t faults(const QDict *service, const char *which);

/* Sum of a list of numbers */
uint64_t sum_of(QList *list);

/* Wait until @name has grown to @least; returns the statistics of then. */
QDict *wait_for_counter(Pair *p, const char *name, uint64_t least);

void assert_status(const QDict *service, const char *status);
void assert_latency(const QDict *service, const char *which);

/* KVM userfault served vCPUs, or none of them. */
void assert_used(const QDict *service);
void assert_unused(const QDict *service);

#endif
