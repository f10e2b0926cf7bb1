# SPDX-License-Identifier: GPL-2.0-or-later
"""A life of the soak: one guest that moves from QEMU to QEMU, with faults.

Each QEMU of this project has meddle.c preloaded, which fails calls by order.
Some lives begin at an unmodified QEMU, or come through one.  The guest has a
system (tests/guest), or is short: the bare one of tests/bench, with little memory,
so that more migrations go into the same time.
"""

import contextlib
import os
import re
import select
import signal
import tempfile
import time
from pathlib import Path

import meddle
from faulty import MAIN, PREEMPT
from footprint import Leaks
from harness import HarnessError, Missed
from machine import ORDERS, BenchSpec
from outofband import OutOfBand
from peers import check_running, common_guest, stock_qemu
from plans import ASKING, Plan
from recovery import lose_source
from relay import free_port
from situation import check, preloaded, said, small_guest, small_migration
from sockets import is_connected, tcp_sockets

# By whether it is short:
MIGRATIONS = {False: 6, True: 12}       # of one life, if all goes well
ENOUGH = {False: 20, True: 3}   # seconds for what may come about or not
# Bytes/s of a migration that is not to end before it is cancelled
GARBLED = 4 << 20
END = 60                        # seconds until postcopy is over, with all faults
PAUSE = 0.1                     # seconds between two looks at a short one
NOTICE = 60
MACHINE = ('-smp', '2,maxcpus=3', '-device', 'pcie-root-port,id=port0,chassis=1')
DEVICE, CPU = 'late-device', 'late-cpu'
WHILE_MIGRATING = 'not allowed while migrating'
HUGE = Path('/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages')
KEPT_MIB = 512                  # free memory under pressure
HUGE_MIB = 2


def free_mib():
    for line in Path('/proc/meminfo').read_text().splitlines():
        if line.startswith('MemAvailable:'):
            return int(line.split()[1]) // 1024
    raise HarnessError('no MemAvailable in /proc/meminfo')


