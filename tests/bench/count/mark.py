# SPDX-License-Identifier: GPL-2.0-or-later
"""Talk to plugin.c, from a program that runs in the test host.

An instruction that does nothing has a number in it which the plugin looks for;
without the plugin all of this does nothing.
"""

import ctypes
import mmap
import threading

MAGIC = 0x74636b75
# "nopl MAGIC(%rax)"; "ret"
CODE = b'\x0f\x1f\x80' + MAGIC.to_bytes(4, 'little') + b'\xc3'

HOOK, CALIBRATE, START, STOP = 1, 2, 3, 4
CALIBRATIONS = 6                # threads, whose ids are looked for


class Marker:
    def __init__(self):
        self.memory = mmap.mmap(-1, mmap.PAGESIZE,
                                prot=mmap.PROT_READ | mmap.PROT_WRITE
                                | mmap.PROT_EXEC)
        self.memory.write(CODE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.call = ctypes.CFUNCTYPE(None, *[ctypes.c_uint64] * 3)(address)

    def hook(self, address, what):
        self.call(HOOK, address, what)

    def calibrate(self):
        """The plugin learns where the kernel keeps the id of a thread."""
        def tell():
            self.call(CALIBRATE, threading.get_native_id(), 0)
        for _ in range(CALIBRATIONS):
            thread = threading.Thread(target=tell)
            thread.start()
            thread.join()

    def start(self):
        self.call(START, 0, 0)

    def stop(self, number):
        """The figures go to the file of that number."""
        self.call(STOP, number, 0)
