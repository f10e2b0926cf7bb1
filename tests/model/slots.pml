/*
 * Does a bit stay set on a present page, is one clear on an absent page, or is
 * a bitmap or a map used after it was freed?
 *
 * A thread with the BQL makes two memslots that map the same pages, and removes
 * one of them; a loader places a page; and either another one places another
 * page, or a vCPU touches the page, through that memslot as long as it is
 * there, then through the other one.
 *
 * Mirrors
 *   accel/kvm/kvm-userfault.c: kvm_userfault_set_region set_region add_view
 *       drop_view publish retire retired_free kvm_userfault_pages_present
 *       find_page
 *   accel/kvm/userfault-map.c: userfault_view_new userfault_view_load
 *       userfault_view_clear userfault_view_free userfault_map_add
 *       userfault_map_remove
 *   migration/postcopy-userfault.c: serve_fault
 *   migration/postcopy-handover.c: postcopy_userfault_placed
 *
 * Left out
 *   Waiting: wait-wake.pml; here the vCPU knows when its page is PRESENT.  How
 *   RCU finds out that a reader has left: it waits for each that had begun.
 *   KVM's own SRCU likewise.  Both pages are in one word of the bitmaps.
 *
 * Mutations
 *   BREAK_LOAD_BARRIER      assert  no smp_mb() in userfault_view_load()
 *   BREAK_PRESENT_BARRIER   assert  nor in kvm_userfault_pages_present()
 *   BREAK_LOAD_FIRST        assert  load PRESENT, then publish the view
 *   BREAK_CLEAR_FIRST       assert  clear the bits, then set PRESENT
 *   BREAK_CLEAR_EARLY       assert  clear the bits, then fill the page
 *   BREAK_ALL_CLEAR         assert  the bits of a new view are clear at first
 *   BREAK_AND               assert  clear a bit by a load and a store
 *   BREAK_ONE_VIEW          assert  clear the bit of the first view only
 *   BREAK_NO_RCU            assert  free without a grace period
 *   BREAK_UNREAD            assert  look up the map outside of RCU
 *   BREAK_UNPUBLISH_LATE    assert  retire the map, then publish the next one
 *   BREAK_FREE_ARMED        assert  free the bitmap while KVM may read it
 *   BREAK_FREE_TWICE        assert  retire the view with each map that had it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/* Threads */
#define BQL_HOLDER 0
#define VCPU 1
#define LOADER(page) (2 + (page))
#define THREADS 4

/* Variables */
#define PRESENT(page) (page)
#define MAP 2
#define VARS 3

#include "tso.h"

/*
 * Maps in the order in which they are made: none; the first view and both, by
 * userfault_map_add(); one of them, by userfault_map_remove()
 */
#define NO_MAP 0
#define MAPS 4
#define HAS(map, view)                                                  \
    ((map) == 1 && (view) == 0 || (map) == 2 || (map) == 3 && (view) != gone)

byte gone;                      /* which memslot is removed in the end */

bool content[2];                /* the page is filled */
byte bits[2];                   /* of each view */
bool armed[2];                  /* KVM knows the memslot with its flag */
bool removed;                   /* nobody begins to use that slot any more */
bool view_freed[2];
bool map_freed[MAPS];

/* Who reads under RCU, or under KVM's SRCU: a bit each */
byte rcu, srcu;
/* For whom a grace period of RCU still waits: one for each memslot's change */
byte owed[2];
byte srcu_owed;

/* ------------------------------------------------------------------------- */
/* accel/kvm/userfault-map.c */

inline userfault_view_clear(view, which)
{
    assert(!view_freed[view]);
#ifdef BREAK_AND
    word = bits[view];
    bits[view] = word & ~(which);
    word = 0;
#else
    bits[view] = bits[view] & ~(which);
#endif
}

inline userfault_view_load(view)
{
#ifndef BREAK_LOAD_BARRIER
    smp_mb();
#endif
    there = READ(PRESENT(0)) | (READ(PRESENT(1)) << 1);
    userfault_view_clear(view, there);
}

/* ------------------------------------------------------------------------- */
/* accel/kvm/kvm-userfault.c */

#define BIT(thread) (1 << (thread))

#define rcu_read_lock() rcu = rcu | BIT(me)
#define rcu_read_unlock()                                               \
    rcu = rcu & ~BIT(me);                                               \
    owed[0] = owed[0] & ~BIT(me);                                       \
    owed[1] = owed[1] & ~BIT(me)

/* A grace period later, with userfault_view_free(); @view may be NONE */
#define NONE 2

proctype retired_free(byte map; byte view)
{
    byte grace = (view == NONE -> 0 : 1);

#ifndef BREAK_NO_RCU
    owed[grace] = rcu;
    owed[grace] == 0;
#endif
    atomic {
        if
        :: view != NONE -> assert(!view_freed[view]); view_freed[view] = true;
        :: else;
        fi;
        assert(!map_freed[map]);
        map_freed[map] = true;
    }
}

