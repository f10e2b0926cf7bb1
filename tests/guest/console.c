/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The line protocol of the migration guest; see console.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "console.h"

#define LINE_MAX_BYTES 1024

static int in_fd = STDIN_FILENO;
static int out_fd = STDOUT_FILENO;
static bool in_closed;

int console_open(const char *path)
{
    struct termios tio;
    int fd;

    if (!path) {
        return 0;
    }
    fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    if (tcgetattr(fd, &tio) == 0) {
        cfmakeraw(&tio);
        cfsetspeed(&tio, B115200);
        tio.c_cflag |= CLOCAL | CREAD;
        tcsetattr(fd, TCSANOW, &tio);
    }
    in_fd = out_fd = fd;
    return 0;
}

static void write_all(const char *buf, size_t len)
{
    while (len) {
        ssize_t n = write(out_fd, buf, len);

        if (n < 0 && errno != EINTR) {
            return;
        }
        if (n > 0) {
            buf += n;
            len -= n;
        }
    }
}

void console_print(const char *format, ...)
{
    char line[LINE_MAX_BYTES + 8];
    unsigned char sum = 0;
    va_list ap;
    int len;

    va_start(ap, format);
    len = vsnprintf(line, LINE_MAX_BYTES, format, ap);
    va_end(ap);
    if (len < 0) {
        return;
    }
    if (len >= LINE_MAX_BYTES) {
        len = LINE_MAX_BYTES - 1;
    }
    for (int i = 0; i < len; i++) {
        sum ^= (unsigned char)line[i];
    }
    len += sprintf(line + len, " *%02x\n", sum);
    write_all(line, len);
}

enum console_command console_wait(unsigned int ms)
{
    struct pollfd p = { .fd = in_fd, .events = POLLIN };
    struct timespec pause = { .tv_sec = ms / 1000,
                              .tv_nsec = ms % 1000 * 1000000l };
    unsigned char byte;

    if (in_closed) {
        nanosleep(&pause, NULL);
        return COMMAND_NONE;
    }
    if (poll(&p, 1, ms) <= 0 || !p.revents) {
        return COMMAND_NONE;
    }
    if (read(in_fd, &byte, 1) != 1) {
        in_closed = true;
        return COMMAND_NONE;
    }
    return byte;
}
