/*
 * Is every queued request sent, once, and by a thread that may wait?
 *
 * Two vCPUs, one of which has two requests; the fault thread, which has one of
 * its own; and somebody else who sends on the return path, perhaps for as long
 * as a vCPU has not got its request off its hands.
 *
 * Mirrors
 *   migration/postcopy-request.c: postcopy_request_push take_pending free_list
 *       send_locked postcopy_request_flush
 *   migration/postcopy-userfault.c: wait_for_page flush_from_vcpu
 *       postcopy_userfault_flush
 *   migration/postcopy-userfault-channel.c: channel_lock channel_unlock
 *       channel_write
 *
 * Left out
 *   Claiming, and a channel that breaks: resume.pml.  The order of requests in
 *   a write.  The list is a set here: a request is in it from the time at which
 *   memory says so, and one exchange takes all that are.
 *
 * Mutations
 *   BREAK_PUSH_BARRIER    deadlock  no smp_mb() in postcopy_request_push()
 *   BREAK_FLUSH_BARRIER   deadlock  no smp_mb() in postcopy_request_flush()
 *   BREAK_ONE_TURN        deadlock  nobody looks at the list after unlocking
 *   BREAK_LOOK_LOCKED     deadlock  look at the list before unlocking
 *   BREAK_NO_HANDOFF      deadlock  a vCPU that would block does not say so
 *   BREAK_READ_LATE       deadlock  flush, then take the notification
 *   BREAK_TAKE            deadlock  take the list by a load and a store
 *   BREAK_VCPU_BLOCKS     deadlock  vCPUs wait for the channel
 *   BREAK_VCPU_GOES_ON    assert    a vCPU writes again without asking for room
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/* Threads: vCPUs 0 and 1 */
#define FAULT_THREAD 2
#define THREADS 3

/* Variables: requests 0 to 3 are in the list */
#define REQUESTS 4
#define SEND_LOCK 4
#define VARS 5

#include "tso.h"

#define pending (READ(0) || READ(1) || READ(2) || READ(3))

bool rp_mutex;
bool written[REQUESTS];
bool freed[REQUESTS];
bool notified;                  /* the eventfd of the fault thread */
byte handed;                    /* vCPUs whose requests are off their hands */

mtype = { DONE, ELSEWHERE, WOULD_BLOCK };

/* ------------------------------------------------------------------------- */
/* migration/postcopy-request.c */

inline postcopy_request_push(req)
{
    write(req, 1);
#ifndef BREAK_PUSH_BARRIER
    smp_mb();
#endif
}

inline take_one(req)
{
    taken[req] = mem[req];
#ifndef BREAK_TAKE
    mem[req] = 0;
#endif
}

inline take_pending()
{
    atomic {
        smp_mb();               /* an exchange */
        take_one(0);
        take_one(1);
        take_one(2);
        take_one(3);
    }
#ifdef BREAK_TAKE
    atomic { mem[0] = 0; mem[1] = 0; mem[2] = 0; mem[3] = 0; }
#endif
}

/* ops->write() and free_list() */
inline write_and_free(req)
{
    if
    :: taken[req] ->
        assert(!written[req] && !freed[req]);
        written[req] = true;
        freed[req] = true;
        taken[req] = false;
    :: else;
    fi
}

#define took_any (taken[0] || taken[1] || taken[2] || taken[3])

inline channel_unlock()
{
    rp_mutex = false;
}

/* PostcopyRequestOps.lock() of the channel; sets got */
inline channel_lock(may_block)
{
#ifdef BREAK_VCPU_BLOCKS
    atomic { !rp_mutex -> rp_mutex = true; got = true; asked = true; }
#else
    if
    :: atomic { !rp_mutex -> rp_mutex = true; got = true; }
        if
        :: !(may_block) ->
            if
            :: asked = true;    /* it polls as writable */
            :: channel_unlock(); got = false;
            fi
        :: else;
        fi
    :: atomic { rp_mutex && !(may_block) -> got = false; }
    fi
#endif
}

inline channel_write(may_block)
{
    atomic {
        assert((may_block) || asked);
        asked = false;
        write_and_free(0);
        write_and_free(1);
        write_and_free(2);
        write_and_free(3);
    }
}

/* Sets ret */
inline send_locked(may_block)
{
    channel_lock(may_block);
    if
    :: !got -> ret = WOULD_BLOCK;
    :: else ->
        do
        :: take_pending();
            if
            :: took_any ->
                channel_write(may_block);
#ifndef BREAK_VCPU_GOES_ON
                if
                :: !(may_block) -> break;
                :: else;
                fi
#endif
            :: else -> break;
            fi
        od;
        asked = false;
        channel_unlock();
        ret = DONE;
    fi
}

inline postcopy_request_flush(may_block)
{
    do
    :: if
        :: (may_block) -> qemu_mutex_lock(SEND_LOCK); got = true;
        :: else -> qemu_mutex_trylock(SEND_LOCK, got);
        fi;
        if
        :: !got -> ret = ELSEWHERE; break;
        :: else;
        fi;
        send_locked(may_block);
#ifdef BREAK_LOOK_LOCKED
        again = pending;
        qemu_mutex_unlock(SEND_LOCK);
        smp_mb();
#else
        qemu_mutex_unlock(SEND_LOCK);
#ifndef BREAK_FLUSH_BARRIER
        smp_mb();
#endif
#ifndef BREAK_ONE_TURN
        again = pending;
#endif
#endif
        if
        :: ret == DONE && again -> again = false;
        :: else -> again = false; break;
        fi
    od;
    got = false;
}

/* ------------------------------------------------------------------------- */
/* Threads */

/* The end of wait_for_page() */
inline ask_and_flush(req)
{
    postcopy_request_push(req);
    /* flush_from_vcpu() */
    postcopy_request_flush(false);
    if
#ifndef BREAK_NO_HANDOFF
    :: ret == WOULD_BLOCK -> notified = true;
#endif
    :: else;
    fi;
    ret = 0;
}

proctype vcpu(byte me)
{
    bool taken[REQUESTS];
    bool got, again, asked;
    mtype ret;

    ask_and_flush(me);
    if
    :: me == 0 -> ask_and_flush(2);
    :: else;
    fi;
    handed++;
}

proctype fault_thread(byte me)
{
    bool taken[REQUESTS];
    bool got, again, asked, own;
    mtype ret;

end:
    do
    :: notified ->
#ifdef BREAK_READ_LATE
        postcopy_request_flush(true);
        notified = false;
#else
        notified = false;
        postcopy_request_flush(true);   /* postcopy_userfault_flush() */
#endif
    :: !own ->
        own = true;
        postcopy_request_push(3);
        postcopy_request_flush(true);
    od
}

/* Such as the thread that answers the source's pings */
proctype other_sender()
{
    bool waits;

    if
    :: waits = true;
    :: waits = false;
    fi;
    atomic { !rp_mutex -> rp_mutex = true; }
    !waits || handed == 2;
    rp_mutex = false;
}

proctype all_are_written()
{
    written[0] && written[1] && written[2] && written[3];
}

init {
    atomic {
        run vcpu(0);
        run vcpu(1);
        run fault_thread(FAULT_THREAD);
        run other_sender();
        run all_are_written();
    }
}
