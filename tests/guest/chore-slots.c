/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chores that make QEMU rearrange memory slots, and that look at the memory
 * behind them.  All but SMI go through PCI devices in sysfs.
 *
 *   pam      the BIOS range of q35 becomes writable and read-only again, and
 *            the video BIOS disappears and comes back
 *   rom      expansion ROMs are mapped, read and unmapped
 *   bar      two devices with memory of their own change places
 *   late     a device with memory of its own is plugged in
 *   svga     a display is switched on and off, which QEMU takes as a reason
 *            to track, or not, which of its pages are written
 *   smram    the memory of system management mode is opened and closed
 *   smi      processor 0 enters system management mode
 *
 * Threads   one per chore; no two of them use the same register.
 * Failure   what the machine lacks is an error of the chore.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "chore.h"
#include "chore-util.h"
#include "page.h"

#define DEVICES "/sys/bus/pci/devices"
#define PAUSE_US 20000

/* 'vendor << 16 | device' of what the chores use */
#define Q35_BRIDGE 0x808629c0u
#define VMWARE_SVGA 0x15ad0405u
#define BOCHS_DISPLAY 0x12341111u
#define VIRTIO_RNG 0x1af41005u

/* ------------------------------------------------------------------------- */
/* PCI devices in sysfs */

static unsigned int read_id(const char *device, const char *what)
{
    char path[320];
    unsigned int value = 0;
    FILE *f;

    snprintf(path, sizeof(path), DEVICES "/%s/%s", device, what);
    f = fopen(path, "r");
    if (f) {
        if (fscanf(f, "%x", &value) != 1) {
            value = 0;
        }
        fclose(f);
    }
    return value;
}

/* Open @file of the @nth device that is an @id; -1 if there is none. */
static int pci_open(uint32_t id, unsigned int nth, const char *file)
{
    struct dirent **entries;
    char path[320];
    int fd = -1;
    int count;

    chore_mount_sysfs();
    count = scandir(DEVICES, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;

        if ((read_id(name, "vendor") << 16 | read_id(name, "device")) == id &&
            !nth--) {
            snprintf(path, sizeof(path), DEVICES "/%s/%s", name, file);
            fd = open(path, O_RDWR | O_CLOEXEC);
        }
        free(entries[i]);
    }
    if (count >= 0) {
        free(entries);
    }
    return fd;
}

static uint8_t config_byte(int config, unsigned int at)
{
    uint8_t value = 0xff;

    return pread(config, &value, 1, at) == 1 ? value : 0xff;
}

static void set_config_byte(int config, unsigned int at, uint8_t value)
{
    if (pwrite(config, &value, 1, at) != 1) {
        /* Whoever reads it back notices. */
        return;
    }
}

/*
 * Length and sum of an expansion ROM.  Reading has the kernel map it, and
 * unmap it afterwards.  @length: 0 when there is no ROM to be seen.
 */
static uint64_t rom_sum(int rom, uint64_t *length)
{
    uint8_t buf[PAGE_BYTES];
    uint64_t sum = 0;
    ssize_t n = 0;

    *length = 0;
    if (pwrite(rom, "1\n", 2, 0) != 2) {
        return 0;
    }
    while ((n = pread(rom, buf, sizeof(buf), *length)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            sum = mix64(sum + buf[i]);
        }
        *length += n;
    }
    return sum;
}

/* ------------------------------------------------------------------------- */
/* pam */

enum {
    PAM_BIOS = 0x90,            /* high nibble: 0xf0000 to 0xfffff */
    PAM_VIDEO = 0x91,           /* low nibble: 0xc0000 to 0xc3fff */
    PAM_RAM_RO = 1,             /* in a nibble; 0: what the device has there */
    PAM_RAM_RW = 3,
};

static void set_pam(struct chore *c, int bridge, unsigned int reg,
                    uint8_t value)
{
    set_config_byte(bridge, reg, value);
    if (config_byte(bridge, reg) != value) {
        chore_fail(c, "pam-register", reg);
    }
}

static void check_video_bios(struct chore *c, int rom, uint64_t wanted,
                             bool there)
{
    uint64_t length;
    uint64_t sum = rom_sum(rom, &length);

    if (there ? sum != wanted || !length : length) {
        chore_fail(c, there ? "video-bios" : "video-bios-stayed", length);
    }
}