def press(seconds):
    """
    For @seconds nobody else can have the machine's memory, but for a little:
    it is reserved as huge pages, which costs next to no time.  Returns how
    many MiB were taken.
    """
    HUGE.write_text(str(max(free_mib() - KEPT_MIB, 0) // HUGE_MIB))
    taken = int(HUGE.read_text()) * HUGE_MIB
    time.sleep(seconds)
    HUGE.write_text('0')
    return taken


def can_send(sock):
    """Whether there is room in its send buffer"""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    return bool(poll.poll(0))


def full_buffers(qemu):
    """Connections of it that have no room for more"""
    full = 0
    for sock in tcp_sockets(qemu):
        full += is_connected(sock) and not can_send(sock)
        sock.close()
    return full


class Stall:
    """A direction of a channel that is not read for a while"""

    def __init__(self, s, relay, act):
        self.relay, self.act = relay, act
        self.sender = s.source if act.outward else s.destination
        self.end = time.monotonic() + act.seconds
        self.full = False
        self.other = (True, PREEMPT if act.channel == MAIN else MAIN)
        self.before = relay.passed[self.other]
        relay.stall(act.outward, act.channel, act.seconds)

    def look(self):
        """Returns whether it is over."""
        self.full = self.full or bool(full_buffers(self.sender))
        return time.monotonic() > self.end

    def overtaken(self):
        """Whether what was sent later came earlier, by the other channel"""
        return self.act.outward and self.relay.passed[self.other] > self.before


class Tools:
    """
    What is preloaded into QEMUs, compiled once, and where their boards are.  A
    context manager.
    """

    def __init__(self):
        # Of a folder of another machine, memory cannot be shared for sure.
        self._folder = tempfile.TemporaryDirectory(dir='/dev/shm')
        self.folder = Path(self._folder.name)
        self.library = meddle.build(self.folder)
        self.env, preload, *self.others = preloaded(self.folder, 'nothing')
        self.preload = preload.partition('=')[2]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._folder.cleanup()

    def prefix(self, board):
        return [self.env, f'LD_PRELOAD={self.library}:{self.preload}',
                *self.others, f'MEDDLE={board.path}']


def short_guest(rng):
    # Eight vCPUs on as few CPUs take three times as long.
    return BenchSpec(cpus=rng.choice((1, 1, 2, 2, 4, 8)), memory_mib=40, hot_mib=12,
                     seed=rng.randrange(1, 1000), slow_us=200,
                     order=rng.choice(ORDERS), write=rng.random() < 0.8)


class Life:
    """
    @tools: for QEMUs of this project
    @only: kinds of faults, or () for all
    @stock: version of an unmodified QEMU that the guest also lives in, or None
    @short: whether the guest is bare
    """

    def __init__(self, s, rng, relay, tools, tally, only=(), stock=None,
                 short=False):
        self.s, self.rng, self.relay, self.tally = s, rng, relay, tally
        self.tools, self.only, self.stock = tools, only, stock
        self.short = short
        self.leaks = None if stock else Leaks()
        self.boards = {}                # name of a QEMU: its board
        self.orders = []                # (board, failure, failed before)
        self.stalls = []
        self.plugged = []
        # For urgent pages, of all QEMUs of this project
        self.channels = rng.choice((1, 1, 2, 4))
        self.machine = () if short else MACHINE
        if short:
            s.spec, s.pause = short_guest(rng), PAUSE
            return
        s.spec = common_guest() if stock else small_guest()
        # Else the guest's kernel has no room for a CPU that comes later.
        s.spec.kernel_options = (*s.spec.kernel_options, 'possible_cpus=3')

    # --- QEMUs ----------------------------------------------------------------

    def prefix(self, name):
        self.boards[name] = meddle.Board(self.tools.folder / f'{name}.board')
        return self.tools.prefix(self.boards[name])

    def is_ours(self, qemu):
        return qemu is not None and qemu.name in self.boards

    def urgent(self):
        return ['-global', f'migration.postcopy-urgent-channels={self.channels}']

    def boot(self):
        s = self.s
        if self.stock:
            s.boot('', self.machine, binary=stock_qemu(self.stock))
            check_running(s.source, self.stock)
        else:
            s.boot(s.accel_option, (*self.machine, *self.urgent()),
                   prefix=self.prefix('source'))
        s.wait_for_beats()

    def prepare(self, recovery):
        """A destination; which QEMU it is, chance says."""
        s = self.s
        extra = (*self.machine, *OutOfBand.option(recovery))
        if self.stock and self.is_ours(s.source) and self.rng.random() < 0.6:
            s.prepare('', extra, binary=stock_qemu(self.stock))
            check_running(s.destination, self.stock)
        else:
            name = f'destination{s._number + 1 if s._number else ""}'
            s.prepare(s.accel_option, (*extra, *self.urgent()),
                      prefix=self.prefix(name))

    def run(self, tell):
        try:
            self.live(tell)
        finally:
            for board in self.boards.values():
                board.close()

    def live(self, tell):
        s = self.s
        self.boot()
        count = MIGRATIONS[self.short]
        for number in range(count):
            self.migrate(number == count - 1, tell)
            if s.source is None:
                break
        if self.leaks and self.leaks.history:
            self.leaks.check()

    @contextlib.contextmanager
    def standing_still(self):
        """A bare guest computes all the time, and would slow others down."""
        if self.short:
            self.s.source.command('stop')
        yield
        if self.short:
            self.s.source.command('cont')

    def migrate(self, last, tell):
        s = self.s
        path = s.folder / 'recovery'
        with self.standing_still():
            self.prepare(path)
        ours = [side for side in ('source', 'destination')
                if self.is_ours(getattr(s, side))]
        plan = Plan(self.rng, last, self.only, ours, self.short, self.channels)
        tell(plan, f'{s.source.name} to {s.destination.name}'
             + (f' (with QEMU {self.stock})' if self.stock else ''))
        with OutOfBand(path) as recovery:
            # Both of the destination's monitors are open by then.
            if self.leaks:
                self.leaks.waiting(s)
            self.migrate_to(plan, recovery)
        path.unlink(missing_ok=True)

    def migrate_to(self, plan, recovery):
        s, relay = self.s, self.relay
        relay.disarm()
        relay.passed.clear()
        relay.delay = {True: 0.0, False: 0.0}
        relay.target = free_port()
        self.orders = []
        if plan.start:
            self.order(plan.start)
        speed = {'bandwidth': GARBLED} if plan.early == 'garble' else {}
        s.begin(small_migration(preempt=plan.preempt,
                                postcopy_bandwidth=plan.bandwidth, **speed),
                f'tcp:127.0.0.1:{relay.target}', f'tcp:127.0.0.1:{relay.port}')
        if plan.early:
            self.forget_leaks()
            if plan.early == 'garble':
                self.lie(plan)
            else:
                self.come_to_nothing(plan)
            return
        # What only reads is not to have arrived by then.
        if self.short and not s.spec.write:
            s.tick()
        else:
            s.passes(1)
        s.switch_over()
        if plan.start:
            self.boards[s.destination.name].withdraw()
        s.migration.tolerate_pause()
        relay.delay = plan.delay
        s.watch(False)
        if plan.loss:
            self.forget_leaks()
            self.lose_source(plan)
            return
        self.see_through(plan, recovery)
        self.settle_down(plan)

    def forget_leaks(self):
        """That destination does not come to be a source."""
        if self.leaks:
            self.leaks.history.pop()

    # --- before the switchover ------------------------------------------------

    def come_to_nothing(self, plan):
        """The source keeps the guest."""
        s = self.s
        migration, destination = s.migration, s.destination
        # migrate_cancel closes the socket first, then says that it is cancelled:
        # if the migration's thread writes in between, the migration has failed.
        expected = (('cancelled', 'failed') if plan.early == 'cancel' else
                    ('failed',))
        if plan.early == 'cut early':
            self.relay.cut_after(True, plan.early_bytes)
        else:
            s.run_for(plan.early_wait)
        # A destination without a source ends by itself.
        s.migration = s.destination = None
        if plan.early == 'cancel':
            migration.cancel()
        elif plan.early == 'quit early':
            destination.command('quit')
        try:
            s.until(lambda: s.source.command('query-migrate')['status']
                    in expected, NOTICE,
                    f'the migration was not {" or ".join(expected)}')
        finally:
            destination.stop()
        self.check_kept(plan.early)

    def check_kept(self, what):
        s = self.s
        check(s.source.command('query-status')['running'], 'the guest stands still')
        s.check_memory()
        self.tally[what] += 1

    def lie(self, plan):
        """
        A byte is wrong.  The destination may refuse what it gets, or, in the
        middle of a page, not notice; but it does not crash, and the source
        keeps the guest.
        """
        s, relay = self.s, self.relay
        migration, destination = s.migration, s.destination
        relay.garble_after(plan.early_bytes, plan.early_bits)
        s.migration = s.destination = None
        try:
            s.until(lambda: relay.garbled, NOTICE, 'so many bytes did not pass')
            s.run_for(1)
            code = destination.process.poll()
            check(code is None or code > 0, f'the destination ended with {code}')
            if s.source.command('query-migrate')['status'] != 'failed':
                migration.cancel()
                s.until(lambda: s.source.command('query-migrate')['status']
                        in ('cancelled', 'failed'), NOTICE, 'not cancelled')
        finally:
            destination.stop()
        self.check_kept('garbled, refused' if code else 'garbled within a page')

    # --- afterwards -----------------------------------------------------------

    def lose_source(self, plan):
        """The guest is lost, and its QEMU goes quietly."""
        s = self.s
        if plan.loss == 'quit':
            source, s.migration = s.source, None
            source.monitor.settimeout(NOTICE)
            source.command('quit')
            check(source.process.wait(NOTICE) == 0, 'the source did not end well')
        try:
            qemu = lose_source(s)
        except Missed:
            # All pages had come, so nothing is lost.
            qemu = s.destination
            s.check_memory()
            self.tally['sources lost too late'] += 1
        for command in ('stop', 'query-status', 'query-migrate', 'cont', 'quit'):
            qemu.command(command)
        check(qemu.process.wait(NOTICE) == 0, 'it did not end well')
        s.destination = None
        self.tally[f'source lost by {plan.loss}'] += 1

    def see_through(self, plan, recovery):
        """
        Until the destination has all pages.  While the way is broken, or may
        break at any byte, its main thread is not asked for anything: it may
        wait for a page itself.
        """
        s = self.s
        migration, s.migration = s.migration, None
        cuts, acts = list(plan.cuts), list(plan.acts)
        self.arm(cuts)
        start = time.monotonic()
        while not self.over(migration):
            now = time.monotonic() - start
            status = s.source.command('query-migrate')['status']
            check(now < END * s.patience, f'not over; the source is {status}')
            if status == 'postcopy-paused':
                check(plan.may_pause, 'it paused, and nothing had broken it')
                self.recover(recovery)
                self.arm(cuts)
            elif not self.act_if_due(acts, now) and (
                    not cuts and not acts or now > ENOUGH[self.short] * s.patience):
                self.hurry()
            self.watch_stalls()
            s.tick()
        migration.check_postcopy()
        s.migration = migration

    def act_if_due(self, acts, now):
        for act in acts:
            if act.at <= now and not (act.kind in ASKING and self.may_break()):
                acts.remove(act)
                self.act(act)
                return True
        return False

    def may_break(self):
        return self.relay.armed or any(
            failure.outcome == meddle.PAUSE for _, failure, _ in self.orders)

    def statuses(self):
        return [qemu.command('query-migrate')['status']
                for qemu in (self.s.source, self.s.destination)]

    def over(self, migration):
        """As the destination has said by itself"""
        self.s.destination.read_events()
        return migration.completed(self.s.destination)

    def arm(self, cuts):
        if cuts:
            cut = cuts.pop(0)
            self.relay.cut_after(cut.outward, cut.count, cut.channel, cut.alone)

    def hurry(self):
        self.s.source.command('migrate-set-parameters', max_postcopy_bandwidth=0)

    def recover(self, recovery):
        s, relay = self.s, self.relay
        relay.disarm()
        relay.cut()
        relay.target = free_port()
        end = time.monotonic() + NOTICE * s.patience
        # It is refused until the destination, too, has seen the way break.
        while True:
            refused = recovery.command(
                'migrate-recover', uri=f'tcp:127.0.0.1:{relay.target}')
            if not refused:
                break
            if self.over_before(end, refused):
                return
            s.tick()
        try:
            s.source.command('migrate', uri=f'tcp:127.0.0.1:{relay.port}',
                             resume=True)
        except HarnessError:            # it has become paused again meanwhile
            if time.monotonic() > end:
                raise
        self.tally['recovered'] += 1

    def over_before(self, end, refused):
        """Has the destination all pages, and the source just not heard?"""
        self.s.destination.read_events()
        check(time.monotonic() < end, f'no recovery: {refused}')
        return self.s.destination.find_event('MIGRATION', status='completed')

    # --- acts -----------------------------------------------------------------

    def act(self, act):
        done = {'hold': self.hold, 'stop': self.stop_and_go,
                'pause': self.pause, 'look': self.look, 'stall': self.stall,
                'call': self.order, 'bit set': self.knob,
                'bit cleared': self.knob, 'slow vCPU': self.knob,
                'plug device': self.plug, 'plug CPU': self.plug,
                'pressure': self.pressure}[act.kind](act)
        if done is not False:
            self.tally[f'act: {act.kind}'] += 1

    def hold(self, act):
        qemu = getattr(self.s, act.side)
        os.kill(qemu.process.pid, signal.SIGSTOP)
        time.sleep(act.seconds)
        os.kill(qemu.process.pid, signal.SIGCONT)

    def stop_and_go(self, act):
        self.s.destination.command('stop')
        time.sleep(act.seconds)
        self.s.destination.command('cont')

    def pause(self, _):
        s = self.s
        try:
            s.source.command('migrate-pause')
        except HarnessError as error:
            # Not in postcopy any more, or the link has just been cut.
            if not re.search('postcopy|Failed to pause source', str(error)):
                raise
            return False
        s.until(lambda: s.source.command('query-migrate')['status']
                in ('postcopy-paused', 'completed'), NOTICE, 'it was not paused')
        return True

    def look(self, _):
        for qemu in (self.s.source, self.s.destination):
            qemu.command('query-cpus-fast')
            qemu.command('human-monitor-command', command_line='info migrate')

    def stall(self, act):
        self.stalls.append(Stall(self.s, self.relay, act))

    def watch_stalls(self, end=False):
        for stall in list(self.stalls):
            if stall.look() or end:
                self.stalls.remove(stall)
                self.tally['full send buffer'] += stall.full
                self.tally['channels out of order'] += stall.overtaken()

    def order(self, act):
        board = self.boards[getattr(self.s, act.side).name]
        self.orders.append((board, act.failure, board.failed(act.failure.call)))
        board.order(act.failure, act.countdown, act.times)

    def knob(self, act):
        board = self.boards[self.s.destination.name]
        if act.kind == 'bit set':
            board.set('set_again', act.count)
        elif act.kind == 'bit cleared':
            board.set('clear_early', act.count)
        else:
            board.set('slow_us', int(act.seconds * 1e6))
            board.set('slow_one_in', act.count)

    def plug(self, act):
        """The source refuses, the destination does it."""
        s = self.s
        if act.kind == 'plug CPU':
            name, words = CPU, {'driver': f'{s.spec.cpu}-x86_64-cpu',
                                'socket_id': 0, 'core_id': 2, 'thread_id': 0}
        else:
            name, words = DEVICE, {'driver': 'virtio-rng-pci', 'bus': 'port0'}
        if name in self.plugged:
            return False
        try:
            s.source.command('device_add', id=name, **words)
        except HarnessError as error:
            check(WHILE_MIGRATING in str(error), f'otherwise refused: {error}')
        else:
            status = s.source.command('query-migrate')['status']
            check(status == 'completed', f'not refused by a source that is {status}')
        s.destination.command('device_add', id=name, **words)
        self.plugged.append(name)
        return True

    def is_gone(self, name):
        self.s.destination.read_events()
        return self.s.destination.find_event('DEVICE_DELETED', device=name)

    def unplug(self):
        """The next QEMU does not have it."""
        s = self.s
        for name in self.plugged:
            s.destination.command('device_del', id=name)
            s.until(lambda name=name: self.is_gone(name), NOTICE,
                    f'the guest did not give {name} back')
        self.plugged.clear()

    def pressure(self, act):
        if not HUGE.exists():
            return False
        self.tally['MiB taken away'] += press(act.seconds)
        return True

    # --- the end --------------------------------------------------------------

    def settle_down(self, plan):
        """The guest runs here, and nowhere else."""
        s = self.s
        self.watch_stalls(end=True)
        # The way may break after the last page: the source then never hears.
        s.until(lambda: self.statuses()[0] in ('completed', 'postcopy-paused'),
                NOTICE, 'the source did not end')
        left = self.statuses()[0] != 'completed'
        check(plan.may_pause or not left, 'it paused, and nothing had broken it')
        s.check_moved()
        keeps_bitmaps = self.judge_orders()
        s.check_memory()
        self.tally['source left behind'] += left
        had_cpu = CPU in self.plugged
        self.unplug()
        if self.leaks:
            self.leaks.moved(s, source_ended=not left)
            if had_cpu:
                # QEMU keeps what KVM has of a vCPU for the next one.
                self.leaks.excuse('kvm-vcpu')
            if plan.start or keeps_bitmaps:
                self.leaks.excuse('bitmaps')
        self.tally['migrations'] += 1
        s.move_in()

    def judge_orders(self):
        """
        The counters are what the faults let expect.  Returns whether bitmaps
        stay behind.
        """
        s = self.s
        fired = [failure for board, failure, before in self.orders
                 if board.failed(failure.call) > before]
        for failure in fired:
            self.tally[f'call: {failure}'] += 1
        for board in self.boards.values():
            board.withdraw()
        if not self.is_ours(s.destination):
            self.tally['to an unmodified QEMU'] += 1
            return False
        if not self.is_ours(s.source):
            self.tally['from an unmodified QEMU'] += 1
        self.check_counters({failure.outcome for failure in fired})
        self.check_bits()
        return said(s.destination, 'keeps its bitmap') > 0

    def check_counters(self, outcomes):
        c = self.s.counters()
        wanted = ('fallback' if meddle.FALLBACK in outcomes else 'finished')
        # A bare guest may need no page before it comes by itself, as when its
        # working set moves slowly.
        taken = (not c['exits'] if wanted == 'fallback' else
                 c['exits'] or self.short)
        check(c['status'] == wanted and (taken or meddle.IN_PART in outcomes),
              f'status {c["status"]}, {c["exits"]} exits; expected: {wanted}')
        self.tally['without an exit'] += wanted == 'finished' and not c['exits']
        self.tally['pages by exits'] += c['pages-vcpu']
        self.tally['pages by userfaultfd'] += c['pages-userfaultfd']
        self.tally['asked for anew'] += c['resent']
        self.tally['migrations with several urgent channels'] += (
            c['urgent-channels'] > 1)
        self.tally['left to others to send'] += c['handoffs']

    def check_bits(self):
        """Exits for present pages are counted as such."""
        c = self.s.counters()
        board = self.boards[self.s.destination.name]
        figures = {name: board.figure(name) for name in meddle.FIGURES}
        for name, value in figures.items():
            self.tally[name.replace('_', ' ')] += value
        noticed, vcpus = figures['bits_set_noticed'], self.s.spec.cpus
        check(c['already-present'] >= noticed - vcpus,
              f'{noticed} vCPUs left for pages that were there, and '
              f'{c["already-present"]} were counted')
        noticed = figures['bits_cleared_noticed']
        check(c['userfaultfd-latency']['count'] > 0 or not noticed,
              f'{noticed} vCPUs came through userfaultfd, and nobody was counted')
