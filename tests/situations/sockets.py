# SPDX-License-Identifier: GPL-2.0-or-later
"""The sockets of another process, to ask the kernel about them."""

import ctypes
import errno
import os
import socket
from pathlib import Path

PIDFD_GETFD = 438               # number of the system call


def copies(pid, handle):
    """Of all its sockets; those that it closes meanwhile are not among them."""
    libc = ctypes.CDLL(None, use_errno=True)
    for entry in Path(f'/proc/{pid}/fd').iterdir():
        try:
            if not os.readlink(entry).startswith('socket:'):
                continue
        except FileNotFoundError:
            continue
        fd = libc.syscall(PIDFD_GETFD, handle, int(entry.name), 0)
        if fd >= 0:
            yield socket.socket(fileno=fd)
        elif ctypes.get_errno() != errno.EBADF:
            raise OSError(ctypes.get_errno(), 'pidfd_getfd')


def tcp_sockets(qemu):
    """Copies of all TCP sockets that @qemu has, connected or not.  Needs root."""
    pid = qemu.process.pid
    found = []
    handle = os.pidfd_open(pid)
    try:
        for sock in copies(pid, handle):
            if (sock.family in (socket.AF_INET, socket.AF_INET6)
                    and sock.type == socket.SOCK_STREAM):
                found.append(sock)
            else:
                sock.close()
    finally:
        os.close(handle)
    return found


def is_connected(sock):
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def sends_at_once(sock):
    """Whether TCP does not wait for acknowledgements before small segments"""
    return bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