static void pam(struct chore *c)
{
    int bridge = pci_open(Q35_BRIDGE, 0, "config");
    int rom = pci_open(VMWARE_SVGA, 0, "rom");
    uint8_t video = config_byte(bridge, PAM_VIDEO);
    uint64_t length;
    uint64_t sum = rom_sum(rom, &length);

    if (bridge < 0 || rom < 0 || !length) {
        chore_fail(c, "no-video-bios", length);
        return;
    }
    for (unsigned int n = 0;; n++) {
        /* Writable, it is one slot with all the memory above 1 MiB. */
        set_pam(c, bridge, PAM_BIOS, (n % 2 ? PAM_RAM_RO : PAM_RAM_RW) << 4);
        set_pam(c, bridge, PAM_VIDEO, video & 0xf0);
        check_video_bios(c, rom, sum, false);
        set_pam(c, bridge, PAM_VIDEO, video);
        check_video_bios(c, rom, sum, true);
        chore_done(c);
        usleep(PAUSE_US);
    }
}
CHORE(pam, pam);

/* ------------------------------------------------------------------------- */
/* rom */

static void rom(struct chore *c)
{
    int fd[2] = { pci_open(VMWARE_SVGA, 0, "rom"),
                  pci_open(VIRTIO_RNG, 0, "rom") };
    uint64_t sum[2], length[2];

    for (unsigned int i = 0; i < 2; i++) {
        sum[i] = rom_sum(fd[i], &length[i]);
        if (fd[i] < 0 || !length[i]) {
            chore_fail(c, "no-rom", i);
            return;
        }
    }
    for (unsigned int i = 0;; i = !i) {
        uint64_t now;

        if (rom_sum(fd[i], &now) != sum[i] || now != length[i]) {
            chore_fail(c, "rom", now);
        }
        chore_done(c);
        usleep(PAUSE_US);
    }
}
CHORE(rom, rom);

/* ------------------------------------------------------------------------- */
/* Memory of a device that somebody else moves or tracks */

#define WINDOW_PAGES 256u
#define WINDOW_SLICE 8u         /* pages visited in one go */

static uint64_t *map_window(uint32_t id, unsigned int nth, const char *file)
{
    int fd = pci_open(id, nth, file);
    void *mem = mmap(NULL, WINDOW_PAGES * PAGE_BYTES, PROT_READ | PROT_WRITE,
                     MAP_SHARED, fd, 0);

    if (fd >= 0) {
        close(fd);
    }
    return mem == MAP_FAILED ? NULL : mem;
}

/* Fill all of the memory of device @seed, or verify a slice and renew it. */
static void fill_window(uint64_t *mem, uint64_t seed)
{
    for (uint64_t i = 0; i < WINDOW_PAGES; i++) {
        page_fill(mem + i * PAGE_WORDS, seed, i, 0);
    }
}

static void visit_window(struct chore *c, uint64_t *mem, uint64_t seed,
                         uint64_t turn)
{
    uint64_t first = turn * WINDOW_SLICE % WINDOW_PAGES;
    uint64_t generation = turn * WINDOW_SLICE / WINDOW_PAGES;
    struct page_error err;

    for (uint64_t i = first; i < first + WINDOW_SLICE; i++) {
        if (!page_check(mem + i * PAGE_WORDS, seed, i, generation, &err)) {
            chore_fail(c, "device-memory", i);
        }
        page_fill(mem + i * PAGE_WORDS, seed, i, generation + 1);
    }
}

/* ------------------------------------------------------------------------- */
/* bar */

enum { COMMAND = 0x04, COMMAND_MEMORY = 0x02, BAR0 = 0x10 };

struct bar {
    int config;
    uint32_t address;
};

static void decode(struct bar *b, bool on)
{
    uint8_t command = config_byte(b->config, COMMAND) & ~COMMAND_MEMORY;

    set_config_byte(b->config, COMMAND, command | (on ? COMMAND_MEMORY : 0));
}

static bool set_address(const struct bar *b, uint32_t address)
{
    return pwrite(b->config, &address, 4, BAR0) == 4;
}

/* Each of the two devices takes the other's place in memory. */
static void exchange(struct chore *c, struct bar *b)
{
    uint32_t address = b[0].address;

    decode(&b[0], false);
    decode(&b[1], false);
    b[0].address = b[1].address;
    b[1].address = address;
    if (!set_address(&b[0], b[0].address) ||
        !set_address(&b[1], b[1].address)) {
        chore_fail(c, "bar", address);
    }
    decode(&b[0], true);
    decode(&b[1], true);
}

static void bar(struct chore *c)
{
    uint64_t *window[2];
    struct bar b[2];

    for (unsigned int i = 0; i < 2; i++) {
        b[i].config = pci_open(BOCHS_DISPLAY, i, "config");
        window[i] = map_window(BOCHS_DISPLAY, i, "resource0");
        if (!window[i] || pread(b[i].config, &b[i].address, 4, BAR0) != 4) {
            chore_fail(c, "no-display", i);
            return;
        }
        fill_window(window[i], i);
    }
    for (uint64_t turn = 0;; turn++) {
        exchange(c, b);
        /* After the first exchange device 0 is in window 1. */
        visit_window(c, window[turn % 2 == 0], 0, turn);
        visit_window(c, window[turn % 2], 1, turn);
        chore_done(c);
        usleep(PAUSE_US);
    }
}
CHORE(bar, bar);

