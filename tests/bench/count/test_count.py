#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Are the plugin's counts read, attributed and judged as they are meant to be?"""

import re
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parents[1] / 'guest'), str(HERE.parent), str(HERE)]

import counts                                               # noqa: E402
import goals                                                # noqa: E402
import mark                                                 # noqa: E402
import model                                                # noqa: E402
import predict                                              # noqa: E402
import symbols                                              # noqa: E402
import tables                                               # noqa: E402

PLUGIN = (HERE / 'task.h').read_text() + (HERE / 'plugin.c').read_text()
KERNEL = 0xffffffff81000000
KALLSYMS = '''\
ffffffff81000000 T handle_userfault
ffffffff81000100 t fault_in
ffffffff81000200 T raw_spin_rq_lock_nested
ffffffff81000300 T userfaultfd_read_iter
ffffffff81000400 T native_queued_spin_lock_slowpath
ffffffff81000500 T after
'''
MAPS = '''\
400000-500000 r-xp 00000000 00:00 1     /nowhere/qemu-system-x86_64
7ffff000-80000000 rw-p 00000000 00:00 0 [stack]
'''
KNOWN = {'mode': 'off', 'vcpus': 2, 'number': 0, 'requests': 10, 'seconds': 1.0,
         'source': {'1': 'qemu', '2': 'mig/src/main'},
         'destination': {'11': 'CPU 0/KVM', '12': 'CPU 1/KVM',
                         '13': 'mig/dst/fault', '14': 'qemu'},
         'maps': MAPS}
# Two vCPUs wait ten times each, under a lock that the fault thread takes, too.
COUNTS = '''\
task ffff000000000001 11 100 200 5000 7 8 9 30 10 5
pc ffffffff81000000 200 10
lock 0 -1 a000 ffffffff81000150 0 60 10
lock 1 0 b000 ffffffff81000210 0 40 10
lock 2 -1 b000 ffffffff81000210 0 20 10
lock 3 -1 c000 ffffffff81000160 4 30 10
atomic a000 ffffffff81000100 10
atomic d000 ffffffff81000100 3
task ffff000000000002 12 300 400 0 0 0 0 10 0 5
pc ffffffff81000000 400 10
lock 0 -1 c000 ffffffff81000160 4 50 10
lock 1 -1 b000 ffffffff81000210 0 20 10
atomic a000 ffffffff81000100 10
task ffff000000000003 13 1000 2500 0 0 0 0 0 0 5
pc ffffffff81000300 900 20
pc ffffffff81000410 400 7
pc ffffffff810004f0 100 7
pc ffffffff81000500 100 7
lock 0 -1 a000 ffffffff81000310 0 500 20
atomic a000 ffffffff81000300 20
atomic e000 ffffffff81000300 20
task ffff000000000004 2 600 0 0 0 0 0 0 0 5
task ffff000000000005 77 9 9 9 9 9 9 0 0 0
end
'''


def window(text=COUNTS, **known):
    return counts.Window({**KNOWN, **known},
                         counts.read_tasks(text.splitlines()), KALLSYMS)


class Mirrored(unittest.TestCase):
    """The plugin and the Python parts talk in numbers."""

    def enum(self, name):
        body = re.search(r'\nenum %s \{(.*?)\n\};' % name, PLUGIN, re.S).group(1)
        body = re.sub(r'/\*.*?\*/', '', body, flags=re.S)
        found, value = {}, 0
        for item in body.replace('\n', '').split(','):
            word, _, given = item.partition('=')
            if word.strip():
                value = int(given) if given else value
                found[word.strip()] = value
                value += 1
        return found

    def test_hooks(self):
        hooks = self.enum('hook')
        for name in ('SWITCH', 'IRQ_ENTER', 'IRQ_EXIT', 'TIMER', 'RELEASE',
                     'ACQUIRE'):
            self.assertEqual(getattr(symbols, name), hooks['HOOK_' + name], name)

    def test_locks(self):
        types = self.enum('lock_type')
        self.assertEqual(len(types), len(symbols.LOCK_TYPES))
        for name, value in types.items():
            self.assertEqual(getattr(symbols, name[len('LOCK_'):]), value)

    def test_conditions(self):
        conditions = self.enum('condition')
        for name, value in conditions.items():
            self.assertEqual(getattr(symbols, name[len('TAKEN_'):]), value)

    def test_places(self):
        names = [name[len('PLACE_'):].lower() for name in self.enum('place')
                 if name != 'PLACES']
        self.assertEqual(names, list(counts.PLACES))

    def test_commands_and_magic(self):
        commands = self.enum('command')
        for name in ('HOOK', 'CALIBRATE', 'START', 'STOP'):
            self.assertEqual(getattr(mark, name), commands['COMMAND_' + name])
        found = re.search(r'#define MAGIC +(0x[0-9a-f]+)u',
                          (HERE / 'decode.h').read_text()).group(1)
        self.assertEqual(mark.MAGIC, int(found, 16))

    def test_mark_does_nothing_here(self):
        marker = mark.Marker()
        marker.start()
        marker.stop(1)


