/*
 * Does everybody get a page for which a vCPU and a device wait at once, is it
 * asked for and placed once, and is the preempt channel open until it came?
 *
 * A vCPU waits in the service, a device in userfaultfd, for one page, which is
 * discarded (nobody sends it) or comes from the source: over the preempt
 * channel after a request, or with the background stream.
 *
 * Mirrors
 *   migration/postcopy-userfault.c: serve_fault wait_for_page
 *       postcopy_userfault_request postcopy_userfault_account account_page
 *       for_each_outstanding
 *   migration/postcopy-handover.c: postcopy_userfault_placed
 *       postcopy_userfault_place_discarded
 *   migration/postcopy-ram.cocci: qemu_ufd_copy_ioctl postcopy_request_page
 *       postcopy_ram_fault_thread postcopy_ram_incoming_cleanup
 *   migration/postcopy-request.c: postcopy_request_claim
 *
 * Left out
 *   The vCPU's way through the wait table: wait-wake.pml; it waits until the
 *   page is PRESENT.  How requests travel: request-flush.pml.
 *   Of userfaultfd, what Linux does: a thread that faults enters a list, then
 *   looks at the page table; UFFDIO_COPY fills the page table, then looks at
 *   the list.  Each has a full barrier between the two.
 *
 * Mutations
 *   BREAK_DONTWAKE          deadlock  UFFDIO_COPY does not wake
 *   BREAK_KERNEL_BARRIER    deadlock  no barrier in UFFDIO_COPY
 *   BREAK_FAULT_BARRIER     deadlock  nor in the fault
 *   BREAK_CLAIM             assert    claim by a load and a store
 *   BREAK_DISCARD_UNLOCKED  assert    no discard_lock
 *   BREAK_DISCARD_UNSEEN    assert    no look at PRESENT under discard_lock
 *   BREAK_NO_ACCOUNT        assert    requests of vCPUs are not counted
 *   BREAK_ACCOUNT_UNLOCKED  deadlock  count without page_request_mutex
 *   BREAK_TREE_UNLOCKED     deadlock  likewise, in the fault thread
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/* Threads */
#define DEVICE 0
#define VCPU 1
#define FAULT_THREAD 2
#define LOADER 3
#define THREADS 4

/* Variables */
#define PTE 0                   /* the page table has the page */
#define LISTED 1                /* the device waits in userfaultfd */
#define VARS 2

#include "tso.h"

bool discarded;
bool present;                   /* under page_request_mutex, or atomically */
bool requested;                 /* the bit of the service */
byte sent;                      /* requests */
bool in_flight;                 /* over the preempt channel */
bool shut;                      /* the preempt channel is */
bool in_tree;                   /* mis->page_requested */
byte count;                     /* mis->page_requested_count */
bool quitting;                  /* mis->preempt_thread_status */
bool signalled;                 /* mis->page_request_cond */
bool page_request_mutex, discard_lock;
bool event;                     /* the device's fault, to be read */
bool wakeup;                    /* of the device */
bool all_sent;                  /* the source has nothing left to send */

inline lock(m)
{
    atomic { !m -> m = true; }
}

/* ------------------------------------------------------------------------- */
/* Linux */

inline uffdio_copy()
{
    /* mfill: EEXIST would fail the migration. */
    atomic { assert(!READ(PTE)); write(PTE, 1); }
#ifndef BREAK_KERNEL_BARRIER
    smp_mb();
#endif
#ifndef BREAK_DONTWAKE
    if
    :: READ(LISTED) -> wakeup = true;
    :: else;
    fi
#endif
}

/* Such as a device model, vhost, or KVM itself */
proctype device(byte me)
{
    write(LISTED, 1);
#ifndef BREAK_FAULT_BARRIER
    smp_mb();
#endif
    if
    :: READ(PTE);
    :: else -> event = true; wakeup;
    fi
}

/* ------------------------------------------------------------------------- */
/* Pages that arrive */

