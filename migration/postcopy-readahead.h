/*
 * Read-ahead: which pages a vCPU is about to walk to
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QEMU_MIGRATION_POSTCOPY_READAHEAD_H
#define QEMU_MIGRATION_POSTCOPY_READAHEAD_H

/* Walks that a vCPU can be on at a time, as of code, stack and data */
#define POSTCOPY_READAHEAD_WALKS 4
/* Faults among which a new walk is looked for: of as many walks in turn, two */
#define POSTCOPY_READAHEAD_HISTORY (2 * POSTCOPY_READAHEAD_WALKS)
/* The longest step of a walk, in host pages, forwards or backwards */
#define POSTCOPY_READAHEAD_STRIDE 32
/* Steps ahead that are looked at; a bit each in PostcopyWalk.asked */
#define POSTCOPY_READAHEAD_REACH 64
/* Pages that may be asked for ahead of a walk */
#define POSTCOPY_READAHEAD_MAX 64

/* All that follows: vCPU thread only */

typedef struct PostcopyWalk {
    const void *block;      /* NULL: there is no such walk */
    int64_t page;           /* of the latest fault */
    int64_t stride;
    uint64_t seen;          /* when that was, in faults of the vCPU */
    unsigned window;        /* pages to be kept asked for ahead of it */
    unsigned reach;         /* the next fault is expected a step after these */
    uint64_t asked;         /* bit i: ahead, the page after i + 1 steps */
} PostcopyWalk;

typedef struct PostcopyReadahead {
    PostcopyWalk walk[POSTCOPY_READAHEAD_WALKS];
    /* Faults that belong to no walk; of fault n in the place n modulo size */
    struct {
        const void *block;
        int64_t page;
    } history[POSTCOPY_READAHEAD_HISTORY];
    uint64_t strays;        /* how many of these there were */
    uint64_t faults;
} PostcopyReadahead;

/* What a fault says about pages that were asked for ahead */
typedef struct PostcopyReadaheadVerdict {
    unsigned used;          /* the walk has come to them, or past them */
    unsigned dropped;       /* their walk was given up */
} PostcopyReadaheadVerdict;

/**
 * postcopy_readahead_fault: learn from a page fault
 * @ra: of the vCPU that has it, at first all zero
 * @block: the page's block
 * @page: number of the host page in it
 * @max: pages that may be asked for ahead in this block, 0 to
 *       POSTCOPY_READAHEAD_MAX
 * @verdict: set
 *
 * Returns the walk that the fault belongs to, or NULL: nothing is to be asked
 * for ahead.  With a walk the caller looks at the pages after 1, 2, 3 ...
 * steps, POSTCOPY_READAHEAD_REACH at most, passes over those that are there or
 * have been asked for, and stops at the first other one for which there is no
 * postcopy_readahead_room().  Then it calls postcopy_readahead_reached().
 */
PostcopyWalk *postcopy_readahead_fault(PostcopyReadahead *ra, const void *block,
                                       int64_t page, unsigned max,
                                       PostcopyReadaheadVerdict *verdict);

/**
 * postcopy_readahead_room: how many more pages to ask for
 * @walk: as returned
 */
unsigned postcopy_readahead_room(const PostcopyWalk *walk);

/**
 * postcopy_readahead_asked: a page is being asked for
 * @walk: as returned
 * @step: which, 1 to POSTCOPY_READAHEAD_REACH
 */
void postcopy_readahead_asked(PostcopyWalk *walk, unsigned step);

/**
 * postcopy_readahead_reached: how far the walk may go without another fault
 * @walk: as returned
 * @step: all pages to this one are there or have been asked for; 0 to
 *        POSTCOPY_READAHEAD_REACH
 */
void postcopy_readahead_reached(PostcopyWalk *walk, unsigned step);

#endif
