/*
 * After a broken connection, is every page asked for that was claimed?
 *
 * A vCPU with a fault, and either another one or the fault thread with a fault
 * of its own; a network that breaks twice at any time; and the thread that
 * pauses and resumes.  Requests of vCPUs go by the return path or, when there is
 * one, by a further channel, which breaks with it.
 *
 * Mirrors
 *   migration/postcopy-userfault-channel.c: postcopy_userfault_pause_locked
 *       postcopy_userfault_channel_open_locked channel_lock channel_write
 *       postcopy_userfault_queue postcopy_userfault_channels_open
 *       postcopy_userfault_channels_shut postcopy_userfault_channel_detach
 *   migration/postcopy-userfault.c: postcopy_userfault_resume
 *       for_each_outstanding ask_again flush_from_vcpu
 *       postcopy_userfault_request postcopy_userfault_flush
 *   migration/postcopy-request.c: postcopy_request_claim postcopy_request_drop
 *       postcopy_request_push send_locked postcopy_request_flush
 *
 * Left out
 *   Who sends what is queued: request-flush.pml shows that somebody does, so
 *   everybody sends his own here.  Pages that arrive: they need no request, the
 *   worst is that none does.
 *
 * Orderings.  A request is queued by a full barrier, and the code looks at the
 * channel with rp_mutex locked; these order what goes by the return path, for which
 * both barriers of the rule could go.  LOOSE leaves these two out: then the rule
 * alone must do.  That of the claim also stands between it and the choice of a
 * channel.
 *
 * Mutations
 *   LOOSE                       holds     the rule alone
 *   LOOSE+BREAK_CLAIM_BARRIER   deadlock  postcopy_request_claim() is none
 *   LOOSE+BREAK_RESUME_BARRIER  deadlock  none in postcopy_userfault_resume()
 *   BREAK_RESUME_BARRIER        holds     rp_mutex does
 *   BREAK_CLAIM_BARRIER         deadlock  the choice of a channel is not ordered
 *   BREAK_SCAN_FIRST            deadlock  ask again, then open the channel
 *   BREAK_NO_SCAN               deadlock  do not ask again
 *   BREAK_DROP_LAST             deadlock  ask again, then drop
 *   BREAK_UNCLAIM               deadlock  what is dropped is unclaimed
 *   BREAK_STAYS_OPEN            assert    pausing does not close the channel
 *   BREAK_CHOOSE_FIRST          deadlock  the channel is chosen before the claim
 *   BREAK_NOT_SHUT              deadlock  pausing leaves the further one in use
 *   BREAK_NO_HANDOFF            deadlock  WOULD_BLOCK is forgotten
 *   BREAK_NO_POST               deadlock  the fault thread is not released
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/* Threads: vCPUs 0 and 1 */
#define FAULT_THREAD 2
#define LISTEN_THREAD 3
#define THREADS 4

/* Variables */
#define PAGES 2
#define CLAIMED(page) (page)
#define CHANNEL 2               /* u->channel[0].open */
#define RP_MUTEX 3
#define CHANNELS 4              /* u->channels > 1 */
#define FURTHER 5               /* u->channel[1].open */
#define VARS 6

#include "tso.h"

#if defined(LOOSE) || defined(BREAK_CLAIM_BARRIER)
#define BREAKS 1                /* enough for what differs there */
#else
#define BREAKS 2
#endif

bool claim_taken[PAGES];        /* which of several claims came first */
bool queued[PAGES];
bool queued_further[PAGES];
bool notified;                  /* the eventfd of the fault thread */
byte pause_sem;
bool to_src_file = true;
byte further_left = 1;          /* times that the further channel may come anew */
byte askers = 2;                /* that have not asked yet */

/* The network and the source */
bool up = true;
byte broken;                    /* how often */
bool handshake;                 /* requests would break the stream */
bool asked[PAGES];              /* over this connection */

mtype = { DONE, WOULD_BLOCK, FAILED };

#define any_queued (queued[0] || queued[1])