class Symbols(unittest.TestCase):
    def test_last_name_before_an_address(self):
        known = symbols.Symbols(symbols.read_symbols(KALLSYMS))
        self.assertEqual(known.name(KERNEL + 0x150), 'fault_in')
        self.assertEqual(known.name(KERNEL), 'handle_userfault')
        self.assertEqual(known.name(5), '')

    def test_hidden_addresses_are_an_error(self):
        with self.assertRaises(symbols.SymbolError):
            symbols.read_symbols('0000000000000000 T one\n')

    def test_two_of_a_name_are_an_error(self):
        known = symbols.Symbols([(1, 'f'), (2, 'f')])
        with self.assertRaises(symbols.SymbolError):
            known.find('f')

    def test_base_of_a_file_is_its_first_byte(self):
        maps = symbols.read_maps('1000-2000 r--p 00000000 0:0 1 /a b\n'
                                 '2000-3000 r-xp 00001000 0:0 1 /a b\n')
        self.assertEqual(maps, [symbols.Mapping(0x2000, 0x3000, 0x1000, '/a b')])

    def test_needed_function_is_missed(self):
        names = symbols.Names(KALLSYMS, MAPS)
        with self.assertRaises(symbols.SymbolError):
            symbols.hooks(names)

    def test_needed_ones_are_hooked(self):
        self.assertLessEqual(symbols.NEEDED, set(symbols.KERNEL_HOOKS))


class Counts(unittest.TestCase):
    def test_file_that_is_cut_off(self):
        with self.assertRaises(counts.CountError):
            counts.read_tasks(COUNTS.splitlines()[:-1])

    def test_threads_without_ids(self):
        with self.assertRaisesRegex(counts.CountError, 'ids of threads'):
            counts.read_tasks(re.sub(r'(task \w+) \d+', r'\1 0',
                                     COUNTS).splitlines())

    def test_faults_are_waits(self):
        self.assertEqual(window().faults, 20)

    def test_no_fault_is_an_error(self):
        text = COUNTS.replace('pc ffffffff81000300', 'pc ffffffff81000104')
        with self.assertRaises(counts.CountError):
            window(text).faults

    def test_roles(self):
        w = window()
        self.assertEqual([t.pid for t in w.threads('destination', 'vcpu')],
                         [11, 12])
        self.assertEqual([t.pid for t in w.threads('destination', 'serial')], [13])
        self.assertEqual([t.pid for t in w.threads('source', 'serial')], [2])

    def test_lock_of_one_thread_and_of_a_cpu_are_not_shared(self):
        # a000 and c000 have two takers, b000 is a run queue's
        self.assertEqual(window().shared_sites(),
                         {('fault_in', symbols.SPIN), ('fault_in', symbols.SEM_READ),
                          ('userfaultfd_read_iter', symbols.SPIN)})

    def test_what_runs_under_locks(self):
        found = counts.evaluate([window()])['off', 2]
        # b000 inside of a000 counts, by itself it does not.
        self.assertEqual(found['vcpu exclusive'], (60 + 40) / 20)
        self.assertEqual(found['vcpu locked'], (60 + 40 + 30 + 50) / 20)

    def test_totals_leave_guest_and_interrupts_out(self):
        found = counts.evaluate([window()])['off', 2]
        self.assertEqual(found['destination vcpu'], 1000 / 20)
        self.assertEqual(found['destination serial'], 3000 / 20)
        self.assertEqual(found['destination total'], 4000 / 20)
        self.assertEqual(found['serial part'], 3100 / 20)
        self.assertEqual(found['source serial'], 600 / 20)
        self.assertEqual(found['vm exits'], 30 / 20)

    def test_spinning_is_no_part_of_a_fault(self):
        w = window()
        self.assertEqual(w.spinning(w.threads('destination', 'serial')), 500)
        self.assertEqual(counts.evaluate([w])['off', 2]['destination spinning'],
                         500 / 20)
        with self.assertRaisesRegex(symbols.SymbolError, 'no function nothing'):
            w.names.kernel.extent('nothing')

    def test_atomics_on_shared_lines(self):
        w = window()
        # d000 and e000 have one taker each.
        self.assertEqual(w.shared_lines('destination'), {0xa000})
        found = counts.evaluate([w])['off', 2]
        self.assertEqual(found['destination vcpu atomics'], 20 / 20)
        self.assertEqual(found['destination serial atomics'], 20 / 20)

    def test_line_that_few_faults_come_to(self):
        text = COUNTS.replace('atomic a000 ffffffff81000100 10\ntask',
                              'atomic a000 ffffffff81000100 10\n'
                              'atomic d000 ffffffff81000100 1\ntask')
        self.assertEqual(window(text).shared_lines('destination'),
                         {0xa000, 0xd000})
        text = text.replace('81000300 900 20', '81000300 900 500')
        self.assertEqual(window(text).shared_lines('destination'), {0xa000})

    def test_tables_have_all_figures(self):
        w = window()
        found = counts.evaluate([w])
        text = '\n'.join(tables.all_tables([w], found) + tables.profiles([w]))
        self.assertIn('2 vCPUs, of one fault', text)
        self.assertIn('handle_userfault', text)
        data = counts.as_json([w], found)
        self.assertEqual(data[0]['serial_threads']['destination'],
                         {'mig/dst/fault': {'user': 50, 'kernel': 100}})
        # Taken apart, they are still what vCPUs do under all of them.
        self.assertEqual(data[0]['locks'], {'fault_in': [5.0]})
        self.assertEqual(data[0]['figures']['vcpu exclusive'], 5.0)


