/*
 * Memory with store buffers, for models of code that needs full barriers
 *
 * A thread's stores wait in its own buffer, in their order, and reach memory
 * at any later time; the thread itself sees them at once.  That is what x86
 * does, and the one thing for which it needs smp_mb(): a load may be done
 * before an earlier store is seen by others.
 *
 * Less is promised here than x86 would, since QEMU's code must not rely on
 * more than C gives it: taking a lock does not empty the buffer, releasing it
 * is a store like any other, and an attempt to take it that fails is a load.
 *
 * Acquire and release need no instruction on x86 and cannot be broken here; a
 * reordering of two loads or of two stores, as on other hosts, is not modelled.
 *
 * A model defines THREADS and VARS (the variables that threads share without
 * a lock) before it includes this.  Each
 * process that uses it knows its number as "me", below THREADS.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#define DEPTH 3                 /* none stores more without a barrier */

typedef Buffer {
    byte fill;
    byte var[DEPTH];
    byte val[DEPTH];
};

byte mem[VARS];
Buffer buffer[THREADS];

#define BUFFERED(i, v) (buffer[me].fill > i && buffer[me].var[i] == (v))

/* What the thread reads from @v: its own last store, or memory */
#define READ(v)                                                         \
    (BUFFERED(2, v) -> buffer[me].val[2] :                              \
    (BUFFERED(1, v) -> buffer[me].val[1] :                              \
    (BUFFERED(0, v) -> buffer[me].val[0] : mem[v])))

/* qatomic_set(), qatomic_store_release(), qatomic_rcu_set() */
#define write(v, x)                                                     \
    atomic {                                                            \
        buffer[me].fill < DEPTH ->                                      \
        buffer[me].var[buffer[me].fill] = v;                            \
        buffer[me].val[buffer[me].fill] = x;                            \
        buffer[me].fill++;                                              \
    }

/*
 * Also in front of whatever is a full barrier by itself: system calls, and
 * atomic operations that return a value, other than locks
 */
#define smp_mb() (buffer[me].fill == 0)

#define qemu_mutex_lock(v) atomic { mem[v] == 0 -> mem[v] = 1; }
#define qemu_mutex_unlock(v) write(v, 0)

/* Sets @ok.  Blocks while the thread's own unlock is in its buffer. */
#define qemu_mutex_trylock(v, ok)                                       \
    if                                                                  \
    :: atomic { mem[v] == 0 -> mem[v] = 1; ok = true; }                 \
    :: atomic { READ(v) != 0 -> ok = false; }                           \
    fi

/*
 * The oldest store of a thread reaches memory.  A process for each thread, so
 * that in a fair execution each store does.
 */
active [THREADS] proctype memory()
{
end:
    do
    :: atomic {
        buffer[_pid].fill > 0 ->
        mem[buffer[_pid].var[0]] = buffer[_pid].val[0];
        buffer[_pid].var[0] = buffer[_pid].var[1];
        buffer[_pid].val[0] = buffer[_pid].val[1];
        buffer[_pid].var[1] = buffer[_pid].var[2];
        buffer[_pid].val[1] = buffer[_pid].val[2];
        buffer[_pid].var[2] = 0;
        buffer[_pid].val[2] = 0;
        buffer[_pid].fill--;
    }
    od
}