#ifdef LOOSE
#define rp_lock() skip
#define rp_unlock() skip
#else
/* In channel_lock() and channel_unlock(), and elsewhere */
#define rp_lock() qemu_mutex_lock(RP_MUTEX)
#define rp_unlock() qemu_mutex_unlock(RP_MUTEX)
#endif

/* ------------------------------------------------------------------------- */
/* Requests */

/* Sets first */
inline postcopy_request_claim(page)
{
    atomic {
        first = !claim_taken[page];
        claim_taken[page] = true;
        if
        :: first -> write(CLAIMED(page), 1);
        :: else;
        fi
    }
#ifndef BREAK_CLAIM_BARRIER
    smp_mb();
#endif
}

inline postcopy_request_push(page)
{
#ifndef LOOSE
    smp_mb();
#endif
    queued[page] = true;
}

inline postcopy_request_drop()
{
    atomic {
        queued[0] = false;
        queued[1] = false;
        queued_further[0] = false;
        queued_further[1] = false;
    }
}

/* What becomes of one request of a list; @good: it was written */
inline written(page, good)
{
    if
    :: queued[page] && (good) -> asked[page] = true;
#ifdef BREAK_UNCLAIM
    :: queued[page] && !(good) ->
        claim_taken[page] = false;
        write(CLAIMED(page), 0);
#endif
    :: else;
    fi;
    queued[page] = false;
}

/* take_pending(), and channel_write() if there was anything; sets ret */
inline take_and_write()
{
    atomic {
        if
        :: !any_queued -> ret = DONE;
        :: any_queued && READ(CHANNEL) && up ->
#ifndef LOOSE
            assert(!handshake);
#endif
            written(0, true);
            written(1, true);
            ret = DONE;
        :: any_queued && READ(CHANNEL) && !up ->
            /* The socket may take it although nobody will read it. */
            written(0, false);
            written(1, false);
            ret = DONE;
        :: any_queued && !(READ(CHANNEL) && up) ->
            written(0, false);
            written(1, false);
            ret = FAILED;
        fi
    }
}

/* postcopy_request_flush() and send_locked() */
inline postcopy_request_flush(may_block)
{
    if
    :: atomic { rp_lock(); take_and_write(); rp_unlock(); }
#ifndef LOOSE
    :: atomic { !(may_block) && READ(RP_MUTEX) -> ret = WOULD_BLOCK; }
#endif
    fi
}

/* The same of the further channel, with its mutex; what is dropped is not heard of */
inline flush_further()
{
    atomic {
        smp_mb();
        if
        :: READ(FURTHER) && up ->
            asked[0] = asked[0] || queued_further[0];
            asked[1] = asked[1] || queued_further[1];
        :: else;
        fi;
        queued_further[0] = false;
        queued_further[1] = false;
    }
}

/* ------------------------------------------------------------------------- */
/* vCPUs and the fault thread */

/* The part of wait_for_page() that asks */
proctype vcpu(byte me; byte page)
{
    mtype ret;
    bool first;
    bool further;

#ifdef BREAK_CHOOSE_FIRST
    further = READ(CHANNELS);
#endif
    postcopy_request_claim(page);
#ifndef BREAK_CHOOSE_FIRST
    further = READ(CHANNELS);               /* postcopy_userfault_queue() */
#endif
    if
    :: first && further ->
        queued_further[page] = true;
        if
        :: flush_further();
        :: notified = true;                 /* it would have blocked */
        fi
    :: first && !further ->
        postcopy_request_push(page);
        /* flush_from_vcpu() */
        postcopy_request_flush(false);
        if
#ifndef BREAK_NO_HANDOFF
        :: ret == WOULD_BLOCK -> notified = true;
#endif
        :: else;
        fi
    :: else;
    fi;
    askers--;
}

inline postcopy_pause_fault_thread()
{
    atomic { pause_sem > 0 -> pause_sem--; }
}

inline pause_if_failed()
{
    if
    :: atomic { ret == FAILED -> ret = 0; }
        postcopy_pause_fault_thread();
    :: ret != FAILED;
    fi
}