def figures(exclusive, serial=100, total=1000, atomics=2):
    return {'vcpu exclusive': exclusive, 'vcpu locked': exclusive,
            'destination vcpu atomics': atomics, 'serial part': serial,
            'source serial': 0, 'destination total': total}


class Goals(unittest.TestCase):
    def verdicts(self, found):
        return [line.split(':')[0] for line in goals.lines(found)]

    def test_met(self):
        found = {('off', 8): figures(1000, 300, 2000, 40),
                 ('on', 8): figures(50, 100, 1000, 2),
                 ('on', 64): figures(51, 100, 1000, 2)}
        self.assertEqual(self.verdicts(found), ['met'] * 8)

    def test_missed(self):
        found = {('off', 8): figures(1000, 299, 1999, 39),
                 ('on', 8): figures(51, 100, 1000, 2),
                 ('on', 64): figures(70, 100, 1000, 3)}
        self.assertEqual(self.verdicts(found), ['NOT MET'] * 8)

    def test_one_side_alone_is_not_judged(self):
        self.assertEqual(self.verdicts({('on', 8): figures(1)}), [])


class Model(unittest.TestCase):
    def test_one_vcpu_never_queues(self):
        self.assertAlmostEqual(model.queueing(3, 2, 1), 5)

    def test_many_are_bound_by_the_slowest_part(self):
        rate, queue = model.throughput(10, {'a': 1, 'b': 2}, 500)
        self.assertAlmostEqual(rate, 0.5, 3)
        self.assertGreater(queue['b'], 400)

    def test_fit_finds_what_made_the_points(self):
        for name, function in model.MODELS.items():
            points = {n: 1e6 / function(4, 0.5, n) for n in (2, 8, 64)}
            first, second = model.fit(function, points)
            self.assertAlmostEqual(first, 4, 0, name)
            self.assertAlmostEqual(second, 0.5, 1, name)

    def test_published_userfaultfd_is_a_queue(self):
        found = [f for f in model.fits(model.PUBLISHED[model.USERFAULTFD])
                 if f.model == 'queue'][0]
        self.assertLess(max(map(abs, found.errors.values())), 0.06)


def entry(mode, loader, fault, vcpu=2000, exclusive=0):
    """As in the JSON; instructions of one fault"""
    def thread(kernel):
        return {'user': 0, 'kernel': kernel}
    return {'mode': mode, 'vcpus': 8,
            'figures': {'destination vcpu': vcpu, 'vcpu exclusive': exclusive},
            'locks': {'send': [exclusive * 0.6, exclusive * 0.4]},
            'serial_threads': {
                'destination': {'mig/dst/preempt': thread(loader),
                                'mig/dst/fault': thread(fault)},
                'source': {'mig/src/main': thread(1000)}}}


class Predict(unittest.TestCase):
    def setUp(self):
        self.off = entry('off', 6000, 4000)
        self.on = entry('on', 3000, 0, exclusive=500)

    def test_time_of_an_instruction(self):
        self.assertAlmostEqual(predict.us_per_instruction(self.off, 5.0), 5e-4)

    def test_threads_are_stations(self):
        think, stations = predict.network(self.on, 1e-3)
        self.assertAlmostEqual(think, 1.5)
        self.assertAlmostEqual(stations['vCPUs: lock 1 of send'], 0.3)
        self.assertAlmostEqual(stations['vCPUs: lock 2 of send'], 0.2)
        self.assertAlmostEqual(stations['destination: mig/dst/preempt'], 3.0)
        self.assertNotIn('destination: mig/dst/fault', stations)

    def test_many_cpus_are_bound_by_the_longest_station(self):
        found = predict.predict(self.off, 1e-3, 0.1, 512)
        self.assertAlmostEqual(found['rate'], 1 / 6, 3)
        self.assertEqual(found['bound'], 'destination: mig/dst/preempt')

    def test_report_names_both_modes(self):
        text = '\n'.join(predict.report([self.off, self.on], {}))
        for word in ('512', 'off', 'on', 'mig/dst/preempt'):
            self.assertIn(word, text)

    def test_counts_of_the_next_smaller_number(self):
        self.assertEqual([predict.nearest([1, 8, 32], n) for n in (1, 8, 31, 512)],
                         [1, 8, 8, 32])
        self.assertEqual(predict.nearest([8], 1), 8)

    def test_without_counts_there_is_no_prediction(self):
        self.assertEqual(predict.report([self.on], {}), [])


if __name__ == '__main__':
    unittest.main()
