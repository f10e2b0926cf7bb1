/*
 * The source of the native benchmark: a process that answers requests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BENCH_NATIVE_SOURCE_H
#define BENCH_NATIVE_SOURCE_H

#define PAGE_BYTES 4096ull

/*
 * A request, big endian: type (16 bits), length of the rest (16), offset (64)
 * and length (32) of what is wanted
 */
#define REQUEST_TYPE 4          /* QEMU's MIG_RP_MSG_REQ_PAGES */
#define REQUEST_BODY 12
#define REQUEST_BYTES (2 + 2 + REQUEST_BODY)

/* What an answer begins with: the page's offset, big endian */
#define ANSWER_HEADER 8
#define ANSWER_BYTES (ANSWER_HEADER + PAGE_BYTES)

struct iovec;

/* Written by the source, read by the destination when that has exited */
typedef struct SourceReport {
    uint64_t answers;           /* pages sent */
    uint64_t reads;
    uint64_t writes;
} SourceReport;

/**
 * SourceServe: what the process does with its end of the connection
 *
 * It ends with _exit(): 0 when the other end has been closed, 2 to complain
 * about a request.
 */
typedef void SourceServe(int sock, SourceReport *report, void *opaque);

typedef struct Source {
    /* Set once */
    pid_t pid;
    int sock;                   /* the destination's end */
    SourceReport *shared;
    /* Set by source_stop() */
    SourceReport report;
    uint64_t cpu_ns;
} Source;

/**
 * source_start: fork the source; the caller has no other threads
 */
void source_start(Source *s);

/**
 * source_start_with: likewise, a source that does something else
 */
void source_start_with(Source *s, SourceServe *serve, void *opaque);

/**
 * source_write: write all of @iov, or end the process
 */
void source_write(int sock, struct iovec *iov, int n, SourceReport *report);

/**
 * source_stop: close the connection and wait for the end of the process
 *
 * Returns false if it complained about a request.
 */
bool source_stop(Source *s);

/**
 * source_content: what the source has in a page
 * @page: number of the page
 * @word: which of its 64-bit words
 */
uint64_t source_content(uint64_t page, unsigned word);

#endif