proctype postcopy_ram_fault_thread(byte me; bool has_fault)
{
    mtype ret;
    bool first;

end:
    do
    :: notified || has_fault ->
        if
        :: !to_src_file -> postcopy_pause_fault_thread();
        :: else;
        fi;
        if
        :: notified ->
            notified = false;
            postcopy_request_flush(true);       /* postcopy_userfault_flush() */
            pause_if_failed();
            if
            :: READ(CHANNELS) -> flush_further();
            :: else;
            fi
        :: else;
        fi;
        if
        :: has_fault ->
            /* postcopy_userfault_request(), again after a pause */
            postcopy_request_claim(1);
            has_fault = false;
            askers--;
            if
            :: first ->
                first = false;
                postcopy_request_push(1);
                postcopy_request_flush(true);
                pause_if_failed();
            :: else;
            fi
        :: else;
        fi
    od
}

/* ------------------------------------------------------------------------- */
/* The connection breaks, and comes back. */

proctype network()
{
    do
    :: broken < BREAKS -> atomic { up -> up = false; broken++; }
    :: broken == BREAKS -> break;
    :: broken = BREAKS; break;
    od
}

/* With postcopy_userfault_pause_locked() */
inline postcopy_pause_incoming()
{
    atomic {
        rp_lock();
#ifndef BREAK_STAYS_OPEN
        write(CHANNEL, 0);
#endif
        to_src_file = false;
        rp_unlock();
    }
    /*
     * postcopy_userfault_channels_shut(), and when the channel's thread has ended
     * postcopy_userfault_channel_detach()
     */
#ifndef BREAK_NOT_SHUT
    write(CHANNELS, 0);
#endif
    atomic { smp_mb(); write(FURTHER, 0); smp_mb(); }
    atomic { smp_mb(); notified = true; }
}

inline ask_again(page)
{
    if
    :: READ(CLAIMED(page)) -> postcopy_request_push(page);
    :: else;
    fi
}

inline for_each_outstanding()
{
#ifndef BREAK_NO_SCAN
    ask_again(0);
    ask_again(1);
#else
    skip;
#endif
}

inline postcopy_userfault_resume()
{
#ifndef BREAK_DROP_LAST
    postcopy_request_drop();
#endif
#ifdef BREAK_SCAN_FIRST
    for_each_outstanding();
    postcopy_request_flush(true);
#endif
    atomic {
        rp_lock();
        write(CHANNEL, 1);      /* postcopy_userfault_channel_open_locked() */
        rp_unlock();
    }
#ifndef BREAK_RESUME_BARRIER
    smp_mb();
#endif
#ifndef BREAK_SCAN_FIRST
    for_each_outstanding();
#ifdef BREAK_DROP_LAST
    postcopy_request_drop();
#endif
    postcopy_request_flush(true);
#endif
    ret = 0;
#ifndef BREAK_NO_POST
    pause_sem++;                /* loadvm_postcopy_handle_resume() */
#endif
}

proctype listen_thread(byte me)
{
    mtype ret;

end:
    do
    :: !up ->
        postcopy_pause_incoming();
        atomic {
            up = true;
            to_src_file = true;
            handshake = true;
            asked[0] = false;
            asked[1] = false;
        }
        handshake = false;
        postcopy_userfault_resume();
    :: up && !READ(CHANNELS) && further_left > 0 ->
        /* postcopy_userfault_channels_open(), in a thread of its own */
        further_left--;
        atomic { smp_mb(); write(FURTHER, 1); smp_mb(); }
        atomic { write(CHANNELS, 1); smp_mb(); }
    od
}

proctype all_are_asked()
{
    askers == 0 && up && broken == BREAKS && asked[0] && asked[1];
}

init {
    atomic {
        mem[CHANNEL] = 1;
        mem[CHANNELS] = 1;
        mem[FURTHER] = 1;
        run vcpu(0, 0);
        if
        :: run vcpu(1, 1); run postcopy_ram_fault_thread(FAULT_THREAD, false);
        :: run postcopy_ram_fault_thread(FAULT_THREAD, true);
        fi;
        run listen_thread(LISTEN_THREAD);
        run network();
        run all_are_asked();
    }
}
