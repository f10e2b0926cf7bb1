#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Do the guest's checker and the harness that listens to it tell the truth?

Needs a compiler, no KVM and no QEMU: the guest's program runs natively.
"""

import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))

from harness import histogram                               # noqa: E402
from harness.console import GuestConsole, GuestLog, parse_line  # noqa: E402
from harness.kvm import probe_userfault                     # noqa: E402

FOLDER = tempfile.TemporaryDirectory(prefix='guest.')


def setUpModule():
    subprocess.run([HERE / 'build', FOLDER.name], check=True)


def tearDownModule():
    FOLDER.cleanup()


def payload():
    return Path(FOLDER.name) / 'payload'


def message(text):
    check = 0
    for byte in text.encode():
        check ^= byte
    return f'{text} *{check:02x}\n'.encode()


class Checker(unittest.TestCase):
    def test_self_test_passes(self):
        done = subprocess.run([payload(), '--self-test'], text=True,
                              stdout=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        planned = int(done.stdout.split('\n')[0].partition('..')[2])
        self.assertEqual(done.stdout.count('\nok '), planned)

    def converse(self, *steps):
        """
        Run the guest natively.  Steps are (command, condition on its log to
        wait for), then it is told to quit.  Returns the log.
        """
        log = GuestLog()
        with subprocess.Popen([payload(), 'hot=4', 'threads=2', 'beat_ms=20'],
                              stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as guest:
            for command, condition in (*steps, (b'q', None)):
                while not log.last_beat or log.last_beat['passes'] < 2:
                    log.feed(guest.stdout.readline(), 0.0)
                guest.stdin.write(command)
                guest.stdin.flush()
                end = time.monotonic() + 60
                while condition and not condition(log):
                    self.assertLess(time.monotonic(), end, command)
                    log.feed(guest.stdout.readline(), 0.0)
            log.feed(guest.stdout.read(), 0.0)
        return log

    def test_intact_memory_gives_no_error(self):
        log = self.converse((b'r', GuestLog.complete_reports))
        self.assertEqual(log.ready['pages'], 1024)
        self.assertEqual(log.error_count(), 0)
        self.assertEqual(log.damaged_lines, 0)
        last = log.complete_reports()[-1]
        self.assertGreaterEqual(last.figures['verified'], 2048)
        # Every touch of a page is in the histogram.
        self.assertGreaterEqual(sum(last.counts.values())
                                + last.figures['backwards'],
                                last.figures['verified'])

    def test_damaged_byte_is_reported(self):
        log = self.converse((b'c', GuestLog.error_count))
        self.assertEqual(log.error_count(), 1)
        self.assertEqual(log.errors[0]['thread'], 0)
        damage = log.errors[0]['got'] ^ log.errors[0]['expected']
        self.assertEqual(bin(damage).count('1'), 1)

    def test_mark_counts_only_whole_passes(self):
        log = self.converse((b'm', lambda log: log.marks
                             and log.last_beat['n'] > log.marks[0]['n']
                             and log.last_beat['since'] >= 1))
        at, last = log.marks[0], log.last_beat
        self.assertLess(last['since'], last['passes'])
        # A whole pass after the mark is at least that many pages after it.
        self.assertGreaterEqual(last['verified'] - at['verified'],
                                1024 * last['since'])


class Console(unittest.TestCase):
    def test_good_line_is_parsed(self):
        self.assertEqual(
            parse_line(message('beat n=1 ms=250').rstrip(b'\n')),
            ('beat', {'n': 1, 'ms': 250}))
        self.assertEqual(
            parse_line(message('hist 3:4 17:1').rstrip(b'\n')),
            ('hist', {3: 4, 17: 1}))
        self.assertEqual(
            parse_line(message('error got=0x10').rstrip(b'\n')),
            ('error', {'got': 16}))

    def test_any_damaged_byte_is_refused(self):
        good = message('beat n=1 ms=250').rstrip(b'\n')
        for i in range(len(good)):
            bad = good[:i] + bytes([good[i] ^ 1]) + good[i + 1:]
            # A changed case of a hex digit is no damage; nothing here is one.
            self.assertIsNone(parse_line(bad), bad)

    def test_line_cut_in_two_is_joined(self):
        log = GuestLog()
        line = message('beat n=7 ms=1 errors=0')
        for cut in range(len(line)):
            log.feed(line[:cut], 1.0)
            log.feed(line[cut:], 2.0)
        self.assertEqual(len(log.beats), len(line))
        self.assertEqual(log.damaged_lines, 0)

    def test_lost_half_does_not_become_a_value(self):
        log = GuestLog()
        line = message('beat n=7 ms=1 errors=0')
        log.feed(line[:9] + message('beat n=8 ms=2 errors=0'), 1.0)
        self.assertEqual(log.beats, [])
        self.assertEqual(log.damaged_lines, 1)

    def test_damage_that_the_sum_does_not_show_is_refused(self):
        self.assertIsNone(parse_line(message('beat n=64beat ms=2').rstrip(b'\n')))
        self.assertIsNone(parse_line(message('hist 1:2hist').rstrip(b'\n')))

    def test_report_is_complete_only_at_its_end(self):
        log = GuestLog()
        log.feed(message('report n=1 verified=5') + message('hist 1:2'), 0.0)
        self.assertEqual(log.complete_reports(), [])
        log.feed(message('hist 4:3') + message('end n=1'), 0.0)
        self.assertEqual(log.complete_reports()[0].counts, {1: 2, 4: 3})

    def switch_over(self, folder, line, cut):
        """Say @line on two sockets, one after the other; the log of it."""
        sides = []
        console = GuestConsole()
        for name in ('source', 'destination'):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f'{folder}/{name}')
            listener.listen()
            console.attach(f'{folder}/{name}')
            sides.append(listener.accept()[0])
            listener.close()
        sides[0].send(line[:cut])
        sides[1].send(line[cut:])
        end = time.monotonic() + 30
        while not console.log.beats and time.monotonic() < end:
            time.sleep(0.001)
        console.send(b'r')
        self.assertEqual(sides[1].recv(1), b'r')
        console.close()
        for side in sides:
            side.close()
        return console.log

    def test_bytes_of_the_source_come_before_those_of_the_destination(self):
        line = message('beat n=7 ms=1 errors=0')
        for cut in range(1, len(line)):
            with tempfile.TemporaryDirectory() as folder:
                log = self.switch_over(folder, line, cut)
            self.assertEqual(len(log.beats), 1, cut)
            self.assertEqual(log.damaged_lines, 0)

    def test_source_is_read_again_before_the_destination_counts(self):
        line = message('beat n=7 ms=1 errors=0')
        console = GuestConsole()
        self.addCleanup(console.close)
        source, far_source = socket.socketpair()
        destination, far_destination = socket.socketpair()

        class Late:
            """The source speaks after it was looked at."""
            def recv(self, size):
                data = destination.recv(size)
                far_source.send(line[:9])
                return data

        for sock in (source, destination):
            sock.setblocking(False)
        far_destination.send(line[9:])
        console._drain([source, Late()], 1)
        self.assertEqual(len(console.log.beats), 1)
        for sock in (source, far_source, destination, far_destination):
            sock.close()


class Histograms(unittest.TestCase):
    def test_buckets_hold_their_values(self):
        for index in range(400):
            low = histogram.bucket_lower(index)
            high = histogram.bucket_lower(index + 1)
            self.assertEqual(histogram.bucket_index(low), index)
            self.assertEqual(histogram.bucket_index(high - 1), index)

    def test_buckets_are_those_of_the_guest(self):
        program = '''
        #include <stdio.h>
        #include "histogram.h"
        int main(void)
        {
            unsigned long long v;
            while (scanf("%llu", &v) == 1) {
                printf("%u\\n", hist_index(v));
            }
        }'''
        rng = random.Random(1)
        values = [rng.getrandbits(rng.randrange(1, 64)) for _ in range(2000)]
        binary = Path(FOLDER.name) / 'index'
        subprocess.run([*os.environ.get('CC', 'gcc').split(), '-xc', '-',
                        '-I', HERE, '-o', binary],
                       input=program, text=True, check=True)
        done = subprocess.run([binary], input='\n'.join(map(str, values)),
                              text=True, stdout=subprocess.PIPE, check=True)
        self.assertEqual([int(x) for x in done.stdout.split()],
                         [histogram.bucket_index(v) for v in values])

    def test_percentiles_are_within_a_bucket_of_the_truth(self):
        rng = random.Random(2)
        values = sorted(int(rng.lognormvariate(12, 1.5)) for _ in range(5000))
        counts = {}
        for value in values:
            index = histogram.bucket_index(value)
            counts[index] = counts.get(index, 0) + 1
        h = histogram.Histogram.from_guest(counts)
        for percent in (1, 50, 90, 99, 99.9):
            true = values[int(len(values) * percent / 100)]
            self.assertAlmostEqual(h.percentile(percent) / true, 1, delta=0.13)
        self.assertGreaterEqual(h.max(), values[-1])
        self.assertEqual(h.count, 5000)

    def test_threshold_leaves_the_upper_part(self):
        h = histogram.Histogram.from_log2([0, 0, 4, 2, 1])
        self.assertEqual(h.at_least(8).count, 3)
        self.assertEqual(h.at_least(9).count, 1)

    def test_nothing_counted_has_no_percentile(self):
        self.assertIsNone(histogram.Histogram().percentile(50))
        self.assertIsNone(histogram.Histogram().max())

    def test_difference_of_two_reports(self):
        self.assertEqual(histogram.counts_between({1: 2, 3: 4},
                                                  {1: 2, 3: 5, 9: 1}),
                         {3: 1, 9: 1})


class Probe(unittest.TestCase):
    def test_missing_device_is_no(self):
        works, why = probe_userfault(Path(FOLDER.name) / 'no-device')
        self.assertFalse(works)
        self.assertIn('No such file', why)

    def test_something_that_is_not_kvm_is_no(self):
        self.assertFalse(probe_userfault('/dev/null')[0])


class Initramfs(unittest.TestCase):
    def test_archive_unpacks(self):
        data = (Path(FOLDER.name) / 'guest.cpio').read_bytes()
        names, at = {}, 0
        while True:
            self.assertEqual(data[at:at + 6], b'070701')
            fields = [int(data[at + 6 + 8 * i:at + 14 + 8 * i], 16)
                      for i in range(13)]
            size, name_size = fields[6], fields[11]
            name = data[at + 110:at + 110 + name_size - 1].decode()
            start = (at + 110 + name_size + 3) & ~3
            names[name] = (fields[1], data[start:start + size])
            at = (start + size + 3) & ~3
            if name == 'TRAILER!!!':
                break
        self.assertEqual(names['init'][1], payload().read_bytes())
        self.assertEqual(names['init'][0], 0o100755)
        self.assertEqual(names['dev/console'][0], 0o020600)


if __name__ == '__main__':
    unittest.main()
