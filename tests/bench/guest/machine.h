/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machine the guest of the benchmark runs on: ports, other CPUs, time, and
 * what QEMU tells about itself.  No interrupt is ever enabled.
 *
 * What is not inline runs on the first CPU.
 */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stddef.h>
#include <stdint.h>

#define MAX_CPUS 64

static inline void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

/* Returns the end of the @n bytes written. */
static inline const void *outsb(uint16_t port, const void *from, uint64_t n)
{
    __asm__ volatile("cld; rep outsb" : "+S"(from), "+c"(n) : "d"(port)
                     : "memory");
    return from;
}

static inline void outw(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline void cpu_relax(void)
{
    __asm__ volatile("pause" : : : "memory");
}

/* The time stamp, not before what stands above it is done. */
static inline uint64_t cycles(void)
{
    uint32_t low, high;

    __asm__ volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high)
                     : : "memory");
    return (uint64_t)high << 32 | low;
}

/*
 * Since @start; 0 if that is still to come.  KVM takes a time stamp that a new
 * vCPU is given for an attempt to make it equal to the others, if it is within a
 * second of what that vCPU has.  So a guest that is about as old as the QEMU it
 * moves to can be set back.
 */
static inline uint64_t cycles_since(uint64_t start)
{
    uint64_t now = cycles();

    return now > start ? now - start : 0;
}

/* Time stamps per millisecond, by the timer chip; takes 60 ms. */
uint64_t machine_cycles_per_ms(void);

uint64_t machine_ram_bytes(void);
unsigned machine_cpus(void);

/*
 * The content of the file @name that QEMU was given with -fw_cfg, cut off at
 * @size - 1 bytes and ended with a zero.  Returns 0 when there is none.
 */
int machine_file(const char *name, char *buffer, size_t size);

/* Have all other CPUs begin; each calls guest_main() with an id of its own. */
void machine_start_cpus(void);

void guest_main(unsigned id);

#endif