inline qemu_ufd_copy_ioctl()
{
    uffdio_copy();
    lock(page_request_mutex);
    present = true;
    was_in_tree = in_tree;
    if
    :: was_in_tree ->
        in_tree = false;
        count--;
        if
        :: quitting && count == 0 -> signalled = true;
        :: else;
        fi
    :: else;
    fi;
    was_in_tree = false;
    page_request_mutex = false;
    /* postcopy_userfault_placed(): wait-wake.pml */
}

inline postcopy_userfault_place_discarded()
{
#ifndef BREAK_DISCARD_UNLOCKED
    lock(discard_lock);
#endif
    if
#ifndef BREAK_DISCARD_UNSEEN
    :: present;
#endif
    :: else -> qemu_ufd_copy_ioctl();
    fi;
    discard_lock = false;
}

/* The preempt thread and the listen thread, as far as they load pages */
proctype loader(byte me)
{
    bool was_in_tree;

    if
    :: atomic { sent > 0 -> in_flight = true; }
        all_sent = true;
        assert(!shut);
        qemu_ufd_copy_ioctl();
        in_flight = false;
    :: true ->
        /* with the background stream, which ends after it */
        qemu_ufd_copy_ioctl();
        all_sent = true;
    fi
}

/* ------------------------------------------------------------------------- */
/* Requests */

inline postcopy_request_claim()
{
#ifdef BREAK_CLAIM
    first = !requested;
    requested = true;
#else
    atomic { first = !requested; requested = true; }
#endif
}

inline ask()
{
    postcopy_request_claim();
    if
    :: first -> assert(sent == 0); sent++;
    :: else;
    fi;
    first = false;
}

inline serve_fault()
{
    if
    :: present;
    :: !present && discarded -> postcopy_userfault_place_discarded();
    :: !present && !discarded ->
        /* wait_for_page() */
        ask();
        present;
    fi
}

proctype vcpu(byte me)
{
    bool first, was_in_tree;

    serve_fault();
}

/* Called through postcopy_request_page(), for a page that is sent */
inline migrate_send_rp_req_pages()
{
#ifndef BREAK_TREE_UNLOCKED
    lock(page_request_mutex);
#endif
    received = present;
    if
    :: !received && !in_tree -> in_tree = true; count++;
    :: else;
    fi;
#ifndef BREAK_TREE_UNLOCKED
    page_request_mutex = false;
#endif
    if
    :: !received -> ask();      /* postcopy_userfault_request() */
    :: else;
    fi;
    received = false;
}

proctype postcopy_ram_fault_thread(byte me)
{
    bool first, was_in_tree, received;

end:
    event;
    if
    :: discarded -> postcopy_userfault_place_discarded();
    :: else -> migrate_send_rp_req_pages();
    fi
}

/* ------------------------------------------------------------------------- */
/* The end */

inline account_page()
{
    if
    :: !in_tree -> in_tree = true; count++;
    :: else;
    fi
}

/* With for_each_outstanding() */
inline postcopy_userfault_account()
{
#ifndef BREAK_ACCOUNT_UNLOCKED
    lock(page_request_mutex);
#endif
#ifndef BREAK_NO_ACCOUNT
    if
    :: requested && !present -> account_page();
    :: else;
    fi;
#endif
#ifndef BREAK_ACCOUNT_UNLOCKED
    page_request_mutex = false;
#endif
}

/* When the source has sent all; pages may still be on their way here. */
proctype postcopy_ram_incoming_cleanup()
{
    all_sent;
    postcopy_userfault_account();
    quitting = true;
    lock(page_request_mutex);
    if
    :: count ->
        page_request_mutex = false;     /* qemu_cond_wait() */
        signalled;
        lock(page_request_mutex);
    :: else;
    fi;
    page_request_mutex = false;
    assert(!in_flight || present);
    shut = true;
    assert(count == 0 && !in_tree);
}

init {
    atomic {
        run device(DEVICE);
        run vcpu(VCPU);
        run postcopy_ram_fault_thread(FAULT_THREAD);
        if
        :: discarded = true;
        :: run loader(LOADER); run postcopy_ram_incoming_cleanup();
        fi
    }
}