inline retire(map, view)
{
    smp_mb();                   /* call_rcu() */
    run retired_free(map, view);
}

#define publish(map) write(MAP, map)

/* Each ioctl is a full barrier. */
inline set_region(slot, flag)
{
    smp_mb();
    atomic { armed[slot] = flag; srcu_owed = srcu; there = 0; }
    /* It returns when KVM reads the old bitmap no more. */
    srcu_owed == 0;
}

inline add_view(view, map, old)
{
#ifdef BREAK_ALL_CLEAR
    bits[view] = 0;
#else
    bits[view] = 3;             /* userfault_view_new() */
#endif
#ifdef BREAK_LOAD_FIRST
    userfault_view_load(view);
    publish(map);
#else
    publish(map);
#endif
    if
#ifdef BREAK_FREE_TWICE
    :: old != NO_MAP -> retire(old, 0);
#else
    :: old != NO_MAP -> retire(old, NONE);
#endif
    :: else;
    fi;
#ifndef BREAK_LOAD_FIRST
    userfault_view_load(view);
#endif
}

inline drop_view(view, map, old)
{
#ifdef BREAK_UNPUBLISH_LATE
    retire(old, view);
    publish(map);
#else
    publish(map);
    retire(old, view);
#endif
}

inline kvm_userfault_pages_present(which)
{
#ifndef BREAK_PRESENT_BARRIER
    smp_mb();
#endif
    atomic {
#ifndef BREAK_UNREAD
        rcu_read_lock();
#endif
        map = READ(MAP);
    }
    assert(!map_freed[map]);
    if
    :: HAS(map, 0) -> userfault_view_clear(0, which);
    :: else;
    fi;
    atomic {
        assert(!map_freed[map]);
        if
#ifndef BREAK_ONE_VIEW
        :: HAS(map, 1) -> userfault_view_clear(1, which);
#endif
        :: else;
        fi;
        map = NO_MAP;
#ifndef BREAK_UNREAD
        rcu_read_unlock();
#endif
    }
}

/* ------------------------------------------------------------------------- */
/* Threads */

/* Through kvm_userfault_set_region() */
proctype bql_holder(byte me)
{
    byte there, word;

    if
    :: gone = 0;
    :: gone = 1;
    fi;
    add_view(0, 1, NO_MAP);
    set_region(0, true);
    add_view(1, 2, 1);
    set_region(1, true);
    removed = true;
#ifdef BREAK_FREE_ARMED
    drop_view(gone, 3, 2);
    set_region(gone, false);
#else
    set_region(gone, false);
    drop_view(gone, 3, 2);
#endif
    /* Until there is nobody but memory, init and this */
    content[0] && _nr_pr == THREADS + 2;
    smp_mb();
    assert(!(bits[1 - gone] & (mem[PRESENT(0)] | (mem[PRESENT(1)] << 1))));
}

inline touch(page)
{
    do
    :: atomic {
            srcu = BIT(me);
            slot = (removed -> 1 - gone : gone);
            is_armed = armed[slot];
        }
        atomic {
            if
            :: is_armed ->
                assert(!view_freed[slot]);
                exits = bits[slot] & (1 << page);
                assert(exits || content[page]);
            :: else ->
                /* A memslot without bitmap: userfaultfd would wait. */
                exits = !content[page];
            fi;
            is_armed = false;
            srcu = 0;
            srcu_owed = 0;
            if
            :: !exits -> slot = 0; break;
            :: else -> exits = 0;
            fi
        }
        /* find_page() */
        atomic { rcu_read_lock(); map = READ(MAP); }
        atomic {
            assert(!map_freed[map]);
            found = HAS(map, slot);
            map = NO_MAP;
            rcu_read_unlock();
        }
        /* serve_fault(); waits for the page, unless the exit is stale */
        if
        :: found && READ(PRESENT(page)) ->
            found = false;
            kvm_userfault_pages_present(1 << page);
        :: found && !READ(PRESENT(page)) ->
            found = false;
            READ(PRESENT(page));
        :: !found;
        fi
    od
}

proctype vcpu(byte me)
{
    byte map, slot, exits, word;
    bool found, is_armed;

    touch(0);
}

proctype loader(byte me; byte page)
{
    byte map, word;

#ifdef BREAK_CLEAR_EARLY
    write(PRESENT(page), 1);
    kvm_userfault_pages_present(1 << page);
    content[page] = true;
#else
#ifdef BREAK_CLEAR_FIRST
    content[page] = true;
    kvm_userfault_pages_present(1 << page);
    write(PRESENT(page), 1);
#else
    atomic {
        content[page] = true;   /* UFFDIO_COPY */
        write(PRESENT(page), 1);
    }
    /* postcopy_userfault_placed() */
    kvm_userfault_pages_present(1 << page);
#endif
#endif
}

init {
    atomic {
        run bql_holder(BQL_HOLDER);
        run loader(LOADER(0), 0);
        if
        :: run vcpu(VCPU);
        :: run loader(LOADER(1), 1);
        fi
    }
}