/* ------------------------------------------------------------------------- */
/* late */

/* Switch the device on, which nobody has a driver for. */
static bool enable(uint32_t id)
{
    int fd = pci_open(id, 0, "enable");
    bool ok = pwrite(fd, "1", 1, 0) == 1;

    if (fd >= 0) {
        close(fd);
    }
    return ok;
}

static void late(struct chore *c)
{
    uint64_t *mem = NULL;

    /* Its files come one by one; without the last this does not end. */
    while (!enable(BOCHS_DISPLAY) ||
           !(mem = map_window(BOCHS_DISPLAY, 0, "resource0"))) {
        usleep(PAUSE_US);
    }
    fill_window(mem, 0);
    for (uint64_t turn = 0;; turn++) {
        visit_window(c, mem, 0, turn);
        chore_done(c);
        usleep(PAUSE_US);
    }
}
CHORE(late, late);

/* ------------------------------------------------------------------------- */
/* svga */

/*
 * QEMU counts who wants tracking.  These are its counts after a reset; since
 * they do not migrate, the chore begins when the guest has moved.
 */
#define TRACKERS 2

enum { SVGA_ENABLE = 1, SVGA_CONFIG_DONE = 20 };

/* Registers are written as number and value, at ports 0 and 1 of BAR 0. */
static void set_svga(struct chore *c, int ports, uint32_t number,
                     uint32_t value)
{
    if (pwrite(ports, &number, 4, 0) != 4 ||
        pwrite(ports, &value, 4, 1) != 4) {
        chore_fail(c, "svga-register", number);
    }
}

static void svga(struct chore *c)
{
    int ports = pci_open(VMWARE_SVGA, 0, "resource0");
    uint64_t *mem = map_window(VMWARE_SVGA, 0, "resource1");

    if (ports < 0 || !mem) {
        chore_fail(c, "no-display", 0);
        return;
    }
    fill_window(mem, 0);
    chore_wait_for_go();
    for (uint64_t turn = 0;; turn++) {
        for (unsigned int i = 0; i < TRACKERS; i++) {
            set_svga(c, ports, SVGA_CONFIG_DONE, 1);    /* one less */
        }
        visit_window(c, mem, 0, 2 * turn);
        for (unsigned int i = 0; i < TRACKERS; i++) {
            set_svga(c, ports, SVGA_ENABLE, 0);         /* one more */
        }
        visit_window(c, mem, 0, 2 * turn + 1);
        chore_done(c);
        usleep(PAUSE_US);
    }
}
CHORE(svga, svga);

/* ------------------------------------------------------------------------- */
/* smram, smi */

enum { SMRAM = 0x9d, SMRAM_OPEN = 0x40 };

static void smram(struct chore *c)
{
    int bridge = pci_open(Q35_BRIDGE, 0, "config");
    uint8_t closed = config_byte(bridge, SMRAM) & ~SMRAM_OPEN;

    for (unsigned int n = 0;; n++) {
        uint8_t value = closed | (n % 2 ? SMRAM_OPEN : 0);

        set_config_byte(bridge, SMRAM, value);
        if (config_byte(bridge, SMRAM) != value) {
            chore_fail(c, "smram-register", value);
        }
        chore_done(c);
        usleep(PAUSE_US);
    }
}
CHORE(smram, smram);

#define MSR_SMI_COUNT 0x34u
#define MSR_X2APIC_ICR 0x830u
#define ICR_SMI 0x4200u         /* assert, delivery mode 2, to APIC ID 0 */
#define SMI_LIMIT 20000u        /* looks at the count, a millisecond each */

static uint64_t read_msr(struct chore *c, int fd, uint32_t msr)
{
    uint64_t value = 0;

    if (pread(fd, &value, sizeof(value), msr) != sizeof(value)) {
        chore_fail(c, "no-msr", msr);
    }
    return value;
}

static void smi(struct chore *c)
{
    int fd = open("/dev/cpu/0/msr", O_RDWR | O_CLOEXEC);
    uint64_t icr = ICR_SMI;

    for (;;) {
        uint64_t count = read_msr(c, fd, MSR_SMI_COUNT);
        unsigned int n = 0;

        if (pwrite(fd, &icr, sizeof(icr), MSR_X2APIC_ICR) != sizeof(icr)) {
            chore_fail(c, "no-x2apic", 0);
            return;
        }
        while (read_msr(c, fd, MSR_SMI_COUNT) == count && n++ < SMI_LIMIT) {
            usleep(1000);
        }
        if (n >= SMI_LIMIT) {
            chore_fail(c, "smi-lost", count);
            return;
        }
        chore_done(c);
        usleep(PAUSE_US);
    }
}
CHORE(smi, smi);
