/*
 * The way of a fault in a single thread, to count its instructions
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BENCH_NATIVE_WALK_H
#define BENCH_NATIVE_WALK_H

/**
 * walk_run: serve some faults, one after the other
 * @vcpus: how many wait all the time; the table of waiters is made for them
 * @faults: how many
 *
 * What a vCPU does is in walk_vcpu_exits() and walk_vcpu_returns(), what the
 * loader does after it has read the page in walk_loader_reads(); the rest
 * belongs to nobody.
 */
void walk_run(unsigned vcpus, unsigned faults);

void walk_vcpu_exits(void);
void walk_vcpu_returns(void);
void walk_loader_reads(void);

#endif
