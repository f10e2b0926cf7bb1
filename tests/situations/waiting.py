# SPDX-License-Identifier: GPL-2.0-or-later
"""vCPUs that wait: the source is held still, all vCPUs of the destination wait
for pages that do not come, and yet everything that a user may ask of the
destination is answered at once.

The times go to waiting.json in $RESULTS, with those of a destination that has
only userfaultfd, where a full run measures it in the same boot.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from harness import HarnessError, Missed
from harness.migration import MIB
from situation import (check, is_parked, place_of, reached, row, small_guest,
                       small_migration)

LIMIT = 5.0             # seconds that is "at once", on an idle machine
GIVE_UP = 4.0           # seconds after which userfaultfd's answer is missing
SETTLE = 0.5            # seconds between two looks at threads that wait
RELEASE = 60.0          # seconds for an answer once the source runs again
EXTRA = 'extra'         # id of the vCPU that is unplugged


# --- the destination's other monitor, with limits on each answer -------------

class Monitor:
    """A QMP connection of its own, so that a missing answer blocks nobody."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self._rest = b''
        self._number = 0                        # of the last command
        self._line(RELEASE)                     # the greeting
        self.ask('qmp_capabilities', RELEASE)

    def close(self):
        self.socket.close()

    def _line(self, limit):
        end = time.monotonic() + limit
        while b'\n' not in self._rest:
            left = end - time.monotonic()
            if left <= 0:
                return None
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(65536)
            except TimeoutError:
                return None
            if not data:
                raise HarnessError('the destination closed its monitor')
            self._rest += data
        line, self._rest = self._rest.split(b'\n', 1)
        return json.loads(line)

    def say(self, name, **arguments):
        self._number += 1
        message = {'execute': name, 'id': self._number}
        if arguments:
            message['arguments'] = {k.replace('_', '-'): v
                                    for k, v in arguments.items()}
        self.socket.sendall(json.dumps(message).encode())

    def answer(self, limit):
        """What the last command gave, or None after @limit seconds."""
        end = time.monotonic() + limit
        while True:
            line = self._line(end - time.monotonic())
            if line is None:
                return None
            if line.get('id') != self._number:
                continue                        # an event, or a late answer
            if 'error' in line:
                raise HarnessError(f'the destination: {line["error"]["desc"]}')
            return line['return']

    def ask(self, name, limit, **arguments):
        self.say(name, **arguments)
        return self.answer(limit)

    def event(self, name, limit):
        """Whether the event @name comes within @limit seconds."""
        end = time.monotonic() + limit
        while True:
            line = self._line(end - time.monotonic())
            if line is None or line.get('event') == name:
                return line is not None


# --- the debugger's few words ------------------------------------------------

class Debugger:
    """The remote protocol of GDB: packets of text with a sum of the bytes."""

    def __init__(self, path, limit):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.limit = limit

    def say(self, text):
        data = text.encode()
        self.socket.sendall(b'$%s#%02x' % (data, sum(data) % 256))

    def interrupt(self):
        self.socket.sendall(b'\x03')

    def answer(self, limit=None):
        """The next packet, or None after @limit seconds."""
        end = time.monotonic() + (limit or self.limit)
        data = b''
        while not (len(data) > 3 and data[-3:-2] == b'#'):
            left = end - time.monotonic()
            if left <= 0:
                return None
            self.socket.settimeout(left)
            try:
                byte = self.socket.recv(1)
            except TimeoutError:
                return None
            if not byte:
                raise HarnessError('the destination closed the debugger')
            # Acknowledgements come between the packets.
            if data or byte == b'$':
                data += byte
        self.socket.sendall(b'+')
        return data[1:-3].decode()

    def ask(self, text, limit=None):
        self.say(text)
        return self.answer(limit)

    def close(self):
        self.socket.close()


# --- holding still -----------------------------------------------------------

