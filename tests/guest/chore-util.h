/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What several chores need.  A failure is the chore's, and has been counted. */
#ifndef GUEST_CHORE_UTIL_H
#define GUEST_CHORE_UTIL_H

#include <stdbool.h>
#include <stdint.h>

#include "chore.h"

/* Memory of @pages pages that are there, or NULL.  For the chore's life. */
uint64_t *chore_region(struct chore *c, uint64_t pages);

/* /sys is there from then on. */
void chore_mount_sysfs(void);

/* The first virtio disk, past the guest's page cache; -1 if there is none. */
int chore_open_disk(struct chore *c);

/*
 * Run @run in a thread of its own, before all that the scheduler shares out
 * fairly, as the caller is from now on.  Each on a CPU of its own, if there
 * are two.  Returns whether it could be started.
 */
bool chore_pair(struct chore *c, void *(*run)(void *opaque), void *opaque);

#endif
