/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See console.h. */
#include "console.h"
#include "machine.h"

/* 16550 */
#define COM             0x3f8
#define COM_DATA        (COM + 0)
#define COM_FIFO        (COM + 2)
#define COM_CONTROL     (COM + 3)
#define COM_STATUS      (COM + 5)
#define FIFO_ENABLE     0x07            /* and empty */
#define FIFO_BYTES      16
#define EIGHT_BITS      0x03
#define STATUS_RECEIVED 0x01
#define STATUS_SENT     0x20

#define LINE_BYTES      4096
#define NUMBER_BYTES    24              /* a number and what stands around */

static char line[LINE_BYTES];
static unsigned length;

void console_open(void)
{
    outb(COM_CONTROL, EIGHT_BITS);
    outb(COM_FIFO, FIFO_ENABLE);
}

static void add(char c)
{
    /* Leave room for the end; a line that is too long fails its check. */
    if (length < LINE_BYTES - NUMBER_BYTES) {
        line[length++] = c;
    }
}

static void add_text(const char *text)
{
    while (*text) {
        add(*text++);
    }
}

static void add_number(uint64_t value)
{
    char digits[NUMBER_BYTES];
    int n = 0;

    do {
        digits[n++] = '0' + value % 10;
        value /= 10;
    } while (value);
    while (n) {
        add(digits[--n]);
    }
}

static void add_key(const char *key)
{
    add(' ');
    add_text(key);
    add('=');
}

void line_begin(const char *name)
{
    length = 0;
    add_text(name);
}

void line_number(const char *key, uint64_t value)
{
    add_key(key);
    add_number(value);
}

void line_text(const char *key, const char *value)
{
    add_key(key);
    add_text(value);
}

void line_list(const char *key)
{
    add_key(key);
}

void line_item(uint64_t value)
{
    add(':');
    add_number(value);
}

void line_bucket(unsigned index, uint64_t count)
{
    add(' ');
    add_number(index);
    line_item(count);
}

/*
 * With an instruction for as many bytes as a look at the status is good for: a
 * byte by itself is an exit of its own, and with many vCPUs a beat has hundreds.
 */
static void send(void)
{
    const char *next = line;
    unsigned n;

    for (; length; length -= n) {
        n = length < FIFO_BYTES ? length : FIFO_BYTES;
        while (!(inb(COM_STATUS) & STATUS_SENT)) {
            cpu_relax();
        }
        next = outsb(COM_DATA, next, n);
    }
}

void line_end(void)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t check = 0;

    for (unsigned i = 0; i < length; i++) {
        check ^= line[i];
    }
    line[length++] = ' ';
    line[length++] = '*';
    line[length++] = hex[check >> 4];
    line[length++] = hex[check & 15];
    line[length++] = '\n';
    send();
}

char console_read(void)
{
    return inb(COM_STATUS) & STATUS_RECEIVED ? inb(COM_DATA) : 0;
}