class Held:
    """A destination whose source can be stopped and let go."""

    def __init__(self, s):
        self.s = s
        self.limit = LIMIT * s.patience
        self.threads = s.destination.threads()
        self.monitor = Monitor(s.folder / 'other')
        self.held = False

    def close(self):
        self.release()
        self.monitor.close()

    def places(self):
        """Of all vCPUs but those that the guest has given back meanwhile."""
        pid = self.s.destination.process.pid
        found = []
        for thread in self.threads:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found.append(place_of(pid, thread))
        check(found, 'there is no vCPU left')
        return found

    def parked(self):
        # With userfaultfd alone KVM lets a vCPU go on with another task of
        # the guest, or idle (asynchronous page faults); only counters tell.
        return (self.s.policy == 'off'
                or all(is_parked(*place) for place in self.places()))

    def ask(self, name):
        """An answer that userfaultfd alone may give with the pages only."""
        answer = self.monitor.ask(name, self.limit)
        if answer is None:
            check(self.s.policy == 'off', f'{name} was not answered')
            self.release()
            answer = self.monitor.answer(RELEASE)
            check(answer, f'{name} was not answered even with the pages')
        return answer

    def counters(self):
        return self.ask('query-migrate')['postcopy-userfault']

    def running(self):
        return self.ask('query-status')['running']

    def still(self):
        """Every vCPU sleeps, and has not moved between two looks."""
        if not self.parked():
            return False
        before = self.counters()
        time.sleep(SETTLE)
        return self.parked() and self.counters() == before and self.held

    def hold(self):
        """Stop the source, and wait until every vCPU waits for a page."""
        process = self.s.source.process
        for _ in range(5):
            process.send_signal(signal.SIGSTOP)
            self.held = True
            end = time.monotonic() + 5 * self.s.patience
            while self.held and time.monotonic() < end:
                if self.still():
                    return
                time.sleep(0.1)
            if self.held and self.s.policy == 'off':
                return          # the guest goes on with what it has
            # One sits in the kernel, say, that wrote the time for the guest.
            last = self.places() if self.held else []
            self.release()
            time.sleep(SETTLE)
        raise Missed(f'the vCPUs did not all come to wait: {last}')

    def release(self):
        if self.held:
            self.s.source.process.send_signal(signal.SIGCONT)
            self.held = False


