/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See machine.h. */
#include <stdbool.h>

#include "machine.h"

/* fw_cfg, by its ports */
#define FW_SELECT       0x510
#define FW_DATA         0x511
#define FW_RAM_SIZE     0x03
#define FW_CPUS         0x05
#define FW_DIRECTORY    0x19
#define FW_NAME_BYTES   56

/* 8254, channel 2, whose gate and output are in port 0x61 */
#define PIT_HZ          1193182
#define PIT_CHANNEL_2   0x42
#define PIT_COMMAND     0x43
#define PIT_ONCE        0xb0            /* channel 2, two bytes, mode 0 */
#define SPEAKER         0x61
#define SPEAKER_GATE    0x01
#define SPEAKER_OUTPUT  0x20
#define CALIBRATE_MS    20
#define CALIBRATIONS    3

/* The local APIC's registers */
#define APIC            0xfee00000ul
#define APIC_SPURIOUS   0x0f0
#define APIC_COMMAND    0x300
#define APIC_ENABLE     0x1ff
#define APIC_INIT       0x000c4500u     /* all others */
#define APIC_START      0x000c46f0u     /* all others, at 0xf0000 */

void *memcpy(void *to, const void *from, size_t n)
{
    void *start = to;

    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return start;
}

void *memset(void *to, int byte, size_t n)
{
    void *start = to;

    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
    return start;
}

static uint64_t calibrate(void)
{
    uint16_t count = PIT_HZ / 1000 * CALIBRATE_MS;
    uint64_t start;

    outb(SPEAKER, SPEAKER_GATE);
    outb(PIT_COMMAND, PIT_ONCE);
    outb(PIT_CHANNEL_2, count & 0xff);
    outb(PIT_CHANNEL_2, count >> 8);
    start = cycles();
    while (!(inb(SPEAKER) & SPEAKER_OUTPUT)) {
        cpu_relax();
    }
    return (cycles() - start) / CALIBRATE_MS;
}

uint64_t machine_cycles_per_ms(void)
{
    uint64_t best = UINT64_MAX;

    /* A look at the chip can come late, never early. */
    for (int i = 0; i < CALIBRATIONS; i++) {
        uint64_t found = calibrate();

        best = found < best ? found : best;
    }
    return best;
}

static void fw_read(void *buffer, size_t n)
{
    uint8_t *bytes = buffer;

    while (n--) {
        *bytes++ = inb(FW_DATA);
    }
}

uint64_t machine_ram_bytes(void)
{
    uint64_t bytes;

    outw(FW_SELECT, FW_RAM_SIZE);
    fw_read(&bytes, sizeof(bytes));
    return bytes;
}

unsigned machine_cpus(void)
{
    uint16_t cpus;

    outw(FW_SELECT, FW_CPUS);
    fw_read(&cpus, sizeof(cpus));
    return cpus;
}

static bool is_same(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

int machine_file(const char *name, char *buffer, size_t size)
{
    struct {
        uint32_t size;
        uint16_t select;
        uint16_t reserved;
        char name[FW_NAME_BYTES];
    } file;
    uint32_t files, length;

    outw(FW_SELECT, FW_DIRECTORY);
    fw_read(&files, sizeof(files));
    for (files = __builtin_bswap32(files); files; files--) {
        fw_read(&file, sizeof(file));
        if (!is_same(file.name, name)) {
            continue;
        }
        length = __builtin_bswap32(file.size);
        if (length > size - 1) {
            length = size - 1;
        }
        outw(FW_SELECT, __builtin_bswap16(file.select));
        fw_read(buffer, length);
        buffer[length] = 0;
        return 1;
    }
    return 0;
}

static void apic_write(unsigned offset, uint32_t value)
{
    *(volatile uint32_t *)(APIC + offset) = value;
}

void machine_start_cpus(void)
{
    apic_write(APIC_SPURIOUS, APIC_ENABLE);
    apic_write(APIC_COMMAND, APIC_INIT);
    apic_write(APIC_COMMAND, APIC_START);
}