def start(s, both=()):
    """
    The guest has just moved, and all that it uses is not there.  What QEMU
    itself writes at a reset is, after one pass: for that the main thread
    would wait, with or without KVM userfault.
    """
    s.spec = small_guest(hot_mib=32)
    listen = 'server=on,wait=off'
    s.start(both=both, destination=[
        '-chardev', f'socket,id=other,path={s.folder}/other,{listen}',
        '-mon', 'chardev=other,mode=control',
        '-gdb', f'unix:{s.folder}/gdb,{listen}', '-action', 'reboot=reset'])
    s.into_postcopy(small_migration(postcopy_bandwidth=MIB // 4))
    # What KVM writes itself into the guest comes first.
    s.go_on(2)
    s.watch(False)
    return Held(s)


# --- what is asked -----------------------------------------------------------

def command(name, **arguments):
    def ask(held, limit):
        answer = held.monitor.ask(name, limit, **arguments)
        return answer is not None, lambda: held.monitor.answer(RELEASE)
    return ask


def reset(held, limit):
    """Answered is not enough: the machine has to be reset."""
    held.monitor.say('system_reset')
    return (held.monitor.event('RESET', limit),
            lambda: held.monitor.event('RESET', RELEASE) or None)


def leave(held, limit):
    held.monitor.say('quit')

    def ended(seconds):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return held.s.destination.process.wait(seconds)
    return ended(limit) is not None, lambda: ended(RELEASE)


def human(line):
    return command('human-monitor-command', command_line=line)


@contextlib.contextmanager
def debugger(held, limit):
    gdb = Debugger(held.s.folder / 'gdb', limit)
    try:
        yield gdb
    finally:
        gdb.close()


def debug(held, limit):
    """Attach, read the registers, step, interrupt the step, detach."""
    with debugger(held, limit) as gdb:
        return session(held, gdb)


def session(held, gdb):
    times = {}

    def timed(name, what):
        before = time.monotonic()
        answer = what()
        times[name] = time.monotonic() - before
        return answer

    if timed('gdb: attach', lambda: gdb.ask('?')) is None:
        held.release()
        gdb.answer(RELEASE)
        times['gdb: attach'] = None
    else:
        registers = timed('gdb: read registers', lambda: gdb.ask('g'))
        check(registers and len(registers) > 16 * 16,
              f'the registers are {registers}')
        gdb.say('s')
        stop = gdb.answer(SETTLE)
        if stop is None:
            gdb.interrupt()
            stop = timed('gdb: interrupt a step', gdb.answer)
        else:
            check(held.s.policy == 'off',
                  'an instruction whose page is absent was stepped over')
        check(stop and stop[0] in 'ST', f'the step ended with {stop}')
    gdb.say('D')
    check(gdb.answer(RELEASE) is not None, 'the debugger was not let go')
    return times


QUESTIONS = (
    ('query-status', command('query-status')),
    ('query-cpus-fast', command('query-cpus-fast')),
    ('query-migrate', command('query-migrate')),
    ('info registers', human('info registers -a')),
    ('stop', command('stop')),
    ('cont', command('cont')),
    ('device_del of a vCPU', command('device_del', id=EXTRA)),
)


def put(held, ask, limit):
    """
    Seconds until the answer, all vCPUs waiting, or None: it came only with
    the pages.
    """
    # A guest that "stop" has stopped waits for nothing.
    if held.running():
        held.hold()
    before = time.monotonic()
    answered, later = ask(held, limit)
    took = time.monotonic() - before
    if answered:
        return took
    held.release()
    check(later() is not None, 'there was no answer even with the pages')
    return None


def question_all(held, limit):
    """
    {question: seconds or None}, all vCPUs waiting before each.  The NMI comes
    last: while one vCPU that handles it waits, the others spin for its lock.
    """
    times = {}
    for name, ask in QUESTIONS:
        times[name] = put(held, ask, limit)
    held.hold()
    times.update(debug(held, limit))
    times['inject-nmi'] = put(held, command('inject-nmi'), limit)
    held.release()
    return times


# --- figures -----------------------------------------------------------------

FIGURES = {}            # {question: {policy: seconds or None}}


def note(policy, times, given_up):
    for name, seconds in times.items():
        FIGURES.setdefault(name, {})[policy] = seconds
    folder = os.environ.get('RESULTS')
    if folder:
        (Path(folder) / 'waiting.json').write_text(
            json.dumps({'no answer within': given_up, 'seconds': FIGURES},
                       indent=1) + '\n')
    show(given_up)


def show(given_up):
    def cell(figures, policy):
        if policy not in figures:
            return '-'
        seconds = figures[policy]
        if seconds is None:
            return f'none in {given_up:.0f} s'
        return f'{seconds * 1000:.1f} ms'
    print(f'{"while all vCPUs wait":24}{"userfault=on":>16}'
          f'{"userfault=off":>16}')
    for name, figures in FIGURES.items():
        print(f'{name:24}{cell(figures, "on"):>16}{cell(figures, "off"):>16}')


def check_times(times, limit):
    late = [f'{name} {"not" if t is None else f"after {t:.1f} s"}'
            for name, t in times.items() if t is None or t > limit]
    check(not late, 'while all vCPUs wait, was answered: ' + ', '.join(late))


# --- rows --------------------------------------------------------------------

EXTRA_VCPU = ('-smp', '2,maxcpus=3', '-device',
              f'max-x86_64-cpu,id={EXTRA},socket-id=0,core-id=2,thread-id=0')


@contextlib.contextmanager
def waiting(s, both=()):
    """A destination whose vCPUs wait when it is told so; let go at the end."""
    held = start(s, both)
    try:
        yield held
    finally:
        held.close()
        s.watch(True)


def check_aftermath(s):
    """What was asked for has happened."""
    log = s.destination.folder / 'kernel.log'
    s.until(lambda: 'NMI' in log.read_text(errors='replace'), 60,
            'the guest did not get the NMI')
    s.until(lambda: s.destination.find_event('DEVICE_DELETED', device=EXTRA),
            60, 'the guest did not give the vCPU back')
    check(len(s.destination.threads()) == 2, 'the vCPU is still there')


@row('waiting', 'every command is answered', limit=240)
def answered(s):
    limit = LIMIT * s.patience
    with waiting(s, EXTRA_VCPU) as held:
        times = question_all(held, limit)
    note(s.policy, times, limit)
    check_times(times, limit)
    s.hurry()
    counters = s.conclude()
    reached(counters['waits-broken'] >= 2, 'no wait was broken')
    check_aftermath(s)


@row('waiting', 'system_reset')
def system_reset(s):
    limit = LIMIT * s.patience
    with waiting(s) as held:
        times = {'system_reset': put(held, reset, limit)}
        note(s.policy, times, limit)
        check_times(times, limit)
        s.guest.log.ready = None
    s.hurry()
    s.until(lambda: s.guest.log.ready, 120, 'the guest did not boot again')
    s.conclude()


@row('waiting', 'quit')
def quit_while_waiting(s):
    limit = LIMIT * s.patience
    with waiting(s) as held:
        times = {'quit': put(held, leave, limit)}
        note(s.policy, times, limit)
        check_times(times, limit)
    status = s.destination.process.returncode
    check(status == 0, f'the destination ended with {status}')
    status = s.source.command('query-status')['status']
    check(status in ('postmigrate', 'paused', 'finish-migrate'),
          f'the source is in {status}')


@row('waiting', 'the same with userfaultfd alone', full=True, limit=300)
def without(s):
    s.policy = 'off'
    with waiting(s, EXTRA_VCPU) as held:
        times = question_all(held, GIVE_UP)
        times['system_reset'] = put(held, reset, GIVE_UP)
        held.hold()
        counters = held.counters()
        times['quit'] = put(held, leave, GIVE_UP)
    note('off', times, GIVE_UP)
    check(counters['pages-userfaultfd'] and not counters['exits'],
          'userfaultfd was to serve all')
